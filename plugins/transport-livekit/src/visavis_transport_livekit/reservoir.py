"""What libwebrtc's queue in front of the sound's encoder holds, worked out from what was put into it.

How that queue works (webrtc-sys/src/audio_track.cpp and libwebrtc/src/native/audio_source.rs of livekit/rust-sdks, and
checked at a subscriber by ``bench/livekit``): a thread of its own wakes every 10 ms on an absolute grid, catching up if
it was late, and takes 10 ms of samples if that much is there. If not, that tick sends nothing, and the receiver hears a
gap; after ten such ticks it sends silence. ``AudioSource.capture_frame`` returns at once while no more than
``queue_size_ms`` is held, else with the tick that brings it down to that.

``AudioSource.queued_duration`` knows none of this: it counts the time since the last push, by the sample. What it calls
queued may be 10 ms less than what is, and after a tick that found nothing it stays wrong for good. The account here
follows the ticks, and each ``capture_frame`` that had to wait tells when a tick was.
"""

from __future__ import annotations

import math
from typing import Final

TICK: Final = 0.010
"""Seconds between two takings: RepeatingTaskHandle's delay in audio_track.cpp."""
CALLBACK: Final = 0.0005
"""Seconds from a tick until this process's event loop knows of it, at best (measured, idle machine: 0.3-0.7 ms)."""
WINDOW: Final = 25
"""Reports over which the least delay is sought, about a second: one alone may be late by the loop's own delay."""


class Reservoir:
    """The account of one queue. Positions count samples since the beginning; times are those of the event loop."""

    def __init__(self, rate: int, threshold_ms: int, now: float) -> None:
        self.tick = rate // 100
        """Samples taken at a time."""
        self.threshold = threshold_ms * rate // 1000
        """``capture_frame`` returns once no more samples than this are held."""
        self.entered = 0
        """Samples put in."""
        self.left = 0
        """Samples taken out, as of the last ``settle``."""
        self.dry = 0
        """Ticks that found too little, since the first push."""
        self._at = now  # the last tick that is accounted for
        self._delays: list[float] = []

    @property
    def level(self) -> int:
        """Samples held, as of the last ``settle``."""
        return self.entered - self.left

    def settle(self, now: float) -> int:
        """Account for the ticks until now; returns how many of them found too little."""
        ticks = math.floor((now - self._at) / TICK)
        if ticks <= 0:
            return 0
        self._at += ticks * TICK
        taken = min(ticks, self.level // self.tick)
        self.left += taken * self.tick
        missed = ticks - taken if self.entered else 0
        self.dry += missed
        return missed

    def push(self, samples: int) -> float | None:
        """So many samples were put in now (``settle`` first).

        Returns when the queue will have come down to the threshold; None if it is there already.
        """
        self.entered += samples
        over = self.level - self.threshold
        return None if over <= 0 else self._at + math.ceil(over / self.tick) * TICK

    def reported(self, expected: float | None, now: float) -> None:
        """``capture_frame`` has returned: it was expected to at that time, as ``push`` told.

        Earlier than expected the tick cannot have been later than now. Later may be the tick or this process's own
        delay: only the least delay of many is the tick's.
        """
        if expected is None:
            return
        delay = now - expected - CALLBACK
        if delay < 0:
            self._at += delay
            self._delays.clear()
            return
        self._delays.append(delay)
        if len(self._delays) >= WINDOW:
            self._at += min(self._delays)
            self._delays.clear()

    def clear(self, now: float) -> None:
        """The queue was emptied."""
        self.settle(now)
        self.left = self.entered

    def leaves_at(self, position: int) -> float:
        """When the sample at that position leaves, if nothing goes wrong: also for one that is yet to be put in.

        A tick takes 10 ms of sound as a microphone hands them over: once they have passed. So its first sample left
        when the tick before it was.
        """
        return self._at + (max(0, position - self.left) / self.tick) * TICK
