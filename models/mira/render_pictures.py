"""Draw the pictures that the face graph learns from, in rounds, so that training can begin on a part.

    python -m mira.render_pictures --ict MESH --out DIR [--mouth 1200 --eyes 400 --whole 40]

Every set is a folder with NNNN.png (opaque RGB crops of the 512x512 frame), coefs.npy ([n, 52], the row of
every finished picture; replaced as a whole, so a reader sees a consistent prefix) and meta.json (the box).
Stopping and starting again skips what exists. Row i of a set depends on its set and i alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .boxes import EYES, MOUTH, REGION, Box
from .coefficients import ARKIT_52
from .sampling import Row, eyes_row, mouth_row, whole_row
from .scene import Studio

SAVE_EVERY = 5


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one box."""

    name: str
    box: Box
    rows: Row
    """[N, 52]."""
    samples: int

    def begin(self, out: Path) -> int:
        """Make the folder; returns how many pictures it holds already."""
        folder = out / self.name
        folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "box": self.box.as_json(),
            "region": REGION.as_json(),
            "planned": len(self.rows),
            "samples": self.samples,
            "coefficients": ARKIT_52,
        }
        (folder / "meta.json").write_text(json.dumps(meta, indent=1))
        done = 0
        while (folder / f"{done:04d}.png").exists():
            done += 1
        return min(done, len(self.rows))

    def save_rows(self, out: Path, done: int) -> None:
        """Publish the rows of the first `done` pictures."""
        folder = out / self.name
        part = folder / "coefs.part.npy"
        np.save(part, self.rows[:done].astype(np.float32))
        os.replace(part, folder / "coefs.npy")

    def draw(self, studio: Studio, out: Path, i: int) -> None:
        """Render picture i."""
        studio.pose(self.rows[i])
        # Another seed each time: noise that never changes would be learnt as texture.
        image = studio.picture(self.box, self.samples, seed=i)
        part = out / self.name / f"{i:04d}.part.png"
        cv2.imwrite(str(part), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        os.replace(part, out / self.name / f"{i:04d}.png")


def planned(name: str, count: int, first_seed: int) -> Row:
    """[count, 52]; row 0 is the neutral face."""
    draw = {"mouth": mouth_row, "eyes": eyes_row, "whole": whole_row}[name]
    rows = [draw(np.random.default_rng([first_seed, i])) for i in range(count)]
    if name != "whole" and rows:
        rows[0] = np.zeros(len(ARKIT_52))
    return np.array(rows).reshape(count, len(ARKIT_52))


def run(studio: Studio, sets: list[tuple[PictureSet, int]], out: Path, until: float) -> None:
    """Draw the sets in turns of so many pictures each, until all are done or the time is up (UNIX seconds)."""
    done = {s.name: s.begin(out) for s, _ in sets}
    while any(done[s.name] < len(s.rows) for s, _ in sets):
        for s, turn in sets:
            start, first = time.perf_counter(), done[s.name]
            while done[s.name] < min(first + turn, len(s.rows)):
                if time.time() > until:
                    return
                s.draw(studio, out, done[s.name])
                done[s.name] += 1
                if done[s.name] % SAVE_EVERY == 0 or done[s.name] == len(s.rows):
                    s.save_rows(out, done[s.name])
            if done[s.name] > first:
                each = (time.perf_counter() - start) / (done[s.name] - first)
                print(
                    f"{time.strftime('%H:%M:%S')} {s.name} {done[s.name]}/{len(s.rows)} {each:.2f} s each", flush=True
                )


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ict", type=Path, required=True, help="the mesh file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mouth", type=int, default=1200)
    parser.add_argument("--eyes", type=int, default=400)
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--sentence", type=Path, help="[n, 52] .npy: draw its frames as mouth crops instead")
    parser.add_argument("--first", type=int, default=0, help="first frame of the sentence")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--name", default="sentence", help="the sentence's set")
    parser.add_argument("--hours", type=float, default=24.0, help="stop after so long")
    args = parser.parse_args()
    sets: list[tuple[PictureSet, int]] = []
    if args.sentence:
        rows = np.load(args.sentence, allow_pickle=False).astype(np.float64)
        rows = rows[args.first : args.first + args.frames : args.every]
        sets.append((PictureSet(args.name, MOUTH, rows, args.samples), len(rows)))
    else:
        sets.append((PictureSet("mouth", MOUTH, planned("mouth", args.mouth, 101), args.samples), 60))
        sets.append((PictureSet("eyes", EYES, planned("eyes", args.eyes, 202), args.samples), 20))
        if args.whole:
            sets = [(PictureSet("whole", REGION, planned("whole", args.whole, 303), args.samples), args.whole)]
    run(Studio(args.ict, args.threads), sets, args.out, time.time() + 3600 * args.hours)


if __name__ == "__main__":
    main()
