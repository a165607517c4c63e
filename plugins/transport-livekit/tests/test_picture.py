"""When pictures are shown: on time, the newest one, and the last one again where one is missing."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
import pytest
from livekit import rtc
from visavis.media import VideoFormat, VideoFrame
from visavis.metrics import MemoryMetrics
from visavis_transport_livekit.picture import Picture

pytestmark = pytest.mark.anyio

SIZE = 16


class Shown:
    """Takes the place of the SDK's source: the brightness of what it was given, in order."""

    def __init__(self, picture: Picture) -> None:
        self.levels: list[int] = []
        picture.source.capture_frame = self._capture  # type: ignore[method-assign]

    def _capture(self, frame: rtc.VideoFrame, **_: object) -> None:
        self.levels.append(int(np.frombuffer(frame.data, np.uint8)[0]))


def grey(level: int) -> VideoFrame:
    return VideoFrame(SIZE, SIZE, np.full((SIZE * 3 // 2, SIZE), level, np.uint8))


@pytest.fixture
def metrics() -> MemoryMetrics:
    return MemoryMetrics()


async def test_a_missing_picture_is_the_last_one_again(metrics: MemoryMetrics) -> None:
    picture = Picture(VideoFormat(SIZE, SIZE, Fraction(25)), metrics)
    shown, now = Shown(picture), asyncio.get_running_loop().time()
    picture.repeat(now)  # there is nothing to show yet
    for number, level in enumerate((10, None, 20, None, None, 30)):
        due = now + 0.02 * number
        if level is None:
            picture.repeat(due)
        else:
            picture.show(grey(level), due)
    while len(shown.levels) < 6:  # noqa: ASYNC110 - the SDK's source tells nobody
        await asyncio.sleep(0.01)
    assert shown.levels == [10, 10, 20, 20, 20, 30]
    assert metrics.total("visavis_repeated_pictures_total") == 3
    await picture.aclose()
    picture.repeat(now)
    assert len(shown.levels) == 6


async def test_of_several_that_are_due_the_newest_is_shown(metrics: MemoryMetrics) -> None:
    picture = Picture(VideoFormat(SIZE, SIZE, Fraction(25)), metrics)
    shown, now = Shown(picture), asyncio.get_running_loop().time()
    for level in (10, 20, 30):
        picture.show(grey(level), now - 0.01)
    await asyncio.sleep(0.05)
    assert shown.levels == [30]
    assert metrics.total("visavis_overtaken_pictures_total") == 2
    await picture.aclose()
