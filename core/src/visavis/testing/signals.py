"""Sound and pictures that checks send, chosen so that what arrives tells what happened on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from visavis.media import AudioFormat, PairedFrame, Pcm, VideoFormat, VideoFrame, samples_before
from visavis.testing.checks import expect

WINDOW: Final = 0.1
"""Seconds of sound that are compared at a time where a codec changed them."""
LAG: Final = 0.004
"""Seconds by which a codec may shift sound."""
ALIKE: Final = 0.7
"""Correlation of a window with what was sent; that of other windows stays far below."""
LUMA_TOLERANCE: Final = 10.0
"""Grey levels by which a codec may change a plain picture."""


@dataclass(frozen=True)
class Readback:
    """What came out at the far end, in order.

    ``sound`` is float32 ``[samples, channels]`` at ``rate``; ``lumas`` holds the mean luma (0..255) of each picture.
    """

    sound: Pcm
    rate: int
    lumas: Sequence[float]


def tune(samples: int, audio: AudioFormat, *, start: int = 0, low: float = 180.0) -> Pcm:
    """A rising tone of which no two windows sound alike; ``start`` samples of it are over. Channels differ in level."""
    seconds = (start + np.arange(samples)) / audio.rate
    wave = 0.4 * np.sin(2 * np.pi * (low + 110.0 * seconds) * seconds)
    levels = 1.0 / (1 + np.arange(audio.channels))
    return (wave[:, None] * levels[None, :]).astype(np.float32)


def plain(video: VideoFormat, luma: int) -> VideoFrame:
    """A grey picture."""
    data = np.full((video.height * 3 // 2, video.width), 128, np.uint8)
    data[: video.height] = luma
    return VideoFrame(video.width, video.height, data)


def paired(
    video: VideoFormat, audio: AudioFormat, count: int, *, first: int = 0, low: float = 180.0
) -> Iterator[PairedFrame]:
    """``count`` frames from number ``first`` on: pictures that brighten, and the tune in its slots."""
    fps: Fraction = video.fps
    for index in range(first, first + count):
        begin, end = samples_before(index, audio.rate, fps), samples_before(index + 1, audio.rate, fps)
        yield PairedFrame(index, tune(end - begin, audio, start=begin, low=low), plain(video, luma_of(index)))


def luma_of(index: int) -> int:
    """The luma of frame ``index``: steps that a codec keeps apart, 40..216, over and over."""
    return 40 + 22 * (index % 9)


def sound_of(frames: Sequence[PairedFrame]) -> Pcm:
    """All their sound."""
    return np.concatenate([frame.audio for frame in frames])


def expect_sound(have: Pcm, want: Pcm, rate: int, *, exact: bool) -> None:
    """What arrived is what was sent: to the bit but for rounding, or as alike as a codec leaves it."""
    __tracebackhide__ = True
    expect(have.ndim == 2 and have.shape[1] == want.shape[1], f"sound of shape {have.shape} for {want.shape}")
    off = len(have) - len(want)
    expect(abs(off) <= (0 if exact else rate // 50), f"{len(have)} samples arrived of {len(want)} that were sent")
    if exact:
        worst = float(np.abs(have - want).max(initial=0.0))
        expect(worst <= 1e-4, f"a sample that arrived differs by {worst:g} from what was sent")
        return
    size = int(WINDOW * rate)
    for begin in range(size, len(want) - 2 * size, size):  # a codec needs a moment to begin and to end
        alike = _alike(have[:, 0], want[begin : begin + size, 0], begin, int(LAG * rate))
        expect(alike >= ALIKE, f"the sound from {begin / rate:.2f} s on is not what was sent ({alike:.2f})")


def _alike(have: Pcm, want: Pcm, begin: int, reach: int) -> float:
    """The best correlation of ``want`` with what lies at ``begin`` or ``reach`` samples about it; 0 for silence."""
    part = have[max(0, begin - reach) : begin + len(want) + reach].astype(np.float64)
    if len(part) < len(want):
        return 0.0
    products = np.correlate(part, want.astype(np.float64), "valid")
    energy = np.convolve(part**2, np.ones(len(want)), "valid")
    norms = np.sqrt(np.maximum(energy, 1e-9) * float((want.astype(np.float64) ** 2).sum() + 1e-9))
    return float((products / norms).max())
