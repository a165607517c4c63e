"""The synthesised speech that lives in the repository: the demo's sentence and the lip-sync bench's clips.

    make_speech.py DEMO_FOLDER BENCH_FOLDER

Needs Debian's flite, festival, festvox-us-slt-hts and festvox-kallpc16k. Same result on every run.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import wave
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly
from synthesise import ENGINES, RATE, VOICES, Phones

DEMO = (
    "Hello! I am Meera, and this is viz a vee. "
    "Play any voice to me, and I will move my lips and speak your words, live in a room, or in a film."
)
CLIPS = {
    "synth-slt-hts": ("cmu_us_slt_arctic_hts", "Bob and Pam have a big boat, but we may move it above the blue water before June."),
    "synth-slt": ("slt", "Who would choose a warm apple pie when five plums grow by the front door?"),
    "synth-rms": ("rms", "My brother Paul moved to a small farm, where he feeds two black sheep and a lamb."),
    "synth-awb": ("awb", "We saw a beautiful bamboo plant near the pool, and both of us took a photo of it."),
    "synth-kal16": ("kal16", "Please put the map of Bombay above my lamp, or the baby may pull the paper down."),
    "synth-kal": ("kal_diphone", "The whole band plays a few happy tunes; even the mayor claps and hums in the back."),
}
HELD_OUT = {"kal16", "kal_diphone"}


def padded(pcm: NDArray[np.int16], phones: Phones, before: float = 0.5, after: float = 0.8) -> tuple[NDArray[np.int16], list[dict[str, object]]]:
    """Silence around a clip, and its phones as ARPABET records."""
    end = len(pcm) / RATE
    out = np.concatenate([np.zeros(int(before * RATE), np.int16), pcm, np.zeros(int(after * RATE), np.int16)])
    names = {"pau": "SIL", "ax": "AH", "axr": "ER", "ix": "IH"}
    records: list[dict[str, object]] = [{"phone": "SIL", "start": 0.0, "end": before}]
    for phone, start, stop in phones:
        records.append({"phone": names.get(phone, phone.upper()), "start": round(start + before, 3), "end": round(min(stop, end) + before, 3)})
    records.append({"phone": "SIL", "start": records[-1]["end"], "end": round(len(out) / RATE, 3)})
    return out, records


def write_wave(path: Path, pcm: NDArray[np.int16], rate: int) -> None:
    """Mono 16 bit."""
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(pcm.astype("<i2").tobytes())


def bench(folder: Path) -> None:
    """Six clips of five voices with phone times, and clips.json."""
    entries = []
    for name, (voice_name, text) in CLIPS.items():
        voice = next(v for v in VOICES if v.name == voice_name)
        with TemporaryDirectory() as scratch:
            pcm, phones = next(ENGINES[voice.engine](voice, iter([text] * 40), random.Random(name), Path(scratch)))
        pcm = (pcm * (16000 / np.abs(pcm).max())).astype(np.int16)
        sound, records = padded(pcm, phones)
        write_wave(folder / f"{name}.wav", sound, RATE)
        rows = ",\n ".join(json.dumps(r) for r in records)
        (folder / f"{name}.json").write_text(f"[{rows}]\n")
        entries.append(
            {
                "id": name, "lang": "en", "voice": voice_name, "synthesiser": voice.engine, "text": text,
                "duration": round(len(sound) / RATE, 2), "bilabials": sum(r["phone"] in ("P", "B", "M") for r in records),
                "trained_on": voice_name not in HELD_OUT,
            }
        )  # fmt: skip
    (folder / "clips.json").write_text(json.dumps(entries, indent=1) + "\n")


def demo(folder: Path) -> None:
    """The demo's sentence, festival's HTS voice, at 24 kHz."""
    with TemporaryDirectory() as scratch:
        base = Path(scratch) / "hello"
        script = f"""(voice_cmu_us_slt_arctic_hts)
(let ((u (Utterance Text "{DEMO}"))) (utt.synth u) (utt.save.wave u "{base}.wav" 'riff))
"""
        base.with_suffix(".scm").write_text(script)
        subprocess.run(["festival", "-b", str(base.with_suffix(".scm"))], check=True)
        with wave.open(str(base.with_suffix(".wav"))) as f:
            rate, pcm = f.getframerate(), np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float32)
    pcm = resample_poly(pcm, 24000 // 8000, rate // 8000)
    pcm = np.concatenate([np.zeros(7200), pcm * 16000 / np.abs(pcm).max(), np.zeros(12000)])
    write_wave(folder / "hello.wav", np.round(pcm).astype(np.int16), 24000)


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("bench", type=Path)
    o = parser.parse_args()
    for folder in (o.demo, o.bench):
        folder.mkdir(parents=True, exist_ok=True)
    demo(o.demo)
    bench(o.bench)


if __name__ == "__main__":
    main()
