"""Make the idle loop from the plates: the head sways in depth, the chest breathes.

    python -m mira.idle_clip --plates DIR/person.npz --out DIR

Writes idle.mp4 and idle.json (affine, rectangle and pose of every frame), sheet.png and report.json. Inside
the canonical region the picture moves by exactly the affine of idle.json; outside it goes over, within
`MARGIN` pixels, to the movement of each pixel at its own depth.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import FRAME, REGION
from .sway import FPS, FRAMES, Sway, sway

Field = NDArray[np.float32]

PX_PER_CM = 13.3
PIVOT_CM = (0.0, -7.5, 0.0)
"""What the head turns about: the top of the neck's base (x, y, z)."""
MARGIN = 26.0
CENTRE_Y_CM = -1.0
CHEST_RISE, HEAD_RISE, CHEST_WIDEN = 2.6, 0.8, 0.9
"""How far a breath moves them, in pixels."""


@dataclass(frozen=True)
class Plates:
    """The still parts (see plates.py), as floats 0..255."""

    person: Field
    """[1024, 1024, 4] premultiplied RGB and alpha (0..1)."""
    backdrop: Field
    depth: Field
    """[512, 512] cm towards the camera, smooth and without holes."""


def smooth_depth(depth: Field) -> Field:
    """Fill what is empty with what lies near and take out every step: a step would tear the picture."""
    known = np.isfinite(depth).astype(np.float32)
    value = np.where(known > 0, depth, 0).astype(np.float32)
    out = np.zeros_like(value)
    filled = np.zeros_like(value)
    for sigma in (4.0, 8.0, 16.0, 40.0, 120.0):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        mean = cv2.GaussianBlur(value, (0, 0), sigma) / np.maximum(weight, 1e-6)
        use = (1 - filled) * np.clip(weight / 0.5, 0, 1)
        out, filled = out + use * mean, filled + use
    out = out / np.maximum(filled, 1e-6)
    return cv2.resize(cv2.GaussianBlur(out, (0, 0), 3.5), (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)


def read_plates(path: Path) -> Plates:
    """The plates with the person cut free of the backdrop, in display values."""
    with np.load(path, allow_pickle=False) as d:
        alpha = d["alpha"][..., None]
        backdrop = d["backdrop"].astype(np.float32)
        # What remains of the picture when the backdrop's share is taken away is the premultiplied person.
        person = d["picture"].astype(np.float32) - (1 - alpha) * backdrop
        return Plates(np.concatenate([person, alpha], 2), backdrop, smooth_depth(d["depth"]))


def grid() -> tuple[Field, Field]:
    """(x, y) of every frame pixel's centre."""
    y, x = np.mgrid[:FRAME, :FRAME].astype(np.float32)
    return x, y


def ramp(value: Field, start: float, end: float) -> Field:
    """Smooth 0..1 from start to end."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """3x3 in head axes (x to the picture's right, y up, z to the viewer); degrees."""
    a, b, c = np.radians([yaw, -pitch, -roll])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix: NDArray[np.float64] = about_z @ about_y @ about_x
    return matrix


class Mover:
    """The displacement of every pixel of the still picture, frame by frame."""

    def __init__(self, depth: Field, curves: Sway) -> None:
        self.curves = curves
        self.x, self.y = grid()
        middle = FRAME / 2 - 0.5
        self.place = np.stack(
            [
                (self.x - middle) / PX_PER_CM - PIVOT_CM[0],
                (middle - self.y) / PX_PER_CM + CENTRE_Y_CM - PIVOT_CM[1],
                depth - PIVOT_CM[2],
            ],
            -1,
        )
        side = np.maximum(REGION.x - 2 - self.x, self.x - (REGION.x + REGION.w + 1))
        above = np.maximum(REGION.y - 2 - self.y, self.y - (REGION.y + REGION.h + 1))
        outside = np.hypot(np.maximum(side, 0), np.maximum(above, 0))
        self.rigid = 1 - ramp(outside, 0, MARGIN)
        # Hair falls beside the neck and goes with the head; the collar stays.
        across = np.abs(self.x - middle)
        start = 352 + 22 * ramp(across, 60, 100)
        self.head = 1 - ramp(self.y - start, 0, 52)
        self.chest = ramp(self.y, 360, 440)
        # The face itself, for the fit of the affine.
        face = ((self.x - middle) / 78) ** 2 + ((self.y - 252) / 100) ** 2 < 1
        self._rows = np.stack([self.x[face], self.y[face], np.ones(face.sum())], 1)
        self._face = face
        self._solve = np.linalg.pinv(self._rows)

    def free(self, i: int) -> tuple[Field, Field]:
        """(dx, dy) of frame i with every pixel at its own depth."""
        c = self.curves
        matrix = rotation(c.yaw[i], c.pitch[i], c.roll[i])
        moved = self.place @ matrix.T.astype(np.float32)
        breath = c.breath[i] - c.breath.mean()
        turn_x = (moved[..., 0] - self.place[..., 0]) * PX_PER_CM + (c.x[i] - c.body_x[i])
        turn_y = -(moved[..., 1] - self.place[..., 1]) * PX_PER_CM + c.y[i]
        rise = -breath * (HEAD_RISE + (CHEST_RISE - HEAD_RISE) * self.chest)
        widen = breath * CHEST_WIDEN * self.chest * (self.x - FRAME / 2) / 200
        lean = c.body_x[i] * (1 - 0.5 * ramp(self.y, 400, FRAME))
        dx = self.head * turn_x + lean + widen
        dy = self.head * turn_y + rise
        return dx.astype(np.float32), dy.astype(np.float32)

    def affine(self, dx: Field, dy: Field) -> NDArray[np.float64]:
        """[2, 3] frame to frame: the best affine for the face."""
        target = np.stack([(self.x + dx)[self._face], (self.y + dy)[self._face]], 1)
        fit: NDArray[np.float64] = (self._solve @ target).T
        return fit

    def backward(self, i: int) -> tuple[Field, Field, NDArray[np.float64]]:
        """(map x, map y): where in the still picture each pixel of frame i comes from, and the affine."""
        dx, dy = self.free(i)
        m = self.affine(dx, dy)
        stiff_x = m[0, 0] * self.x + m[0, 1] * self.y + m[0, 2] - self.x
        stiff_y = m[1, 0] * self.x + m[1, 1] * self.y + m[1, 2] - self.y
        dx = (self.rigid * stiff_x + (1 - self.rigid) * dx).astype(np.float32)
        dy = (self.rigid * stiff_y + (1 - self.rigid) * dy).astype(np.float32)
        at_x, at_y = self.x.copy(), self.y.copy()
        for _ in range(8):
            there_x = cv2.remap(dx, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            there_y = cv2.remap(dy, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            at_x, at_y = self.x - there_x, self.y - there_y
        return at_x, at_y, m


def to_region(m: NDArray[np.float64]) -> list[float]:
    """The frame-to-frame affine as region pixel to frame pixel, row-major."""
    t = m @ np.array([REGION.x, REGION.y, 1.0])
    return [m[0, 0], m[0, 1], t[0], m[1, 0], m[1, 1], t[1]]


def bounds(affine: list[float]) -> list[int]:
    """Even-aligned rectangle around the moved region."""
    a, b, tx, c, d, ty = affine
    corner = np.array([[0, 0], [REGION.w - 1, 0], [0, REGION.h - 1], [REGION.w - 1, REGION.h - 1]])
    x, y = corner @ [a, b] + tx, corner @ [c, d] + ty
    x0, y0 = int(np.floor(x.min() / 2)) * 2, int(np.floor(y.min() / 2)) * 2
    x1, y1 = int(np.ceil((x.max() + 1) / 2)) * 2, int(np.ceil((y.max() + 1) / 2)) * 2
    return [x0, y0, x1 - x0, y1 - y0]


def draw(plates: Plates, at_x: Field, at_y: Field) -> NDArray[np.uint8]:
    """[512, 512, 3] RGB: sampled at twice the size, then averaged, so nothing shimmers."""
    big = (FRAME * 2, FRAME * 2)
    # Pixel centres: p at 512 is 2p + 0.5 at 1024.
    half_y, half_x = (np.mgrid[: big[1], : big[0]].astype(np.float32) - 0.5) / 2
    map_x = cv2.remap(at_x, half_x, half_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    map_y = cv2.remap(at_y, half_x, half_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # The replicated half pixel at the borders.
    map_x += half_x - np.clip(half_x, 0, FRAME - 1)
    map_y += half_y - np.clip(half_y, 0, FRAME - 1)
    moved = cv2.remap(plates.person, map_x * 2 + 0.5, map_y * 2 + 0.5, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    image = moved[..., :3] + (1 - moved[..., 3:]) * plates.backdrop
    small = cv2.resize(image, (FRAME, FRAME), interpolation=cv2.INTER_AREA)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


def encode(frames: list[NDArray[np.uint8]], target: Path, crf: int) -> None:
    """H.264, BT.601 limited range, closed groups of pictures."""
    with av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width = stream.height = FRAME
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": str(crf),
            "preset": "slow",
            "g": "50",
            "x264-params": "open-gop=0:colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:range=tv",
        }
        stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def report(frames: list[NDArray[np.uint8]], affines: list[list[float]], size: int) -> dict[str, float]:
    """What can be measured: sway of the face, smoothness, the loop's closure."""
    m = np.array(affines)
    middle = np.array([REGION.w / 2, REGION.h / 2])
    centre = np.stack([m[:, :2] @ middle + m[:, 2], m[:, 3:5] @ middle + m[:, 5]], 1)
    step = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(frames[1:], frames, strict=False)]
    return {
        "sway_rms_px": float(np.sqrt(((centre - centre.mean(0)) ** 2).sum(1).mean())),
        "sway_max_px": float(np.linalg.norm(centre - centre.mean(0), axis=1).max()),
        "step_max_px": float(np.linalg.norm(np.diff(centre, axis=0, append=centre[:1]), axis=1).max()),
        "frame_difference_median": float(np.median(step)),
        "frame_difference_max": float(np.max(step)),
        "loop_difference": float(np.abs(frames[0].astype(int) - frames[-1]).mean()),
        "bytes": float(size),
    }


def main() -> None:
    """Make the clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crf", type=int, default=14)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    plates, curves = read_plates(args.plates), sway()
    mover = Mover(plates.depth, curves)
    frames, affines = [], []
    for i in range(FRAMES):
        at_x, at_y, m = mover.backward(i)
        frames.append(draw(plates, at_x, at_y))
        affines.append([round(v, 6) for v in to_region(m)])
    pose = np.stack([curves.yaw, curves.pitch, curves.roll], 1).round(4).tolist()
    placement = {"affine": affines, "rect": [bounds(a) for a in affines], "pose": pose}
    (args.out / "idle.json").write_text(json.dumps(placement))
    encode(frames, args.out / "idle.mp4", args.crf)
    figures = report(frames, affines, (args.out / "idle.mp4").stat().st_size)
    (args.out / "report.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))
    rows = [np.concatenate(frames[r : r + 100 : 25], 1) for r in range(0, FRAMES, 100)]
    sheet = cv2.resize(np.concatenate(rows, 0), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(args.out / "sheet.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
