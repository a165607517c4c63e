"""Random expressions to draw: what speech produces, densely where the eye is critical."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motion.visemes import NAMES, POSES

from .coefficients import ARKIT_52

Row = NDArray[np.float64]
INDEX = {n: i for i, n in enumerate(ARKIT_52)}
EYE_NAMES = tuple(n for n in ARKIT_52 if n.startswith(("eye", "brow")))
MOUTH_NAMES = tuple(n for n in ARKIT_52 if n not in EYE_NAMES)
LIPS_TOGETHER = ("pbm", "fv", "sil", "s", "td", "uw", "w")


def _set(row: Row, name: str, value: float, rng: np.random.Generator) -> None:
    """Set a coefficient, or both sides of one nearly alike."""
    if name in INDEX:
        row[INDEX[name]] = value
        return
    lean = 1 + 0.05 * rng.normal()
    row[INDEX[name + "Left"]] = value * lean
    row[INDEX[name + "Right"]] = value * (2 - lean)


EXTRAS = (
    "mouthFunnel mouthPucker mouthSmile mouthFrown mouthDimple mouthStretch mouthRollLower mouthRollUpper "
    "mouthShrugLower mouthShrugUpper mouthPress mouthLowerDown mouthUpperUp cheekPuff cheekSquint noseSneer "
    "jawForward jawLeft jawRight mouthLeft mouthRight tongueOut jawOpen mouthClose"
).split()


def _visemes(rng: np.random.Generator, names: tuple[str, ...], count: int) -> Row:
    pick = rng.choice(len(names), count, replace=False)
    weight = rng.dirichlet([0.7] * count)
    rows = POSES[[NAMES.index(names[i]) for i in pick]].astype(np.float64)
    out: Row = weight @ rows
    return out


def _sprinkle(row: Row, rng: np.random.Generator, chance: float, most: float) -> None:
    for name in EXTRAS:
        if rng.random() < chance:
            small = 0.4 if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight", "cheekPuff") else 1.0
            extra = np.zeros_like(row)
            _set(extra, name, rng.beta(1, 2.5) * most * small, rng)
            row += extra


def mouth_row(rng: np.random.Generator) -> Row:
    """[52] one expression of the lower face."""
    kind = rng.choice(6, p=[0.40, 0.24, 0.10, 0.10, 0.10, 0.06])
    row = np.zeros(len(ARKIT_52))
    if kind == 0:  # anything speech passes through
        row = _visemes(rng, NAMES, int(rng.integers(2, 4))) * rng.uniform(0.3, 1.2)
        if rng.random() < 0.35:  # a jaw freer than the table's
            row[INDEX["jawOpen"]] += rng.beta(1.2, 2.5) * 0.6
        _sprinkle(row, rng, 0.05, 0.35)
    elif kind == 1:  # lips together or nearly so
        row = _visemes(rng, LIPS_TOGETHER, 2) * rng.uniform(0.2, 1.2)
        row[INDEX["jawOpen"]] += rng.beta(1, 5) * 0.25
        if rng.random() < 0.5:
            row[INDEX["mouthClose"]] += row[INDEX["jawOpen"]] * rng.uniform(0.2, 1.0)
        _sprinkle(row, rng, 0.04, 0.25)
    elif kind == 2:  # one viseme, clean
        row = POSES[rng.integers(len(NAMES))] * rng.uniform(0.5, 1.2)
    elif kind == 3:  # speech with a smile
        row = _visemes(rng, NAMES, 2) * rng.uniform(0.3, 1.1)
        smile = np.zeros_like(row)
        _set(smile, "mouthSmile", rng.uniform(0.1, 0.7), rng)
        _set(smile, "cheekSquint", rng.uniform(0, 0.5), rng)
        row += smile
    elif kind == 4:  # far out
        row[INDEX["jawOpen"]] = rng.beta(1.0, 1.6)
        _sprinkle(row, rng, 0.28, 1.0)
    else:  # one shape alone
        _set(row, EXTRAS[int(rng.integers(len(EXTRAS)))], rng.uniform(0.2, 1.0), rng)
        row[INDEX["jawOpen"]] += rng.beta(1, 4) * 0.5
    side = np.array([n.endswith(("Left", "Right")) for n in ARKIT_52])
    row = row * np.where(side, 1 + 0.05 * rng.normal(size=len(row)), 1.0)
    # mouthClose pulls the lips together over an open jaw; without one it would fold them.
    row[INDEX["mouthClose"]] = min(row[INDEX["mouthClose"]], row[INDEX["jawOpen"]] + 0.02)
    row[[INDEX[n] for n in EYE_NAMES]] = 0
    return np.clip(row, 0, 1)


def _gaze(row: Row, rng: np.random.Generator) -> None:
    yaw, pitch = rng.normal(0, 0.30), rng.normal(-0.05, 0.28)
    for side, out in (("Left", yaw), ("Right", -yaw)):
        turn = out + rng.normal(0, 0.02)
        row[INDEX[("eyeLookOut" if turn > 0 else "eyeLookIn") + side]] = abs(turn)
        row[INDEX[("eyeLookUp" if pitch > 0 else "eyeLookDown") + side]] = abs(pitch)


def eyes_row(rng: np.random.Generator) -> Row:
    """[52] one expression of brows, lids and gaze."""
    row = np.zeros(len(ARKIT_52))
    if rng.random() < 0.75:
        _gaze(row, rng)
    kind = rng.random()
    if kind < 0.55:
        lid = rng.beta(0.6, 0.7)
        _set(row, "eyeBlink", lid, rng)
    elif kind < 0.75:
        row[INDEX["eyeBlinkLeft"]], row[INDEX["eyeBlinkRight"]] = rng.beta(1, 3, 2)
    for name, chance, most in (
        ("eyeSquint", 0.30, 0.8),
        ("eyeWide", 0.22, 0.8),
        ("browDown", 0.25, 0.8),
        ("browOuterUp", 0.28, 0.8),
        ("browInnerUp", 0.35, 0.9),
        ("cheekSquint", 0.25, 0.8),
        ("noseSneer", 0.12, 0.6),
    ):
        if rng.random() < chance:
            _set(row, name, rng.beta(1, 1.5) * most, rng)
    return np.clip(row, 0, 1)


def whole_row(rng: np.random.Generator) -> Row:
    """[52] both halves at once."""
    return np.clip(mouth_row(rng) + eyes_row(rng), 0, 1)
