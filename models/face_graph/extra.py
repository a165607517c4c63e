"""Renders more of what random expressions show too seldom: lids closing evenly, the tongue of "th" and "l".

    PYTHONPATH=models python models/face_graph/extra.py eyes  --ict MESH --out EXTRA --count 200
    PYTHONPATH=models python models/face_graph/extra.py mouth --ict MESH --out EXTRA --count 100

Sets of the same form as models/mira's, for train.py's --pictures. Needs Blender's package, like models/mira.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from mira.boxes import EYES, MOUTH
from mira.coefficients import ARKIT_52
from mira.render_pictures import PictureSet, run
from mira.sampling import Row, eyes_row
from mira.scene import Studio
from motion.visemes import NAMES, VISEMES

INDEX = {name: number for number, name in enumerate(ARKIT_52)}
LIDS = (1, 0.9, 0.75, 0.5, 0.25, 1, 0.85, 0.6)
SAMPLES = 5


def lids(number: int) -> Row:
    """[52] every fourth picture the lids alone, otherwise any expression of the eyes."""
    rng = np.random.default_rng([777, number])
    row = eyes_row(rng)
    if number % 4 == 0:
        row[:] = 0
        row[[INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = LIDS[number // 4 % len(LIDS)]
        if number // 4 % 2:
            row[INDEX["browInnerUp"]] = rng.uniform(0, 0.5)
    return row


def tongue(number: int) -> Row:
    """[52] mostly "th" or "l", mixed with another viseme, the tongue out by 0.15 to 0.6 at least."""
    rng = np.random.default_rng([555, number])
    wanted, other = "th" if number % 3 else "l", NAMES[rng.integers(len(NAMES))]
    share = rng.uniform(0.45, 1)
    row = share * VISEMES[wanted] * rng.uniform(0.8, 1.25) + (1 - share) * VISEMES[other]
    row = row.astype(np.float64)
    row[INDEX["tongueOut"]] = max(row[INDEX["tongueOut"]], rng.uniform(0.15, 0.6))
    row[INDEX["jawOpen"]] += rng.beta(1, 5) * 0.3
    return np.clip(row * (1 + 0.04 * rng.normal(size=len(row))), 0, 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["mouth", "eyes"])
    parser.add_argument("--ict", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    said = parser.parse_args()
    draw, box = {"mouth": (tongue, MOUTH), "eyes": (lids, EYES)}[said.name]
    rows = np.array([np.zeros(len(ARKIT_52)), *(draw(number) for number in range(1, said.count))])
    run(Studio(said.ict), [(PictureSet(said.name, box, rows, SAMPLES), said.count)], said.out, time.time() + 86400)


if __name__ == "__main__":
    main()
