// What the avatar is made to say: a recording, or the microphone.

import { ask } from "./api.js";
import { decode, microphone, wav } from "./sound.js";

/** Say a recording. `way` is http (needs a session of ours) or room. Returns a sentence about what became of it. */
export async function recording(file, { way, session, call, tell }) {
  const sound = await decode(file);
  const name = `${file.name || "the recording"} (${sound.seconds.toFixed(1)} s)`;
  if (way === "http" && session) {
    tell(`Sent ${name} to the server.`);
    const path = `/v1/sessions/${encodeURIComponent(session.id)}/speak?wait=true`;
    const said = await ask(path, { method: "POST", body: wav(sound), type: "audio/wav" });
    return ended(said.position_s ?? 0, said.status === "interrupted");
  }
  const stream = await call.speak(sound.rate);
  tell(`Sending ${name} through the room.`);
  await stream.write(sound.samples);
  await stream.close();
  return null; // the avatar itself tells when it was heard
}

/** How an utterance ended, in words. */
export function ended(seconds, interrupted) {
  return interrupted ? `Interrupted after ${seconds.toFixed(1)} s.` : `Said, ${seconds.toFixed(1)} s.`;
}

/** The microphone, streamed to the avatar while it is on: one utterance from on to off. */
export class Microphone {
  #call;
  #input = null;
  #stream = null;
  #writing = Promise.resolve();
  #waiting = 0;

  constructor(call) {
    this.#call = call;
  }

  /** Rejects with a sentence if there is no microphone; `failed` is called if the room takes no more. */
  async on(failed) {
    const early = [];
    this.#input = await microphone((piece) => (this.#stream ? this.#write(piece, failed) : early.push(piece)));
    try {
      this.#stream = await this.#call.speak(this.#input.rate);
    } catch (error) {
      this.#input.stop();
      throw error;
    }
    for (const piece of early) this.#write(piece, failed);
  }

  /** Stop listening and end the utterance. */
  async off() {
    const [input, stream] = [this.#input, this.#stream];
    this.#input = this.#stream = null;
    input?.stop();
    await this.#writing;
    await stream?.close().catch(() => {});
  }

  #write(piece, failed) {
    if (this.#waiting > 100) return; // four seconds behind: the room is not there, and late sound helps nobody
    const stream = this.#stream;
    this.#waiting++;
    this.#writing = this.#writing
      .then(() => stream.write(piece))
      .catch((error) => this.#stream === stream && failed(error))
      .finally(() => this.#waiting--);
  }
}
