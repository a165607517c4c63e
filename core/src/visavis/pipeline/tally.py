"""How many frames were late of late, over all sessions: what admission goes by."""

from __future__ import annotations

from typing import Final

WINDOW: Final = 10
"""Seconds that count."""


class Tally:
    """Counts frames and late frames in buckets of a second."""

    def __init__(self) -> None:
        self._second = 0
        self._frames = [0] * WINDOW
        self._late = [0] * WINDOW

    def add(self, now: float, late: bool) -> None:
        """Count a frame at a time in the event loop's seconds."""
        self._forward(int(now))
        at = self._second % WINDOW
        self._frames[at] += 1
        self._late[at] += late

    def recent(self, now: float) -> tuple[int, int]:
        """Frames and late frames of the last ten seconds."""
        self._forward(int(now))
        return sum(self._frames), sum(self._late)

    def _forward(self, second: int) -> None:
        if second > self._second:
            for passed in range(max(self._second + 1, second - WINDOW + 1), second + 1):
                self._frames[passed % WINDOW] = self._late[passed % WINDOW] = 0
            self._second = second
