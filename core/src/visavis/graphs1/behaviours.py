"""What a living face does by itself: it blinks, looks about a little and lifts its brows.

Driven by the count of drawn frames, so it goes on alike in speech and in idle, and equal seeds give equal faces.
All of it is laid over the motion graph's coefficients (profile ``arkit-52``) and moves in steps so small that
nobody sees them: a face at rest then often repeats a vector, or one like it, and need not be drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visavis.graphs1.motion import Vector

# Seconds from the start of one blink to the next: a log-normal, whose mean is about 4.
BLINK_MEDIAN: Final = 3.6
BLINK_SPREAD: Final = 0.45
BLINK_GAP: Final = (1.2, 8.0)
AFTER_HEARD: Final = 1.4
"""How much longer the wait is after a blink that came from the motion graph, so that both together stay natural."""

# People blink where they pause: a blink that is nearly due comes then, if the latest one was this long ago.
PAUSE: Final = 0.16
DUE_WITHIN: Final = 1.5
LONG_AGO: Final = 2.6

CLOSING: Final = 0.09
CLOSED: Final = 0.04
OPENING: Final = 0.17

EYE_DEGREES: Final = (26.0, 20.0)
"""The eye's turn at a coefficient of 1: to a side, and up or down."""
EYE_REACH: Final = 15.0
GAZE_STEPS: Final = 64
BROW_STEPS: Final = 128

UNSEEN_GAZE: Final = 2.5 / GAZE_STEPS
"""A turn of the eyes by no more (about one degree) is not seen where nothing else moves."""
UNSEEN_BROW: Final = 3.5 / BROW_STEPS


def smooth(x: float) -> float:
    """0 to 1 without corners at the ends."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def draw_interval(random: Random, median: float, spread: float, bounds: tuple[float, float]) -> float:
    """Seconds to the next event: log-normal within bounds."""
    return min(max(median * math.exp(random.gauss(0.0, spread)), bounds[0]), bounds[1])


def chance(seed: str, name: str) -> Random:
    """A stream of chance, the same for the same words on every machine."""
    return Random(f"{seed}/{name}")  # noqa: S311 - blinks are no secrets


def lid_at(age: float) -> float:
    """How far a blink that began ``age`` seconds ago has shut the lids, 0..1."""
    if age < CLOSING:
        return smooth(age / CLOSING)
    return 1.0 - smooth((age - CLOSING - CLOSED) / OPENING)


class Blinks:
    """Lids: own blinks at a natural rate, kept apart from those that the motion graph makes."""

    def __init__(self, random: Random, frame: float) -> None:
        self._random = random
        self._frame = frame
        self._now = 0.0
        self._began = -math.inf  # the latest blink, whoever made it
        self._own = -math.inf
        self._next = random.uniform(0.6, 2.5)
        self._hears = self._counted = False
        self._muted = False

    def step(self, heard: float, pauses: bool) -> tuple[float, float]:
        """The next frame: how far own blinks shut the lids, and the weight of the motion graph's (0 or 1).

        ``heard`` is how far the motion graph shuts them; ``pauses`` says that speech has just paused.
        """
        self._now += self._frame
        self._listen(heard)
        if pauses and self._next - self._now < DUE_WITHIN and self._now - self._began > LONG_AGO:
            self._next = self._now
        if self._now >= self._next:
            self._begin(1.0)
            self._own = self._now - self._frame
        return lid_at(self._now - self._own), 0.0 if self._muted else 1.0

    def _listen(self, heard: float) -> None:
        if heard < 0.1:
            self._hears = self._counted = self._muted = False
        elif heard > 0.15 and not self._hears:
            self._hears = True
            self._muted = self._now - self._began < BLINK_GAP[0]
        if heard > 0.35 and self._hears and not (self._counted or self._muted):
            self._counted = True
            self._begin(AFTER_HEARD)

    def _begin(self, patience: float) -> None:
        self._began = self._now
        self._next = self._now + patience * draw_interval(self._random, BLINK_MEDIAN, BLINK_SPREAD, BLINK_GAP)


class Pauses:
    """Notices that a speaker pauses, by the jaw."""

    def __init__(self, frame: float) -> None:
        self._frame = frame
        self._spoke = False
        self._still = 0.0

    def step(self, jaw: float) -> bool:
        """The next frame; True once at the beginning of each pause."""
        if jaw > 0.1:
            self._spoke, self._still = True, 0.0
        elif jaw < 0.03:
            self._still += self._frame
        begins = self._spoke and self._still >= PAUSE
        if begins:
            self._spoke = False
        return begins


class Gaze:
    """Where the eyes look, in degrees from the viewer: (to the avatar's left, up). Mostly at the viewer."""

    def __init__(self, random: Random, frame: float) -> None:
        self._random = random
        self._frame = frame
        self._left = random.uniform(0.8, 2.5)
        self._from = self._to = (0.0, 0.0)
        self._share = 1.0  # of the way from the one to the other
        self._stride = 1.0

    def step(self) -> tuple[float, float]:
        """The next frame's direction."""
        self._left -= self._frame
        if self._left <= 0:
            self._look()
        self._share = min(1.0, self._share + self._stride)
        (x0, y0), (x1, y1) = self._from, self._to
        return x0 + (x1 - x0) * self._share, y0 + (y1 - y0) * self._share

    def _look(self) -> None:
        random, away = self._random, math.hypot(*self._to) > 2.5
        glance = random.random() < (0.15 if away else 0.35)
        self._from = self._to
        if glance:
            side = 1 if random.random() < 0.5 else -1
            self._to = (side * random.uniform(3.0, 7.0), random.uniform(-4.0, 2.0))
        else:
            self._to = (random.uniform(-1.2, 1.2), random.uniform(-0.8, 0.8))
        self._left = draw_interval(random, 1.3 if glance else 2.0, 0.35, (1.0, 3.5))
        # A saccade of a few degrees takes one frame, a larger one two.
        distance = math.hypot(self._to[0] - self._from[0], self._to[1] - self._from[1])
        self._share, self._stride = 0.0, 1.0 if distance < 3 else 0.6


class Brows:
    """A small lift of the brows now and then."""

    RISE: Final = 0.4
    FALL: Final = 0.7

    def __init__(self, random: Random, frame: float) -> None:
        self._random = random
        self._frame = frame
        self._plan(random.uniform(1.0, 5.0))

    def _plan(self, wait: float) -> None:
        self._wait = wait
        self._age = 0.0
        self._hold = self._random.uniform(0.3, 1.2)
        self._inner = self._random.uniform(0.03, 0.12)
        self._outer = self._inner * self._random.uniform(0.4, 0.9)

    def step(self) -> tuple[float, float]:
        """The next frame's lift: inner, outer."""
        self._age += self._frame
        age = self._age - self._wait
        level = smooth(age / self.RISE) - smooth((age - self.RISE - self._hold) / self.FALL)
        lift = self._inner * level, self._outer * level
        if age > self.RISE + self._hold + self.FALL:
            self._plan(self._random.uniform(2.5, 7.0))
        return lift


class Behaviours:
    """All of it for one session, by the names of the coefficients.

    ``seed`` is any text: the same text gives the same behaviour.
    """

    def __init__(self, names: Sequence[str], fps: Fraction, seed: str) -> None:
        frame = float(1 / fps)
        self._at = {name: index for index, name in enumerate(names)}
        self._lids = self._indices("eyeBlinkLeft", "eyeBlinkRight")
        self._squints = self._indices("eyeSquintLeft", "eyeSquintRight")
        sides = ("Left", "Right")
        # Rows: the four coefficients of an eye that looks to the avatar's left, to its right, up, down.
        self._looks = [
            self._indices("eyeLookOutLeft", "eyeLookInRight"),
            self._indices("eyeLookInLeft", "eyeLookOutRight"),
            self._indices(*(f"eyeLookUp{side}" for side in sides)),
            self._indices(*(f"eyeLookDown{side}" for side in sides)),
        ]
        self._jaw = self._at["jawOpen"]
        self._brow_inner = self._indices("browInnerUp")
        self._brow_outer = self._indices(*(f"browOuterUp{side}" for side in sides))
        # A stream of chance for each, so that one does not disturb the others.
        self._blinks = Blinks(chance(seed, "blinks"), frame)
        self._pauses = Pauses(frame)
        self._gaze = Gaze(chance(seed, "gaze"), frame)
        self._brows = Brows(chance(seed, "brows"), frame)
        # One lid shuts a little less than the other, as in people.
        self._lid_share = np.array([1.0, 1.0 - 0.03 * chance(seed, "lids").random()], np.float32)
        self._unseen: Vector = np.zeros(len(names), np.float32)
        self._unseen[np.concatenate(self._looks)] = UNSEEN_GAZE
        self._unseen[np.concatenate([self._brow_inner, self._brow_outer])] = UNSEEN_BROW

    def _indices(self, *names: str) -> NDArray[np.intp]:
        return np.array([self._at[name] for name in names], np.intp)

    def alike(self, one: Vector, other: Vector) -> bool:
        """Whether two expressions look the same on a face at rest: eyes and brows may differ by what nobody sees."""
        return bool((np.abs(one - other) <= self._unseen).all())

    def step(self, expression: Vector, pose: NDArray[np.float64]) -> Vector:
        """The next frame: ``expression`` (``[E]``, left as it is) with blinks, gaze and brows laid over it.

        ``pose`` is the base frame's yaw, pitch and roll in degrees, against which the eyes turn. Result in 0..1.
        """
        out: Vector = expression.copy()
        self._add_gaze(out, pose)
        inner, outer = self._brows.step()
        out[self._brow_inner] += round(inner * BROW_STEPS) / BROW_STEPS
        out[self._brow_outer] += round(outer * BROW_STEPS) / BROW_STEPS
        heard = expression[self._lids]
        shut, weight = self._blinks.step(float(heard.max()), self._pauses.step(float(expression[self._jaw])))
        out[self._lids] = np.maximum(heard * np.float32(weight), np.float32(shut) * self._lid_share)
        out[self._squints] += np.float32(0.12 * shut)
        return np.clip(out, 0.0, 1.0, out=out)

    def _add_gaze(self, out: Vector, pose: NDArray[np.float64]) -> None:
        left, up = self._gaze.step()
        for turn, full, rows in (
            (left - float(pose[0]), EYE_DEGREES[0], self._looks[:2]),
            (up - float(pose[1]), EYE_DEGREES[1], self._looks[2:]),
        ):
            reach = min(max(turn, -EYE_REACH), EYE_REACH)
            amount = round(reach / full * GAZE_STEPS) / GAZE_STEPS
            if amount:
                out[rows[0 if amount > 0 else 1]] += np.float32(abs(amount))
