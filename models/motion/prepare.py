"""Speech and targets of all voices in one folder of plain arrays, ready to be memory-mapped.

    prepare.py SPEECH OUT [--codec 0.2]

A share of the sentences goes through MP3 or Opus at a low rate. Writes OUT/NAME.npz per voice:
`pcm` int16, `tracks` float16 [T, 28] at 100 Hz, `sound_at` and `track_at` offsets.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from dataset import Utterance, load_voice, through_codec

CODECS = (("libmp3lame", 24000), ("libmp3lame", 32000), ("libmp3lame", 64000), ("libopus", 10000), ("libopus", 16000))


def save(path: Path, voice: list[Utterance]) -> None:
    """One file a voice."""
    np.savez(
        path,
        pcm=np.concatenate([u.pcm for u in voice]),
        tracks=np.concatenate([u.tracks for u in voice]),
        sound_at=np.cumsum([0] + [len(u.pcm) for u in voice]),
        track_at=np.cumsum([0] + [len(u.tracks) for u in voice]),
    )


def load(path: Path) -> list[Utterance]:
    """What `save` wrote."""
    z = np.load(path)
    pcm, tracks, s, t = z["pcm"], z["tracks"], z["sound_at"], z["track_at"]
    return [Utterance(pcm[s[i] : s[i + 1]], tracks[t[i] : t[i + 1]]) for i in range(len(s) - 1)]


def main() -> None:
    """Prepare the voices that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", type=float, default=0.2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for path in sorted(options.speech.glob("*.npz")):
        if (options.out / path.name).exists():
            continue
        began = time.monotonic()
        voice = []
        for u in load_voice(path):
            if rng.random() < options.codec:
                name, rate = CODECS[rng.integers(len(CODECS))]
                u = Utterance(through_codec(u.pcm, name, rate), u.tracks)
            voice.append(u)
        save(options.out / path.name, voice)
        print(path.stem, len(voice), f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
