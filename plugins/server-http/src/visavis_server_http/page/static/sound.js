// Sound on its way in: recordings decoded by the browser, the microphone, and the meter of what comes back.

let context = null;

/** The one AudioContext; first asked for within a click, or browsers keep it silent. */
export function audio() {
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume();
  return context;
}

/** A recording of any format the browser reads, as mono samples. Throws with a sentence if it cannot. */
export async function decode(file) {
  let whole;
  try {
    whole = await audio().decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name || "this file"} holds no sound that this browser can read`);
  }
  const mono = new Float32Array(whole.length);
  for (let channel = 0; channel < whole.numberOfChannels; channel++) {
    const samples = whole.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / whole.numberOfChannels;
  }
  return { rate: whole.sampleRate, samples: whole16(mono), seconds: whole.duration };
}

/** Float samples as 16 bit ones. */
export function whole16(floats) {
  const out = new Int16Array(floats.length);
  for (let i = 0; i < out.length; i++) out[i] = Math.max(-1, Math.min(1, floats[i])) * 32767;
  return out;
}

/** A WAV file of 16 bit mono samples. */
export function wav({ rate, samples }) {
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + samples.byteLength, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * 2, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, samples.byteLength, true);
  return new Blob([head, samples], { type: "audio/wav" });
}

/** Listen to the microphone; `take` gets Int16Array pieces. What is returned has `rate` and `stop()`. */
export async function microphone(take) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("browsers give the microphone to pages over https, or on localhost, alone");
  }
  const wish = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the microphone was not allowed" : "no microphone was found");
  }
  const graph = audio();
  await graph.audioWorklet.addModule("/page/microphone.js");
  const source = graph.createMediaStreamSource(stream);
  const tap = new AudioWorkletNode(graph, "tap", { numberOfOutputs: 0 });
  tap.port.onmessage = ({ data }) => take(whole16(data));
  source.connect(tap);
  return {
    rate: graph.sampleRate,
    stop() {
      source.disconnect();
      for (const track of stream.getTracks()) track.stop();
    },
  };
}

/** Draws what is heard as bars. `loud` is called with whether there is speech, when that changes. */
export class Meter {
  #canvas;
  #loud;
  #analysers = [];
  #speaking = false;
  #quiet = 0;
  #frame = 0;

  constructor(canvas, loud) {
    this.#canvas = canvas;
    this.#loud = loud;
    this.#draw();
  }

  add(track) {
    const analyser = audio().createAnalyser();
    analyser.fftSize = 512;
    analyser.smoothingTimeConstant = 0.6;
    const source = audio().createMediaStreamSource(new MediaStream([track]));
    source.connect(analyser);
    this.#analysers.push(analyser);
    track.addEventListener("ended", () => source.disconnect());
    if (!this.#frame) this.#draw();
  }

  clear() {
    this.#analysers = [];
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#canvas;
    const bars = 40;
    const levels = new Float32Array(bars);
    const bins = new Uint8Array(256);
    for (const analyser of this.#analysers) {
      analyser.getByteFrequencyData(bins);
      for (let bar = 0; bar < bars; bar++) levels[bar] = Math.max(levels[bar], bins[1 + bar * 2] / 255);
    }
    const pen = this.#canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = getComputedStyle(this.#canvas).color;
    const step = width / bars;
    levels.forEach((level, bar) => {
      const tall = Math.max(3, level * height);
      pen.globalAlpha = 0.35 + 0.65 * level;
      pen.beginPath();
      pen.roundRect(bar * step + step * 0.2, (height - tall) / 2, step * 0.6, tall, 3);
      pen.fill();
    });
    this.#hear(levels.reduce((sum, level) => sum + level, 0) / bars);
    if (this.#analysers.length) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #hear(level) {
    this.#quiet = level > 0.06 ? 0 : this.#quiet + 1;
    const speaking = this.#quiet === 0 || (this.#speaking && this.#quiet < 20 && level > 0);
    if (speaking !== this.#speaking) this.#loud((this.#speaking = speaking));
  }
}
