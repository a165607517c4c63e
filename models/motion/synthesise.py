"""Training speech with known phone times, from offline synthesizers of several kinds.

    synthesise.py OUT [--scale 1.0] [--only NAME ...]

Writes one OUT/NAME.npz a voice: `pcm` int16 at 16 kHz, all sentences in a row; `offsets` [n+1] samples;
`phones`, a JSON list (a sentence each) of [phone, start, end] in the voice's own phone names, which
`phonesets.py` understands; `phoneset`. Needs Debian's flite, festival with voices, espeak-ng.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import itertools
import json
import random
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from sentences import Sentences

RATE = 16000
Phones = list[tuple[str, float, float]]
Spoken = tuple[NDArray[np.int16], Phones]


@dataclass(frozen=True)
class Voice:
    """One talker: how he is made to speak, and how much of him is wanted."""

    name: str
    engine: str
    language: str
    phoneset: str
    minutes: float
    encoding: str = "utf-8"


VOICES = [
    Voice("slt", "flite", "en", "us", 45),
    Voice("rms", "flite", "en", "us", 50),
    Voice("awb", "flite", "en", "us", 50),
    Voice("kal16", "flite", "en", "us", 12),
    Voice("cmu_us_slt_arctic_hts", "festival", "en", "us", 30),
    Voice("kal_diphone", "festival", "en", "us", 20),
    Voice("ked_diphone", "festival", "en", "us", 20),
    Voice("upc_ca_ona_hts", "festival", "ca", "ca", 25, "latin-1"),
    Voice("msu_ru_nsh_clunits", "festival", "ru", "ru", 30),
    Voice("lp_diphone", "festival", "it", "it", 18, "latin-1"),
    Voice("pc_diphone", "festival", "it", "it", 18, "latin-1"),
    Voice("czech_dita", "festival", "cs", "cs", 14, "iso-8859-2"),
    Voice("czech_machac", "festival", "cs", "cs", 14, "iso-8859-2"),
    Voice("czech_krb", "festival", "cs", "cs", 10, "iso-8859-2"),
    Voice("czech_ph", "festival", "cs", "cs", 10, "iso-8859-2"),
    Voice("hy_fi_mv_diphone", "festival", "fi", "fi", 15, "latin-1"),
    Voice("suo_fi_lj_diphone", "festival", "fi", "fi", 15, "latin-1"),
    Voice("hindi_NSK_diphone", "festival", "hi", "in", 10),
    Voice("telugu_NSK_diphone", "festival", "te", "in", 6),
    *(
        Voice(f"espeak-{code}", "espeak", code[:2], "ipa", minutes)
        for code, minutes in {
            "en-us": 12, "en-gb-x-rp": 8, "de": 10, "fr": 8, "sv": 10, "ja": 10, "es": 6, "it": 4, "nl": 4, "pl": 4,
            "pt": 4, "tr": 4, "lv": 3, "fi": 3, "hu": 3, "da": 3,
        }.items()
    ),
]  # fmt: skip


def read_wave(path: Path) -> NDArray[np.int16]:
    """Mono PCM brought to 16 kHz."""
    with wave.open(str(path)) as f:
        rate, data = f.getframerate(), f.readframes(f.getnframes())
    return at_rate(np.frombuffer(data, np.int16), rate)


def at_rate(pcm: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """PCM of any rate resampled to 16 kHz."""
    if rate == RATE:
        return pcm
    divisor = int(np.gcd(rate, RATE))
    out = resample_poly(pcm.astype(np.float32), RATE // divisor, rate // divisor)
    return np.clip(np.round(out), -32768, 32767).astype(np.int16)


def flite(voice: Voice, text: Iterator[str], rng: random.Random, folder: Path) -> Iterator[Spoken]:
    """Flite prints the end of each phone with -psdur."""
    f0 = {"slt": 175, "rms": 105, "awb": 135, "kal16": 105}[voice.name]
    path = folder / "flite.wav"
    while True:
        options = [f"duration_stretch={rng.uniform(0.82, 1.3):.2f}"]
        options.append(f"int_f0_target_mean={f0 * rng.uniform(0.8, 1.3):.0f}")
        options.append(f"int_f0_target_stddev={rng.uniform(8, 40):.0f}")
        sets = itertools.chain.from_iterable(("--setf", o) for o in options)
        command = ["flite", "-voice", voice.name, *sets, "-psdur", "-t", next(text), "-o", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        ends = [(m[1], float(m[2])) for m in re.finditer(r"([a-z]+):([\d.]+)", said)]
        starts = [0.0] + [e for _, e in ends]
        yield read_wave(path), [(p, s, e) for (p, e), s in zip(ends, starts, strict=False)]


def festival(voice: Voice, text: Iterator[str], rng: random.Random, folder: Path) -> Iterator[Spoken]:
    """Festival saves wave and segments; 40 sentences a process."""
    head = f"""(voice_{voice.name})
(define (say text base stretch)
  (Parameter.set 'Duration_Stretch stretch)
  (let ((u (eval (list 'Utterance 'Text text))))
    (utt.synth u)
    (utt.save.wave u (string-append base ".wav") 'riff)
    (utt.save.segs u (string-append base ".seg"))))
"""
    while True:
        script, bases = head, []
        for i in range(40):
            base = folder / f"{voice.name}{i}"
            for suffix in (".wav", ".seg"):
                base.with_suffix(suffix).unlink(missing_ok=True)
            plain = next(text).replace('"', "").replace("\\", "").encode(voice.encoding, "ignore").decode(voice.encoding)
            script += f'(unwind-protect (say "{plain}" "{base}" {rng.uniform(0.8, 1.25):.2f}) nil)\n'
            bases.append(base)
        file = folder / f"{voice.name}.scm"
        file.write_bytes(script.encode(voice.encoding))
        subprocess.run(["festival", "-b", str(file)], capture_output=True, check=False)
        for base in bases:
            if base.with_suffix(".wav").exists() and base.with_suffix(".seg").exists():
                rows = base.with_suffix(".seg").read_text("latin-1").split("\n")[1:]
                ends = [(r.split()[2], float(r.split()[0])) for r in rows if len(r.split()) == 3]
                starts = [0.0] + [e for _, e in ends]
                yield read_wave(base.with_suffix(".wav")), [(p, s, e) for (p, e), s in zip(ends, starts, strict=False)]


class EspeakEvent(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    ]


PHONEME_EVENT = 7
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(EspeakEvent))
VARIANTS = "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Andrea Andy Annie anika boris Denis Diogo edward Gene2 Jacky John2 Lee linda max Michael Mr_serious Nguyen norbert pablo paul robosoft Reed Storm victor zac".split()  # noqa: E501, SIM905


class Espeak:
    """The espeak-ng library with phoneme events in IPA."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.lib.espeak_Initialize(1, 0, None, 0x0001 | 0x0002)
        self.chunks: list[NDArray[np.int16]] = []
        self.events: list[tuple[str, int]] = []
        self.callback = CALLBACK(self._collect)
        self.lib.espeak_SetSynthCallback(self.callback)

    def _collect(self, wav: object, count: int, events: object) -> int:
        if wav and count > 0:
            self.chunks.append(np.ctypeslib.as_array(wav, (count,)).copy())  # type: ignore[call-overload]
        i = 0
        while events and events[i].type:  # type: ignore[index]
            if events[i].type == PHONEME_EVENT:  # type: ignore[index]
                e = events[i]  # type: ignore[index]
                name = ctypes.string_at(ctypes.addressof(e) + EspeakEvent.string.offset, 8).split(b"\0")[0]
                self.events.append((name.decode("utf-8", "ignore"), e.sample))
            i += 1
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int, spread: int) -> Spoken:
        """PCM at 16 kHz and phones, in IPA."""
        self.chunks, self.events = [], []
        if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((1, rate), (3, pitch), (4, spread)):
            self.lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.lib.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
        self.lib.espeak_Synchronize()
        pcm = np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.int16)
        marks = [*self.events, ("", len(pcm))]
        phones = [(p, s / self.rate, e / self.rate) for (p, s), (_, e) in itertools.pairwise(marks) if e > s]
        if phones and phones[0][1] > 0:
            phones.insert(0, ("", 0.0, phones[0][1]))
        return at_rate(pcm, self.rate), phones


@functools.cache
def one_espeak() -> Espeak:
    """The library holds its voice in globals and is started once a process."""
    return Espeak()


def espeak(voice: Voice, text: Iterator[str], rng: random.Random, folder: Path) -> Iterator[Spoken]:
    """Another variant, pace and pitch for every sentence."""
    del folder
    engine, code = one_espeak(), voice.name.removeprefix("espeak-")
    while True:
        said = engine.say(next(text), f"{code}+{rng.choice(VARIANTS)}", rng.randint(120, 200), rng.randint(20, 85), rng.randint(30, 80))
        if len(said[1]) > 8:
            yield said


ENGINES = {"flite": flite, "festival": festival, "espeak": espeak}


def record(voice: Voice, out: Path, scale: float, seed: int) -> float:
    """Speak until the voice has its minutes; returns the seconds spoken."""
    rng = random.Random(f"{voice.name}{seed}")
    text = iter(Sentences(voice.language, seed + sum(map(ord, voice.name))))
    pcm: list[NDArray[np.int16]] = []
    phones: list[Phones] = []
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for spoken, timed in ENGINES[voice.engine](voice, text, rng, Path(folder)):
            if len(spoken) < 1.2 * RATE or not timed or np.abs(spoken).max() < 500:
                continue
            gain = 16000 / np.abs(spoken).max()
            pcm.append((spoken * gain).astype(np.int16))
            phones.append([(p, round(s, 4), round(e, 4)) for p, s, e in timed])
            seconds += len(spoken) / RATE
            if seconds > voice.minutes * 60 * scale:
                break
    offsets = np.cumsum([0] + [len(p) for p in pcm])
    np.savez(out / f"{voice.name}.npz", pcm=np.concatenate(pcm), offsets=offsets, phones=json.dumps(phones), phoneset=voice.phoneset)
    return seconds


def main() -> None:
    """Record every voice that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for voice in VOICES:
        if (options.only and voice.name not in options.only) or (options.out / f"{voice.name}.npz").exists():
            continue
        print(voice.name, round(record(voice, options.out, options.scale, options.seed) / 60, 1), "min", flush=True)


if __name__ == "__main__":
    main()
