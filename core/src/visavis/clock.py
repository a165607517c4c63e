"""Deadlines on the media clock: absolute, so that they do not drift."""

from __future__ import annotations

import math
from fractions import Fraction

import anyio


class FrameGrid:
    """A grid of frame times that starts when it is made; frame n falls due at ``start + n / fps`` seconds.

    Times are those of the event loop (``anyio.current_time``), so a virtual clock works too.
    """

    def __init__(self, fps: Fraction, start: float | None = None) -> None:
        self.fps = fps
        self.start = anyio.current_time() if start is None else start

    @classmethod
    def shared(cls, fps: Fraction) -> FrameGrid:
        """The grid that begins next of those that start at a whole number of frames on the loop's clock.

        Whoever asks for it, whenever, has frames due at the same times as all others of this rate: their pictures can
        be drawn in one call.
        """
        return cls(fps, float(math.ceil(anyio.current_time() * fps) / fps))

    def due(self, index: int) -> float:
        """When frame ``index`` falls due, in the loop's seconds."""
        return self.start + float(index / self.fps)

    async def wait(self, index: int) -> float:
        """Sleep until frame ``index`` is due; returns by how many seconds it is late (0 if on time)."""
        await anyio.sleep_until(self.due(index))
        return max(0.0, anyio.current_time() - self.due(index))
