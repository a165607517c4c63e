"""A knitted pullover: rings lofted from the neckline over the shoulders, always outside the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .facekit import SKIN_END, Array, Index

AROUND = 128
AXIS_Z = -1.2
COLLAR_RINGS = 4
"""The first rings form the ribbed collar."""


@dataclass(frozen=True)
class Garment:
    """A quad mesh with texture coordinates in stitches."""

    vertices: Array
    faces: Index
    stitch: Array
    """[V, 3] around, along (both in repeats of the knit) and 1 on the collar."""


def body_radius(head: Array, angle: Array, height: Array) -> Array:
    """The body's greatest distance from the axis near (angle, height); zero where there is no body."""
    skin = head[:SKIN_END]
    skin = skin[skin[:, 1] < -5.5]
    skin = skin[(skin[:, 2] < 7.0) | (skin[:, 1] < -9.5)]
    own_angle = np.arctan2(skin[:, 2] - AXIS_Z, skin[:, 0])
    own_radius = np.hypot(skin[:, 0], skin[:, 2] - AXIS_Z)
    turn = np.abs((angle.reshape(-1, 1) - own_angle + np.pi) % (2 * np.pi) - np.pi)
    near = (turn < 0.16) & (np.abs(height.reshape(-1, 1) - skin[:, 1]) < 0.7)
    return np.where(near, own_radius, 0.0).max(1).reshape(angle.shape)


def neckline(angle: Array) -> Array:
    """Height of the collar's upper edge: lower at the front."""
    front = np.clip(np.sin(angle), 0, 1)
    return -10.3 - 2.1 * front**1.6 - 0.2 * np.clip(-np.sin(angle), 0, 1)


def _shell(angle: Array, height: Array) -> Array:
    """The pullover's own shape: distance from the axis at this angle and height."""
    y = [-36.0, -27.0, -23.0, -20.5, -18.6, -17.0, -15.6, -14.4, -13.4, -12.4, -11.4, -10.0]
    half_width = np.interp(height, y, [20.0, 19.9, 19.7, 19.2, 18.1, 16.2, 13.4, 10.4, 8.4, 7.2, 6.5, 6.1])
    half_depth = np.interp(height, y, [11.6, 11.0, 10.4, 9.8, 9.2, 8.6, 8.0, 7.4, 6.9, 6.5, 6.1, 5.8])
    c, s = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    power = 2.25
    return ((c / half_width) ** power + (s / half_depth) ** power) ** (-1 / power)


def _smooth_around(radius: Array, passes: int) -> Array:
    for _ in range(passes):
        radius = (np.roll(radius, 1, 1) + 2 * radius + np.roll(radius, -1, 1)) / 4
    return radius


def build(head: Array) -> Garment:
    """The pullover for this head and neck."""
    angle = np.arange(AROUND) / AROUND * 2 * np.pi - np.pi / 2  # the texture seam is at the back
    top = neckline(angle)
    drops = np.concatenate([[0.45, 0.0, 0.35, 0.75, 1.15], np.linspace(1.5, 25.0, 26) ** 1.0])
    # The first ring lies inside the collar, so that its edge has a thickness.
    fade = np.clip(1 - (drops - 1.0) / 9.0, 0, 1)[:, None]
    height = fade * top + (1 - fade) * (-11.0) - drops[:, None]
    around = np.broadcast_to(angle, height.shape)
    body = _smooth_around(body_radius(head, around, height), 3)
    gap = np.array([0.06, 0.30, 0.42, 0.44, 0.40] + [0.36] * 26)[:, None]
    shell = np.where(np.arange(len(drops))[:, None] < 5, 0, _shell(around, height))
    radius = np.maximum(body + gap, shell)
    radius[2:5] = _smooth_around(radius[2:5], 2)
    for _ in range(3):
        radius[6:-1] = np.maximum(body[6:-1] + 0.3, (radius[5:-2] + 2 * radius[6:-1] + radius[7:]) / 4)
    x, z = radius * np.cos(around), AXIS_Z + radius * np.sin(around)
    # Broad soft folds, growing towards the arms.
    depth = np.clip((-14 - height) / 8, 0, 1)
    fold = 0.20 * np.sin(5 * around + 0.55 * height) + 0.12 * np.sin(9 * around - 0.8 * height + 1.3)
    z = z + depth * fold
    vertices = np.stack([x, height, z], -1)
    rings, count = height.shape
    step = np.linalg.norm(np.diff(vertices, axis=0), axis=2)
    along = np.concatenate([np.zeros((1, count)), np.cumsum(step, 0)])
    collar = np.broadcast_to((np.arange(rings) <= COLLAR_RINGS)[:, None], height.shape)
    stitch = np.stack([np.broadcast_to((angle / (2 * np.pi) + 0.25) * 120, height.shape), along / 0.72, collar], -1)
    row, col = np.meshgrid(np.arange(rings - 1), np.arange(count), indexing="ij")
    nxt = (col + 1) % count
    faces = np.stack([row * count + col, row * count + nxt, (row + 1) * count + nxt, (row + 1) * count + col], -1)
    return Garment(
        vertices.reshape(-1, 3).astype(np.float32),
        faces.reshape(-1, 4)[:, ::-1].astype(np.int64),
        stitch.reshape(-1, 3).astype(np.float32),
    )


def hidden_skin(head: Array) -> NDArray[np.bool_]:
    """[V] bool: skin that lies well below the neckline and need not be drawn."""
    angle = np.arctan2(head[:, 2] - AXIS_Z, head[:, 0])
    return head[:, 1] < neckline(angle) - 1.6
