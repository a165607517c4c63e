"""Sound and pictures as they travel: formats, slices, frames.

Sound is float32 in -1..1, shape ``[samples, channels]``. Pictures are I420 (BT.601, limited range).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.float32]
"""float32 ``[samples, channels]``, -1..1."""
Plane = NDArray[np.uint8]

MIN_RATE: Final = 4_000
MAX_RATE: Final = 384_000
MAX_CHANNELS: Final = 32


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A rate in Hz and a number of channels."""

    rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise ValueError(f"a sample rate of {self.rate} Hz is outside {MIN_RATE}..{MAX_RATE}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ValueError(f"{self.channels} channels are outside 1..{MAX_CHANNELS}")


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """Width and height in pixels (both even) and pictures a second."""

    width: int
    height: int
    fps: Fraction

    def __post_init__(self) -> None:
        if self.width < 2 or self.height < 2 or self.width % 2 or self.height % 2:
            raise ValueError(f"a frame of {self.width}x{self.height} is not of even size")
        if self.fps <= 0:
            raise ValueError(f"{self.fps} pictures a second")


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture: I420 as one contiguous array ``[height * 3 // 2, width]``, uint8.

    Rows 0..height hold Y; the rest holds U and then V, each ``height/2 * width/2`` bytes.
    ``alpha`` is ``[height, width]`` uint8 (255 is opaque) or None.
    """

    width: int
    height: int
    data: Plane
    alpha: Plane | None = None

    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Y ``[h, w]``, U and V ``[h/2, w/2]``: views, nothing is copied."""
        h, w = self.height, self.width
        chroma = self.data[h:].reshape(2, h // 2, w // 2)
        return self.data[:h], chroma[0], chroma[1]


def samples_of_frame(index: int, rate: int, fps: Fraction) -> int:
    """How many samples go with frame ``index``: floor((n+1)*rate/fps) - floor(n*rate/fps)."""
    return samples_before(index + 1, rate, fps) - samples_before(index, rate, fps)


def samples_before(index: int, rate: int, fps: Fraction) -> int:
    """How many samples lie before frame ``index``: floor(n*rate/fps)."""
    return index * rate * fps.denominator // fps.numerator


def frames_covering(samples: int, rate: int, fps: Fraction) -> int:
    """The smallest number of frames whose sound holds ``samples``."""
    count = samples * fps.numerator // (rate * fps.denominator)
    while samples_before(count, rate, fps) < samples:
        count += 1
    return count


def as_pcm(samples: NDArray[np.generic], channels: int) -> Pcm:
    """Samples as float32 ``[n, channels]``.

    Takes float32/float64 in -1..1 or int16, shaped ``[n]`` (interleaved if channels > 1) or ``[n, channels]``.
    Raises ValueError for other shapes and types and for NaN or infinity.
    """
    pcm: Pcm
    if samples.dtype == np.int16:
        pcm = samples.astype(np.float32) * np.float32(1 / 32768)
    elif samples.dtype in (np.float32, np.float64):
        pcm = samples.astype(np.float32, copy=False)
        if not np.isfinite(pcm).all():
            raise ValueError("the sound holds samples that are not numbers (NaN or infinity)")
    else:
        raise ValueError(f"samples must be int16, float32 or float64, not {samples.dtype}")
    if pcm.ndim == 1 and pcm.shape[0] % channels == 0:
        pcm = pcm.reshape(-1, channels)
    if pcm.ndim != 2 or pcm.shape[1] != channels:
        raise ValueError(f"samples of shape {samples.shape} do not hold {channels} channel(s)")
    return pcm


def to_channels(pcm: Pcm, channels: int) -> Pcm:
    """The same sound on ``channels`` channels: one is repeated, several are averaged into one first."""
    have = pcm.shape[1]
    if have == channels:
        return pcm
    mono = pcm if have == 1 else pcm.mean(axis=1, keepdims=True, dtype=np.float32)
    return mono if channels == 1 else np.repeat(mono, channels, axis=1)


def silence(samples: int, channels: int) -> Pcm:
    """Zeros, ``[samples, channels]``."""
    return np.zeros((samples, channels), np.float32)


@dataclass(frozen=True, slots=True)
class SpokenSpan:
    """A part of a segment inside one frame's sound: ``samples`` of the source, counted at its own rate.

    ``last`` may be missing: a writer may end a segment after its last sound has been taken. PlaybackFinished tells.
    """

    segment: str
    samples: int
    first: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class PairedFrame:
    """A picture and the slice of sound that belongs to it.

    ``index`` is the number of the frame in its session, from 0; ``audio`` is ``[samples, channels]`` at the
    transport's rate; ``video`` is None where the picture was dropped because it was late (the sound never is).
    ``span`` says whose speech the sound is; None for silence.
    """

    index: int
    audio: Pcm
    video: VideoFrame | None
    span: SpokenSpan | None = None
    epoch: int = 0
    # A segment's sound ends before the frame's slot does (files only); if another frame follows, the missing silence
    # goes before its sound, so that sound and pictures stay together.
    short: bool = False
