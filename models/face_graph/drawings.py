"""Fast drawings of the posed mesh, thousands of them, to teach the network the face's geometry before real pictures.

    PYTHONPATH=models python models/face_graph/drawings.py mouth --ict MESH --pictures PICTURES --out DRAWINGS

A rendered picture costs seconds, and with a few hundred of them the network draws the expressions it was shown well and
others less so. A drawing costs a twentieth of a second: the mesh's small patches are painted far to near, each in the
colour it has where it is seen in the rendered pictures, as far as that depends linearly on the expression. Shadows
are only roughly right, everything's place is. The result is a set of pictures of the same form; the held-out pictures'
colours are not used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from mira.boxes import FRAME
from mira.coefficients import Face
from mira.facekit import load as load_kit
from mira.identity import neutral_head
from mira.sampling import eyes_row, mouth_row
from numpy.typing import NDArray
from pictures import Bytes, Floats, held_out, read_rgb

FOCAL = FRAME * (125.0 - 8.0) / 38.5
CAMERA = 0.6, 125.0, 21.28
"""The studio's camera: height and distance (cm) and how far its picture is shifted up (pixels)."""
FINE = 2
"""A face of the mesh is FINE x FINE patches."""
SCALE = 2
"""Drawn so many times larger, then averaged."""
SUB = 4
RIDGE = 3.0
"""How firmly a patch keeps to its mean colour, in drawn pixels."""


def projected(points: Floats) -> Floats:
    """[..., 3] cm -> [..., 2] pixels of the whole frame, y down."""
    height, distance, up = CAMERA
    near = FOCAL / (distance - points[..., 2])
    return np.stack([FRAME / 2 + points[..., 0] * near, FRAME / 2 - (points[..., 1] - height) * near - up], -1)


class Patches:
    """The mesh's patches that can be seen in a box of the frame."""

    def __init__(self, face: Face, box: dict[str, int]) -> None:
        self.face, self.box = face, box
        faces = face.kit.faces.copy()
        faces[:, 3] = np.where(faces[:, 3] < 0, faces[:, 2], faces[:, 3])
        opaque = face.kit.material <= 7  # the rest (tear, blend, occlusion, lashes) is see-through
        at = projected(face.head[faces].mean(1))
        middle = np.array([box["x"] + box["w"] / 2, box["y"] + box["h"] / 2])
        inside = (np.abs(at - middle) < [box["w"] / 2 + 12, box["h"] / 2 + 30]).all(1)
        self.faces = faces[opaque & inside & (face.head[faces][..., 2].mean(1) > -3)]
        steps = np.linspace(0, 1, FINE + 1)
        a, b = np.meshgrid(steps, steps, indexing="ij")
        self.blend = np.stack([(1 - a) * (1 - b), a * (1 - b), a * b, (1 - a) * b], -1).astype(np.float32)

    def corners(self, expression: Floats) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Patches facing the camera, far to near: [n, 4, 2] fixed-point pixels, and their numbers."""
        points = self.face.pose(expression.astype(np.float64))[self.faces]
        grid = np.einsum("ijk,fkc->fijc", self.blend, points)
        flat = (projected(grid) - [self.box["x"], self.box["y"]]) * SCALE
        quads = np.stack([flat[:, :-1, :-1], flat[:, 1:, :-1], flat[:, 1:, 1:], flat[:, :-1, 1:]], 3).reshape(-1, 4, 2)
        depth = np.stack([grid[:, :-1, :-1, 2], grid[:, 1:, 1:, 2]]).mean(0).reshape(-1)
        one, two = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
        order = np.argsort(depth, kind="stable")
        order = order[(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])[order] < 0]
        quads = quads[order]
        return np.rint(quads * (1 << SUB)).astype(np.int32), order

    def numbers(self, quads: NDArray[np.int32], order: NDArray[np.int64]) -> NDArray[np.int64]:
        """[h, w] which patch is seen at each drawn pixel, -1 for none."""
        canvas = np.zeros((self.box["h"] * SCALE, self.box["w"] * SCALE, 3), np.uint8)
        for corner, number in zip(quads, (order + 1).tolist(), strict=True):
            colour = (number & 255, number >> 8 & 255, number >> 16)
            cv2.fillConvexPoly(canvas, corner, colour, cv2.LINE_8, SUB)
        parts = canvas.astype(np.int64)
        return parts[..., 0] + (parts[..., 1] << 8) + (parts[..., 2] << 16) - 1


class Paint:
    """The patches' colours: for each a ridge regression from the coefficients, on the pixels where it is seen.

    A patch seen in few pictures keeps to its mean colour; one seen often also knows how its shading changes.
    """

    def __init__(self, patches: Patches, rows: Floats, pictures: list[Bytes]) -> None:
        self.patches = patches
        self.used = np.flatnonzero(np.ptp(rows, axis=0) > 0)
        self.mean = rows[:, self.used].mean(0)
        count, size = len(patches.faces) * FINE * FINE, len(self.used) + 1
        square = np.zeros((count, size, size), np.float32)
        product = np.zeros((count, size, 3), np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            number, times, colour = self.observed(row, picture)
            feature = self.features(row)
            square[number] += times[:, None, None] * np.outer(feature, feature)
            product[number] += feature[:, None] * colour[:, None, :]
        self.seen = square[:, 0, 0] > 0
        stiff = np.diag(np.r_[1e-6, np.full(size - 1, RIDGE)]).astype(np.float32)
        self.weights = np.zeros((count, size, 3), np.float32)
        self.weights[self.seen] = np.linalg.solve(square[self.seen] + stiff, product[self.seen])

    def features(self, row: Floats) -> Floats:
        """[1 + used]: 1 and the coefficients less their mean."""
        return np.r_[1, row[self.used] - self.mean].astype(np.float32)

    def observed(self, row: Floats, picture: Bytes) -> tuple[NDArray[np.int64], Floats, Floats]:
        """The patches seen in a picture: their numbers, how many drawn pixels each, and the sum of their colours."""
        quads, order = self.patches.corners(row)
        number = self.patches.numbers(quads, order)
        big = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        there = number >= 0
        found, back = np.unique(number[there], return_inverse=True)
        colour = np.stack([np.bincount(back, big[there][:, k]) for k in range(3)], -1)
        return found, np.bincount(back).astype(np.float32), colour.astype(np.float32)

    def draw(self, row: Floats, behind: Bytes) -> Bytes:
        """One drawing [h, w, 3]; patches never seen stay what is behind them."""
        quads, order = self.patches.corners(row)
        keep = self.seen[order]
        colours = np.einsum("f,nfc->nc", self.features(row), self.weights[order[keep]])
        canvas = cv2.resize(behind, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        for corner, colour in zip(quads[keep], np.clip(colours, 0, 255).tolist(), strict=True):
            cv2.fillConvexPoly(canvas, corner, colour, cv2.LINE_8, SUB)
        box = self.patches.box
        return cv2.resize(canvas, (box["w"], box["h"]), interpolation=cv2.INTER_AREA)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["mouth", "eyes"])
    parser.add_argument("--ict", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--most", type=int, default=400, help="rendered pictures to learn the colours from")
    parser.add_argument("--check", action="store_true", help="draw the rendered pictures' own expressions instead")
    said = parser.parse_args()
    folder, out = said.pictures / said.name, said.out / said.name
    out.mkdir(parents=True, exist_ok=True)
    meta = json.loads((folder / "meta.json").read_text())
    kit = load_kit(said.ict)
    patches = Patches(Face(kit, neutral_head(kit)), meta["box"])
    rows = np.load(folder / "coefs.npy", allow_pickle=False)
    known = [k for k in np.flatnonzero(~held_out(len(rows))) if (folder / f"{k:04d}.png").exists()][: said.most]
    pictures = [picture for k in known if (picture := read_rgb(folder / f"{k:04d}.png")) is not None]
    paint = Paint(patches, rows[known], pictures)
    sample = {"mouth": mouth_row, "eyes": eyes_row}[said.name]
    asked = rows if said.check else np.array([sample(np.random.default_rng([909, k])) for k in range(said.count)])
    for k, row in enumerate(asked):
        drawn = paint.draw(row, pictures[0])
        cv2.imwrite(str(out / f"{k:04d}.png"), drawn[..., ::-1])
    np.save(out / "coefs.npy", asked.astype(np.float32))
    (out / "meta.json").write_text(json.dumps({"box": meta["box"], "region": meta["region"]}))


if __name__ == "__main__":
    main()
