"""ARKit's 52 coefficients on Mira's mesh: names, the mesh's own shapes, gaze and the tongue.

Left is the avatar's own left, as in ARKit and in the mesh's `_L`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .facekit import EYE_LEFT, EYE_RIGHT, LANDMARKS, SKIN_END, Array, FaceKit, Index

ARKIT_52: tuple[str, ...] = tuple(
    """eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
    eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight
    jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight
    mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight
    mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper
    mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight noseSneerLeft noseSneerRight tongueOut""".split()
)

LID_OVERLAP_CM = 0.03
"""How far the lids of a full blink overlap."""
GAZE_DEGREES = 26.0
"""The eyeball's turn at eyeLook* = 1 (up and down: three quarters of it)."""


def mesh_names(name: str) -> tuple[str, ...]:
    """The mesh's shapes that one ARKit coefficient drives (two for the merged ones, none for tongueOut)."""
    if name in ("browInnerUp", "cheekPuff"):
        return (f"{name}_L", f"{name}_R")
    if name == "tongueOut":
        return ()
    # "jawLeft" and "mouthLeft" are shapes of their own, not the left half of one.
    if name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        for side in ("Left", "Right"):
            if name.endswith(side):
                return (f"{name.removesuffix(side)}_{side[0]}",)
    return (name,)


def tongue_delta(kit: FaceKit, head: Array) -> Array:
    """[V, 3] the tongue at tongueOut = 1: the tip forward and up over the lower teeth, and thinner."""
    out = np.zeros_like(head)
    part = head[kit.tongue]
    reach = np.clip((part[:, 2] - 5.0) / (part[:, 2].max() - 5.0), 0, 1)
    weight = reach**2 * (3 - 2 * reach)
    tip = part[part[:, 2] > part[:, 2].max() - 0.3].mean(0)
    out[kit.tongue, 2] = 2.6 * weight
    out[kit.tongue, 1] = 0.95 * weight - 0.35 * (part[:, 1] - tip[1]) * weight
    out[kit.tongue, 0] = -0.18 * part[:, 0] * weight
    return out


def expression_basis(kit: FaceKit, head: Array) -> Array:
    """[52, V, 3] deltas in the order of `ARKIT_52`."""
    index = {n: i for i, n in enumerate(kit.expression_names)}
    basis = np.zeros((len(ARKIT_52), *head.shape), np.float32)
    for i, name in enumerate(ARKIT_52):
        for own in mesh_names(name):
            basis[i] += kit.expression_deltas[index[own]]
    basis[ARKIT_52.index("tongueOut")] = tongue_delta(kit, head)
    for side, upper, lower in (("Left", (43, 44), (47, 46)), ("Right", (37, 38), (41, 40))):
        _close_fully(basis[ARKIT_52.index(f"eyeBlink{side}")], head, upper, lower)
    return basis


def _close_fully(blink: Array, head: Array, upper: tuple[int, int], lower: tuple[int, int]) -> None:
    """Scale a blink (in place) so that the lids of this identity just meet at 1."""
    top, bottom = LANDMARKS[list(upper)], LANDMARKS[list(lower)]
    gap = (head[top, 1] - head[bottom, 1]).mean()
    closing = (blink[bottom, 1] - blink[top, 1]).mean()
    blink *= (gap + LID_OVERLAP_CM) / closing


class EyeGuard:
    """Keeps the lids outside one eyeball, whose cornea bulges."""

    MARGIN_CM = 0.045

    def __init__(self, head: Array, eye: slice, blink: Array) -> None:
        ball = head[eye]
        self.centre: Array = (ball.max(0) + ball.min(0)) / 2
        moved = np.linalg.norm(blink[:SKIN_END], axis=1) > 0.02
        near = np.linalg.norm(head[:SKIN_END] - self.centre, axis=1) < 2.6
        self.lid: Index = np.flatnonzero(moved & near)
        ray = ball - self.centre
        reach = np.linalg.norm(ray, axis=1)
        cosine = ray[:, 2] / reach
        self._grid = np.linspace(-0.2, 1.0, 60)
        close = np.abs(cosine[None] - self._grid[:, None]) < 0.03
        self._radius = np.where(close, reach, 0).max(1)
        # Lids that touch the ball at rest (their inner rims) keep the distance they have.
        self._rest_shortfall = np.minimum(self._depth(head[self.lid], np.array([0, 0, 1.0], np.float32)), 0)

    def _depth(self, point: Array, gaze: Array) -> Array:
        """Distance outside the eyeball looking along `gaze`, minus the margin."""
        ray = point - self.centre
        reach = np.linalg.norm(ray, axis=1)
        wanted = np.interp((ray @ gaze) / reach, self._grid, self._radius) + self.MARGIN_CM
        depth: Array = reach - wanted
        return depth

    def push(self, points: Array, gaze: Array) -> None:
        """Move lid vertices (in place) out of the eyeball."""
        lid = points[self.lid]
        short = np.minimum(self._depth(lid, gaze) - self._rest_shortfall, 0)
        ray = lid - self.centre
        points[self.lid] = lid - ray / np.linalg.norm(ray, axis=1, keepdims=True) * short[:, None]


def gaze_angles(expression: NDArray[np.float64], side: str) -> tuple[float, float]:
    """(yaw to the avatar's left, pitch up) of one eyeball in radians."""
    value = {n: float(expression[ARKIT_52.index(f"eyeLook{n}{side}")]) for n in ("In", "Out", "Up", "Down")}
    outwards = value["Out"] - value["In"]
    yaw = np.radians(GAZE_DEGREES) * (outwards if side == "Left" else -outwards)
    pitch = 0.75 * np.radians(GAZE_DEGREES) * (value["Up"] - value["Down"])
    return float(yaw), float(pitch)


class Face:
    """The neutral head and everything that moves it."""

    def __init__(self, kit: FaceKit, head: Array) -> None:
        self.kit = kit
        self.head = head
        self.basis = expression_basis(kit, head)
        self._guards = {
            side: EyeGuard(head, eye, self.basis[ARKIT_52.index(f"eyeBlink{side}")])
            for side, eye in (("Left", EYE_LEFT), ("Right", EYE_RIGHT))
        }

    def pose(self, expression: NDArray[np.float64]) -> Array:
        """[V, 3] the head under `expression` [52] (values are not clipped)."""
        used = np.flatnonzero(expression)
        out = self.head.copy()
        for i in used:
            out += np.float32(expression[i]) * self.basis[i]
        for side, eye in (("Left", EYE_LEFT), ("Right", EYE_RIGHT)):
            yaw, pitch = gaze_angles(expression, side)
            rotation, guard = turn(yaw, pitch), self._guards[side]
            out[eye] = (self.head[eye] - guard.centre) @ rotation.T + guard.centre
            guard.push(out, rotation[:, 2])
        return out


def turn(yaw: float, pitch: float) -> Array:
    """A 3x3 rotation: pitch up about x, then yaw towards +x about y (radians)."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return (about_y @ about_x).astype(np.float32)
