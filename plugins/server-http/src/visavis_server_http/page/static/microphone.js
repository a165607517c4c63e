// Runs on the audio thread: hands the microphone's samples on in pieces of about 40 ms.

const PIECE = 2048;

class Tap extends AudioWorkletProcessor {
  #piece = new Float32Array(PIECE);
  #filled = 0;

  process([[channel]]) {
    if (channel) {
      for (const sample of channel) {
        this.#piece[this.#filled++] = sample;
        if (this.#filled === PIECE) {
          this.port.postMessage(this.#piece.slice());
          this.#filled = 0;
        }
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
