"""What the encoder sends before the first picture, so that whoever waits for that one gets it at once.

LiveKit's server forwards pictures from a key frame on, and asks the publisher for one when somebody subscribes, once in
half a second at most. The first it asks for is often lost: the stream's very first packets come before the server knows
that they can be forwarded, and on a short line an answer is there before the subscriber can take it. Then a viewer
waits for the next half second. An encoder begins with a key frame of its own accord when the size of its pictures
changes: a dark picture of another size opens the stream, and the first real one is a key frame whoever asked for what.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from livekit import rtc
from visavis.media import VideoFormat

NARROWER: Final = 4
"""Pixels by which the dark picture is narrower: libwebrtc encodes widths that are multiples of 4 (in VP8)."""
BEAT: Final = 0.01
"""Seconds between two looks at what the encoder has done."""
PATIENCE: Final = 12
"""Looks after which a picture counts as not taken. A second one would be forwarded and seen, so none is sent sooner."""


class Overture:
    """The dark picture, for a source that no real one has come to yet. Made before its track is published."""

    def __init__(self, video: VideoFormat, source: rtc.VideoSource) -> None:
        self._dark = _dark(max(4, video.width - NARROWER), video.height)
        self._source = source
        source.capture_frame(self._dark)  # nobody gets it; the SDK has dark pictures of its own until the first comes

    async def play(self, track: rtc.LocalVideoTrack) -> None:
        """Let the encoder of the published track take the dark picture once."""
        looks = 0
        while not (encoded := await _encoded(track)):
            if encoded is not None:
                if looks % PATIENCE == 0:
                    self._source.capture_frame(self._dark)
                looks += 1
            await asyncio.sleep(BEAT)


async def _encoded(track: rtc.LocalVideoTrack) -> int | None:
    """How many pictures have been encoded; None before the connection has agreed on the track, and where it is lost."""
    with contextlib.suppress(Exception):  # the SDK raises bare ones; what is wrong will be noticed elsewhere
        for stats in await track.get_stats():
            if stats.HasField("outbound_rtp"):
                return int(stats.outbound_rtp.outbound.frames_encoded)
    return None


def _dark(width: int, height: int) -> rtc.VideoFrame:
    luma, chroma = width * height, 2 * ((width + 1) // 2) * ((height + 1) // 2)
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, b"\x10" * luma + b"\x80" * chroma)
