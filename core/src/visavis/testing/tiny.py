"""The tiny avatar: a valid avatar file of some hundred kilobytes whose face does what its coefficients say.

128x128 pixels at 10 pictures a second. The louder the sound, the wider the mouth; the eyes close with ``eyeBlink``;
each colour or seed gives another face. Needs onnx and PyAV (``visavis[testing]``).
"""

from __future__ import annotations

import colorsys
import io
import json
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from visavis.hvia import ARKIT_52, write_hvia
from visavis.testing.tiny_graphs import HOP, RATE, REGION, STATE, face_graph, motion_graph

Variant = Literal["fp16", "int8"]

SIZE: Final = 128
FPS: Final = 10
FRAMES: Final = 20
_STILL: Final = 10
"""So many frames place the face by an even shift alone; the others turn and shift it by fractions."""


def tiny_avatar(
    path: str | os.PathLike[str],
    *,
    colour: tuple[int, int, int] | None = None,
    seed: int = 0,
    inputs: Sequence[str] = ("expression",),
    variants: Sequence[Variant] = (),
) -> Path:
    """Write the tiny avatar and return its path.

    ``path`` is the file, or a folder in which ``tiny.hvia`` is made. ``colour`` is the face's RGB, 0..255; without it
    the seed chooses one. ``inputs`` are what the face graph takes: ``pose`` tints it, ``base_y`` and ``base_uv`` shine
    through. ``variants`` are the precisions in which both graphs come besides fp32. Equal arguments give equal bytes.
    Raises AvatarError if it cannot be written.
    """
    target = Path(path)
    if target.suffix != ".hvia":
        target.mkdir(parents=True, exist_ok=True)
        target = target / "tiny.hvia"
    rgb = _colour_of(seed) if colour is None else colour
    members = {
        "clips/idle.json": json.dumps(_placement(), separators=(",", ":")).encode(),
        "clips/idle.mp4": _clip(rgb),
        "graphs/face.onnx": face_graph(yuv_of(rgb), seed, inputs),
        "graphs/motion.onnx": motion_graph(seed),
    }
    for precision in variants:
        members[_member("face", precision)] = face_graph(yuv_of(rgb), seed, inputs, precision)
        members[_member("motion", precision)] = motion_graph(seed, precision)
    return write_hvia(target, _manifest(inputs, variants), members)


def _member(which: str, precision: Variant) -> str:
    return f"graphs/{which}.{precision}.onnx"


def yuv_of(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """An RGB colour (0..255) in BT.601, limited range."""
    r, g, b = (channel / 255 for channel in rgb)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return round(16 + 219 * y), round(128 + 224 * (b - y) / 1.772), round(128 + 224 * (r - y) / 1.402)


def _colour_of(seed: int) -> tuple[int, int, int]:
    """Golden-ratio steps around the hues: neighbours in number are far apart in colour."""
    r, g, b = colorsys.hsv_to_rgb((0.08 + seed * 0.61803) % 1.0, 0.45, 0.85)
    return round(r * 255), round(g * 255), round(b * 255)


def _manifest(inputs: Sequence[str], variants: Sequence[Variant]) -> dict[str, Any]:
    others = {
        which: {"variants": {precision: _member(which, precision) for precision in variants}} if variants else {}
        for which in ("motion", "face")
    }
    return {
        "name": "Tiny",
        "description": "A face of a few rectangles, for tests.",
        "author": "The visavis authors",
        "licence": "Apache-2.0",
        "likeness": {"of": "nobody", "consent": "not applicable: the face is a drawing"},
        "synthetic": True,
        "video": {"width": SIZE, "height": SIZE, "fps": FPS},
        "motion": {
            "graph": "graphs/motion.onnx",
            "sample_rate": RATE,
            "hop": HOP,
            "frames": 1,
            "look_ahead": HOP,
            "state": STATE,
            "profile": "arkit-52",
            "coefficients": list(ARKIT_52),
            **others["motion"],
        },
        "face": {
            "graph": "graphs/face.onnx",
            "width": REGION,
            "height": REGION,
            "inputs": list(inputs),
            "alpha": True,
            "pose": 3,
            **others["face"],
        },
        "clips": [
            {
                "id": "idle",
                "kind": "idle",
                "video": "clips/idle.mp4",
                "placement": "clips/idle.json",
                "frames": FRAMES,
            }
        ],
    }


def _placement() -> dict[str, list[list[float]]]:
    """A sway by two pixels, then a slow nod of the head to the side; the end meets the beginning."""
    affines, rects, poses = [], [], []
    for frame in range(FRAMES):
        turn = shift = 0.0
        if frame < _STILL:
            left = 32.0 + 2.0 * round(np.sin(2 * np.pi * frame / _STILL))
        else:
            phase = 2 * np.pi * (frame - _STILL) / (FRAMES - _STILL)
            turn, shift, left = 4.0 * np.sin(phase), 1.25 * np.sin(2 * phase), 32.0
        affine = _turned(turn, left + shift, 24.0 + 0.5 * shift)
        affines.append(affine)
        rects.append(_bounds(affine))
        poses.append([0.0, 0.0, round(turn, 4)])
    return {"affine": affines, "rect": rects, "pose": poses}


def _turned(degrees: float, left: float, top: float) -> list[float]:
    """The affine that turns the region about its centre and lays its corner, unturned, at ``left``, ``top``."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    centre = (REGION - 1) / 2
    tx = left + centre - cos * centre + sin * centre
    ty = top + centre - sin * centre - cos * centre
    return [round(float(value), 6) for value in (cos, -sin, tx, sin, cos, ty)]


def _bounds(affine: list[float]) -> list[float]:
    """The even rectangle that holds the region's corners, and what interpolation spreads beyond them."""
    a, b, tx, c, d, ty = affine
    exact = (a, b, c, d) == (1.0, 0.0, 0.0, 1.0) and tx % 2 == 0 and ty % 2 == 0
    edge = 0 if exact else 1
    corners = [(x, y) for x in (-edge, REGION - 1 + edge) for y in (-edge, REGION - 1 + edge)]
    xs = [a * x + b * y + tx for x, y in corners]
    ys = [c * x + d * y + ty for x, y in corners]
    left, top = (max(0, int(np.floor(min(side) / 2)) * 2) for side in (xs, ys))
    right, bottom = (min(SIZE, int(np.floor(max(side) / 2)) * 2 + 2) for side in (xs, ys))
    return [left, top, right - left, bottom - top]


def _clip(rgb: tuple[int, int, int]) -> bytes:
    """The idle clip: a dim background and a block of shoulders that breathes. H.264 in MP4."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": "20", "preset": "medium", "bf": "0", "g": str(FRAMES), "flags": "+bitexact"}
        stream.time_base = Fraction(1, FPS)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_picture(index, yuv_of(rgb)), format="yuv420p")
            frame.pts = index
            frame.time_base = Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _picture(index: int, yuv: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One base frame, I420 ``[192, 128]``."""
    rows = np.arange(SIZE)[:, None]
    breath = 96 + 2 * np.sin(2 * np.pi * index / FRAMES)
    shoulders = np.clip(rows - breath, 0, 1) * (np.abs(np.arange(SIZE) - 63.5) < 52)
    luma = np.where(shoulders > 0, 60 + 40 * shoulders, 50 + rows * 0.2)
    chroma = np.empty((2, SIZE // 2, SIZE // 2))
    chroma[0], chroma[1] = (128 + yuv[1]) / 2, (128 + yuv[2]) / 2
    return np.concatenate([luma.round().astype(np.uint8), chroma.round().astype(np.uint8).reshape(-1, SIZE)])
