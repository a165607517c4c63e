"""Rendered pictures and their coefficients, as YUV 4:2:0 planes of the region.

A folder of pictures holds `NNNN.png` (opaque RGB, all of one size), `coefs.npy` (float32 [N, E], one row a picture)
and `meta.json` (`box`: where the picture lies in the whole frame, `region`: where the region does).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

RGB_TO_YUV = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32)
OFFSET = np.array([16.0, 128.0, 128.0], np.float32)
"""BT.601, limited range: Y 16..235, U and V 16..240."""


@dataclass(frozen=True)
class Pictures:
    """`y` [N,1,h,w], `uv` [N,2,h/2,w/2] uint8, `coefficients` [N,E]; `box` is x, y, w, h in region pixels."""

    y: Bytes
    uv: Bytes
    coefficients: Floats
    box: tuple[int, int, int, int]


def planes(rgb: Bytes) -> tuple[Bytes, Bytes]:
    """[h, w, 3] RGB, h and w even -> Y [h, w] and UV [2, h/2, w/2]; a chroma pixel is the mean of its four."""
    yuv = rgb.astype(np.float32) / 255 @ RGB_TO_YUV.T + OFFSET
    high, wide, _ = yuv.shape
    uv = yuv[..., 1:].reshape(high // 2, 2, wide // 2, 2, 2).mean((1, 3)).transpose(2, 0, 1)
    return np.rint(yuv[..., 0]).astype(np.uint8), np.rint(uv).astype(np.uint8)


def colours(y: Bytes, uv: Bytes) -> Bytes:
    """Y [h, w] and UV [2, h/2, w/2] -> RGB [h, w, 3], chroma enlarged linearly as a player would."""
    high, wide = y.shape
    big = [cv2.resize(c, (wide, high), interpolation=cv2.INTER_LINEAR).astype(np.float32) for c in uv]
    yuv = np.stack([y.astype(np.float32), *big], -1)
    rgb = (yuv - OFFSET) @ np.linalg.inv(RGB_TO_YUV).T.astype(np.float32) * 255
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def read_rgb(path: Path) -> Bytes | None:
    """An opaque picture as [h, w, 3] RGB, or None if it is missing or still being written."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.exists() else None
    return None if bgr is None else np.ascontiguousarray(bgr[..., ::-1])


def place(folder: Path) -> tuple[int, int, int, int]:
    """The box of a folder's pictures in region pixels (x, y, w, h)."""
    meta = json.loads((folder / "meta.json").read_text())
    box, region = meta["box"], meta["region"]
    return box["x"] - region["x"], box["y"] - region["y"], box["w"], box["h"]


def load(folder: Path, want: tuple[int, int, int, int] | None = None) -> Pictures:
    """All the complete pictures of a folder, cut to `want` (region pixels, inside the pictures) if it is given.

    Raises FileNotFoundError if the folder has no coefs.npy or no picture.
    """
    rows = np.load(folder / "coefs.npy", allow_pickle=False).astype(np.float32)
    x, y, width, height = place(folder)
    left, top, wide, high = want or (x, y, width, height)
    ys, uvs, kept = [], [], []
    for number in range(len(rows)):
        rgb = read_rgb(folder / f"{number:04d}.png")
        if rgb is None or rgb.shape != (height, width, 3):
            continue
        luma, chroma = planes(rgb[top - y : top - y + high, left - x : left - x + wide])
        ys.append(luma[None])
        uvs.append(chroma)
        kept.append(number)
    if not kept:
        raise FileNotFoundError(f"{folder} holds no picture yet")
    return Pictures(np.stack(ys), np.stack(uvs), rows[kept], (left, top, wide, high))


def joined(sets: list[Pictures]) -> Pictures:
    """Several sets of the same box as one."""
    if len({each.box for each in sets}) != 1:
        raise ValueError("the sets' pictures lie in different boxes")
    return Pictures(
        np.concatenate([each.y for each in sets]),
        np.concatenate([each.uv for each in sets]),
        np.concatenate([each.coefficients for each in sets]),
        sets[0].box,
    )


def held_out(count: int) -> NDArray[np.bool_]:
    """Which of `count` pictures are kept from training: 8 in 100, never the first (the resting face)."""
    return np.arange(count) % 25 % 12 == 11
