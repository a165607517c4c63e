"""The pictures' way out: each goes to the encoder at its time, when its sound leaves."""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np
from livekit import rtc
from visavis.media import VideoFormat, VideoFrame
from visavis.metrics import Metrics

CATCHING_UP = 0.010
"""Seconds by which each picture after an interrupt comes nearer to its sound again: nobody sees 50 ms for 40."""


class Picture:
    """One published picture."""

    def __init__(self, video: VideoFormat, metrics: Metrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self.source = rtc.VideoSource(video.width, video.height)
        self._waiting: deque[tuple[float, VideoFrame]] = deque()  # as many as there are frames of sound ahead
        self._timer: asyncio.TimerHandle | None = None
        self._last: VideoFrame | None = None  # the one that came last
        self._ahead = 0.0  # seconds by which pictures come before their sound
        self._closed = False

    def show(self, frame: VideoFrame, due: float) -> None:
        """Let a picture be seen at that time of the loop."""
        if self._closed:
            return
        self._last = frame
        due -= self._ahead
        self._ahead = max(0.0, self._ahead - CATCHING_UP)
        self._waiting.append((due, frame))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fire)

    def repeat(self, due: float) -> None:
        """Let the last picture be seen once more at that time: one that is missing would halve the frame rate for a
        moment, and two of them be seen as a gap."""
        if self._last is not None and not self._closed:
            self._metrics.count("visavis_repeated_pictures_total")
            self.show(self._last, due)

    def _fire(self) -> None:
        """Show the newest picture that is due; an older one that is still there would only be in its way."""
        self._timer = None
        frame, now = None, self._loop.time()
        while self._waiting and self._waiting[0][0] <= now + 0.001:
            if frame is not None:
                self._metrics.count("visavis_overtaken_pictures_total")
            frame = self._waiting.popleft()[1]
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._fire)
        if frame is not None:
            self.source.capture_frame(_native(frame))

    def flush(self, ahead: float = 0.0) -> None:
        """Forget the pictures that wait; those that come next, of a mouth that shuts, do not wait for their silence.

        ``ahead`` is by how many seconds they would have waited.
        """
        self._ahead = ahead
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """Let go of the source. May be called twice."""
        self._closed = True
        self.flush()
        await self.source.aclose()


def _native(frame: VideoFrame) -> rtc.VideoFrame:
    """A picture for the SDK, which copies it once; it takes flat writable memory as it is."""
    flat = np.ascontiguousarray(frame.data).reshape(-1)
    data = flat.data if flat.flags.writeable else flat.tobytes()
    return rtc.VideoFrame(frame.width, frame.height, rtc.VideoBufferType.I420, data)
