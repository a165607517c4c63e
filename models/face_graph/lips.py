"""Where the lips are in every picture of a set, from the mesh: lips.npy beside the pictures.

    PYTHONPATH=models python models/face_graph/lips.py --ict MESH PICTURES/sentence_1 ...

Landmarks 48-67 of the posed mesh, projected; their bounding box and 15 % of its size on every side. The file holds
[N, 4] float32: left, top, right, bottom in pixels of the region. bench/face_quality.py reads it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from drawings import projected
from mira.coefficients import Face
from mira.facekit import LANDMARKS
from mira.facekit import load as load_kit
from mira.identity import neutral_head

LIPS = LANDMARKS[48:68]
MORE = 0.15


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--ict", type=Path, required=True)
    said = parser.parse_args()
    kit = load_kit(said.ict)
    face = Face(kit, neutral_head(kit))
    for folder in said.sets:
        region = json.loads((folder / "meta.json").read_text())["region"]
        rows = np.load(folder / "coefs.npy", allow_pickle=False).astype(np.float64)
        points = np.array([projected(face.pose(row)[LIPS]) for row in rows]) - [region["x"], region["y"]]
        low, high = points.min(1), points.max(1)
        more = MORE * (high - low)
        np.save(folder / "lips.npy", np.concatenate([low - more, high + more], 1).astype(np.float32))


if __name__ == "__main__":
    main()
