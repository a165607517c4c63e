"""One session's stream of sound through the motion graph, and how its face comes to rest."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visavis.hvia import Motion

Vector = NDArray[np.float32]
"""Expression coefficients, float32 ``[E]``."""

FORGET_AFTER: Final = 2.0
"""Seconds of idle pictures after which a stream starts from zeros: what was said before then no longer matters."""


def steps_ahead(motion: Motion) -> int:
    """How many steps a picture lags behind its sound: the graph's look-ahead, and filling a call of several frames."""
    return motion.look_ahead_frames + motion.frames - 1


class SoundStream:
    """Cuts a session's sound into the motion graph's calls and hands out one expression a step.

    ``state`` is float32 ``[S]``, zeros at the start. The owner runs the graph: :meth:`hear` gives the call's sound,
    :meth:`take` wants what came out.
    """

    def __init__(self, motion: Motion, fps: Fraction) -> None:
        self._frames = motion.frames
        self._forget_after = round(FORGET_AFTER * fps)
        self.state: NDArray[np.float32] = np.zeros(motion.state, np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._ready: deque[Vector] = deque()
        self._paused = 0

    def hear(self, pcm: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take one frame's sound; gives the sound of a call (float32 ``[hop]``) whenever one is full."""
        if self._paused > self._forget_after:
            self.state = np.zeros_like(self.state)
        self._paused = 0
        if self._frames == 1:
            return pcm
        self._waiting.append(pcm)
        if len(self._waiting) < self._frames:
            return None
        call = np.concatenate(self._waiting)
        self._waiting.clear()
        return call

    def take(self, expressions: NDArray[np.float32], state: NDArray[np.float32]) -> None:
        """What the call put out: ``[T, E]`` and ``[S]``."""
        self._ready.extend(expressions)
        self.state = state

    def next(self) -> Vector | None:
        """The expression of this step; None while the first call is being filled."""
        return self._ready.popleft() if self._ready else None

    def pause(self) -> None:
        """An idle picture: no sound was heard. A call that is half full is dropped."""
        self._paused += 1
        self._waiting.clear()
        self._ready.clear()

    def reset(self) -> None:
        """Forget all sound."""
        self.state = np.zeros_like(self.state)
        self._waiting.clear()
        self._ready.clear()
        self._paused = 0


class Easing:
    """Moves from a held expression to wherever the face should be, over some frames and without a corner."""

    def __init__(self, size: int) -> None:
        self._held: Vector = np.zeros(size, np.float32)
        self._frames = 0
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether the held expression has no weight any more."""
        return self._at >= self._frames

    def start(self, held: Vector, frames: int) -> None:
        """Begin at ``held``; after ``frames`` calls of :meth:`towards` nothing of it is left."""
        self._held = held.copy()
        self._frames = frames
        self._at = 0

    def towards(self, target: Vector) -> Vector:
        """The next frame's expression."""
        self._at = min(self._at + 1, self._frames)
        if self.done:
            return target
        x = self._at / self._frames
        weight = np.float32(1 - x * x * (3 - 2 * x))
        mixed: Vector = target + weight * (self._held - target)
        return mixed
