"""Painted maps: the skin (projected from the front), the iris and the knit. All made by formula."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .facekit import LANDMARKS, Array

SIZE = 2048
WIDTH_CM, TOP_CM, HEIGHT_CM = 26.0, 16.0, 36.0
"""The skin map covers x in [-13, 13] and y in [-20, 16]."""

SKIN = (0.835, 0.625, 0.525)
LIP = (0.73, 0.385, 0.375)
BLUSH = (0.83, 0.47, 0.43)
SHADE = (0.70, 0.47, 0.40)

Image = NDArray[np.float32]


def to_map(points: Array) -> Array:
    """Map pixels [.., 2] of head points [.., 3]."""
    u = (points[..., 0] / WIDTH_CM + 0.5) * SIZE
    v = (TOP_CM - points[..., 1]) / HEIGHT_CM * SIZE
    return np.stack([u, v], -1)


def grain(sigma: float, seed: int) -> Image:
    """[SIZE, SIZE] smooth noise of unit deviation."""
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma)
    return noise / noise.std()


def _blob(image: Image, centre: Array, radius: tuple[float, float], colour: tuple[float, ...], amount: float) -> None:
    yy, xx = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    ru, rv = radius[0] / WIDTH_CM * SIZE, radius[1] / HEIGHT_CM * SIZE
    mask = amount * np.exp(-(((xx - centre[0]) / ru) ** 2) - ((yy - centre[1]) / rv) ** 2)[..., None]
    image += mask * (np.array(colour, np.float32) - image)


def lip_mask(head: Array) -> Image:
    """[SIZE, SIZE] 0..1 inside the lips' red."""
    outline = to_map(head[LANDMARKS[48:60]])
    # The landmarks run along the edge; a spline-like outline avoids corners.
    closed = np.concatenate([outline[-3:], outline, outline[:3]])
    t = np.arange(len(closed))
    fine = np.linspace(3, len(closed) - 3, 200)
    from scipy.interpolate import CubicSpline

    curve = CubicSpline(t, closed)(fine)
    mask = np.zeros((SIZE, SIZE), np.float32)
    cv2.fillPoly(mask, [np.round(curve * 16).astype(np.int32)], 1.0, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), 4.5)


def skin(head: Array) -> tuple[Image, Image]:
    """(colour [SIZE, SIZE, 3] sRGB, roughness [SIZE, SIZE]) for the neutral head."""
    image = np.ones((SIZE, SIZE, 3), np.float32) * np.array(SKIN, np.float32)
    mark = head[LANDMARKS]
    for side, outer, inner in ((-1, 36, 39), (1, 45, 42)):
        eye = (mark[outer] + mark[inner]) / 2
        _blob(image, to_map(np.array([side * 4.5, -0.6, 0])), (2.1, 1.8), BLUSH, 0.34)
        _blob(image, to_map(eye + np.array([0, -0.95, 0])), (1.6, 0.55), SHADE, 0.22)
        _blob(image, to_map(eye + np.array([side * 0.2, 0.85, 0])), (1.7, 0.55), (0.66, 0.44, 0.38), 0.34)
    _blob(image, to_map(mark[30]), (1.3, 1.1), BLUSH, 0.30)
    _blob(image, to_map(mark[8] + np.array([0, 0.6, 0])), (1.4, 0.9), BLUSH, 0.16)
    image *= (1 + 0.012 * grain(1.6, 1) + 0.008 * grain(9, 2))[..., None]
    freckles = np.clip(grain(1.7, 9) - 3.1, 0, 0.5)
    patch = np.zeros_like(freckles)
    for side in (-1, 1):
        centre = to_map(np.array([side * 3.0, 0.6, 0]))
        yy, xx = np.mgrid[:SIZE, :SIZE].astype(np.float32)
        patch += np.exp(-(((xx - centre[0]) / 190) ** 2) - ((yy - centre[1]) / 90) ** 2)
    image *= 1 - (freckles * patch)[..., None] * np.array([0.28, 0.40, 0.48], np.float32)
    lips = lip_mask(head)
    colour = np.array(LIP, np.float32) * (1 + 0.03 * grain(2, 5))[..., None]
    image += 0.78 * lips[..., None] * (colour - image)
    roughness = 0.47 - 0.15 * lips
    return np.clip(image, 0, 1), roughness


def iris(size: int = 512) -> Image:
    """[size, size, 3] sRGB: pupil, iris and white; the iris' edge lies at 0.4 of the width from the middle."""
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    x, y = (xx + 0.5) / size - 0.5, (yy + 0.5) / size - 0.5
    radius, angle = np.hypot(x, y) / 0.4, np.arctan2(y, x)
    rng = np.random.default_rng(3)
    streak = sum(
        rng.uniform(0.4, 1) * np.cos(k * angle + rng.uniform(0, 7) + 2.0 * np.sin(4 * radius + rng.uniform(0, 7)))
        for k in (17, 29, 41, 58, 73)
    )
    stops = [0.0, 0.38, 0.44, 0.62, 0.84, 0.97, 1.07, 1.18, 2.0]
    tones = np.array(
        [(10, 9, 9), (12, 10, 9), (112, 80, 46), (104, 86, 58), (74, 68, 52), (36, 33, 30)]
        + [(120, 112, 106), (216, 208, 202), (214, 196, 188)]
    )
    image = np.stack([np.interp(radius, stops, tones[:, c]) for c in range(3)], -1) / 255
    inside = np.clip((radius - 0.42) / 0.05, 0, 1) * np.clip((1.0 - radius) / 0.1, 0, 1)
    image *= (1 + 0.10 * inside * streak)[..., None]
    return np.clip(image, 0, 1).astype(np.float32)


def knit(size: int = 256) -> Image:
    """[size, size] 0..1 height of one repeat: 2 x 2 stocking stitches, tileable."""
    yy, xx = np.mgrid[:size, :size].astype(np.float32) / size
    column, row = (xx * 2) % 1, (yy * 2) % 1
    leg = np.abs(column - 0.5) * 2  # 0 in the middle of a wale, 1 at its edge
    slanted = (row + 0.55 * leg) % 1
    across = np.sin(np.pi * slanted).clip(0) ** 0.8
    along = np.sin(np.pi * np.clip(leg, 0, 1)).clip(0) ** 0.5
    return (across * along).astype(np.float32)
