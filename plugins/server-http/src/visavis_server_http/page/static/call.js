// One stay in a LiveKit room: joins, shows the avatar's picture, plays every voice, sends speech as byte streams.

const SPEECH = "lk.audio_stream";
const PIECE = 15000; // bytes a write: what fits into one packet of a data channel

/** LiveKit's own client, from our server: a script of the old kind, which leaves its name in the global scope. */
export async function livekit() {
  await import("/page/vendor/livekit-client.umd.js");
  const client = globalThis.LivekitClient;
  client.setLogLevel("warn"); // at "info" it writes down what it sends
  return client;
}

/**
 * Events: `face` (the avatar is there, or gone if detail is null), `facts` (its attributes), `sound` (a voice's track),
 * `blocked` (the browser wants a gesture before it plays sound), `words` (a line of transcript), `heard` (playback
 * messages of the avatar), `link` (connected, reconnecting), `left` (the reason; the stay is over).
 */
export class Call extends EventTarget {
  #room = null;
  #wanted;
  #face = null;
  #joined = false;
  #video;
  #sounds;

  /** `wanted` is the avatar's identity where it is known; otherwise the first participant with a picture is it. */
  constructor({ video, sounds, wanted = null }) {
    super();
    this.#video = video;
    this.#sounds = sounds;
    this.#wanted = wanted;
  }

  /** From now on the avatar is this participant and nobody else. */
  expect(identity) {
    this.#wanted = identity;
    if (this.#face && this.#face.identity !== identity) this.#gone(this.#face);
  }

  /** Let an agent in the room hear the microphone, or not. */
  async voice(on) {
    await this.#room.localParticipant.setMicrophoneEnabled(on);
  }

  get face() {
    return this.#face?.identity ?? null;
  }

  async join(url, token) {
    const { Room, RoomEvent } = await livekit();
    const room = (this.#room = new Room({ disconnectOnPageLeave: true }));
    room
      .on(RoomEvent.TrackSubscribed, (track, _, from) => this.#take(track, from))
      .on(RoomEvent.TrackUnsubscribed, (track, _, from) => this.#drop(track, from))
      .on(RoomEvent.ParticipantAttributesChanged, (_, who) => this.#tell(who))
      .on(RoomEvent.ParticipantDisconnected, (who) => this.#gone(who))
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.#say("blocked", !room.canPlaybackAudio))
      .on(RoomEvent.Reconnecting, () => this.#say("link", "reconnecting"))
      .on(RoomEvent.Reconnected, () => this.#say("link", "connected"))
      .on(RoomEvent.Disconnected, (why) => this.#over(why));
    room.registerRpcMethod("lk.playback_started", async () => this.#say("heard", { started: true }));
    room.registerRpcMethod("lk.playback_finished", async ({ payload }) => this.#say("heard", read(payload)));
    room.registerTextStreamHandler("lk.transcription", async (reader) => this.#say("words", await reader.readAll()));
    try {
      await room.connect(url, token);
    } catch (error) {
      this.#room = null;
      throw new Error(`the room could not be joined: ${plain(error)}`);
    }
    this.#joined = true;
    this.#say("blocked", !room.canPlaybackAudio);
  }

  /** Play what the browser held back; call it from a click. */
  async unblock() {
    await this.#room?.startAudio();
  }

  async leave() {
    const room = this.#room;
    if (room) await room.disconnect();
  }

  /** Begin an utterance; write Int16Array pieces of mono sound to what is returned, then close it. */
  async speak(rate) {
    const writer = await this.#room.localParticipant.streamBytes({
      topic: SPEECH,
      name: `page-${Date.now()}`,
      attributes: { sample_rate: String(rate), num_channels: "1" },
      destinationIdentities: this.face ? [this.face] : undefined,
    });
    return {
      async write(samples) {
        const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
        for (let at = 0; at < bytes.length; at += PIECE) await writer.write(bytes.subarray(at, at + PIECE));
      },
      close: () => writer.close(),
    };
  }

  /** Ask the avatar to stop speaking, as an agent would. */
  async interrupt() {
    if (!this.face) return;
    const call = { destinationIdentity: this.face, method: "lk.clear_buffer", payload: "" };
    await this.#room.localParticipant.performRpc(call);
  }

  #take(track, from) {
    if (track.kind === "audio") {
      const element = track.attach();
      element.dataset.identity = from.identity;
      element.muted = this.#sounds.dataset.muted === "true";
      this.#sounds.append(element);
      this.#say("sound", track.mediaStreamTrack);
      return;
    }
    if (this.#wanted ? from.identity !== this.#wanted : this.#face && this.#face !== from) return;
    this.#face = from;
    track.attach(this.#video);
    this.#say("face", from.identity);
    this.#tell(from);
  }

  #drop(track, from) {
    for (const element of track.detach()) if (element !== this.#video) element.remove();
    if (track.kind === "video" && from === this.#face) this.#say("face", null);
  }

  #tell(who) {
    if (who === this.#face || who.identity === this.#wanted) this.#say("facts", { ...who.attributes });
  }

  #gone(who) {
    if (who !== this.#face) return;
    this.#face = null;
    this.#say("face", null);
  }

  async #over(why) {
    if (!this.#joined) return; // join() throws and says why
    const { DisconnectReason } = await livekit();
    this.#room = null;
    this.#face = null;
    this.#sounds.replaceChildren();
    this.#video.srcObject = null;
    this.#say("left", (DisconnectReason[why] ?? "").toLowerCase().replaceAll("_", " "));
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
    return "";
  }
}

function read(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return {};
  }
}

/** An error's words without what looks like a token. */
export function plain(error) {
  return String(error?.message ?? error).replace(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, "(token)").replace(/access_token=[^&\s"]+/g, "access_token=(token)");
}
