"""Rate conversion that hands out sound as soon as it can.

libsoxr's streams hold back 30 to 110 ms, which speech that comes in real time has to wait. Between the rates that are
used here a windowed sinc of a few milliseconds does as well for speech; other ratios go through libsoxr.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import Final, Protocol

import numpy as np
import soxr  # type: ignore[import-untyped]  # it ships no py.typed
from numpy.typing import NDArray

from visavis.media import Pcm

ZEROS: Final = 48
"""Zero crossings of the sinc on each side: it looks so many samples of the lower rate ahead."""
BETA: Final = 9.0
"""Kaiser's window: what would fold over lies 90 dB below."""
ROLL_OFF: Final = 0.94
"""Where the response is down to a half, of half the lower rate."""
LARGEST: Final = 480
"""Ratios of larger numbers go through libsoxr: 44,100 to 16,000 Hz is 160/441."""

Bank = NDArray[np.float32]


class Resampler(Protocol):
    """One direction of one stream."""

    def feed(self, block: Pcm, last: bool) -> Pcm:
        """Take ``[n, channels]``; returns what is ready. After ``last`` nothing may follow."""


def resampler(source: int, target: int, channels: int) -> Resampler:
    """A conversion between two rates in Hz."""
    common = gcd(source, target)
    if max(source, target) // common > LARGEST:
        return _Soxr(source, target, channels)
    return _Sinc(target // common, source // common, channels)


class _Soxr:
    def __init__(self, source: int, target: int, channels: int) -> None:
        self._channels = channels
        self._stream = soxr.ResampleStream(source, target, channels, dtype="float32", quality="HQ")

    def feed(self, block: Pcm, last: bool) -> Pcm:
        out: Pcm = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return out.reshape(-1, self._channels)


class _Sinc:
    """``up`` samples for every ``down`` that come in, in groups: one product of matrices a block."""

    def __init__(self, up: int, down: int, channels: int) -> None:
        self._up, self._down = up, down
        self._bank, self._ahead = _bank(up, down)
        # By channel, so that the windows of one lie in a row. The stream's first sample stands behind as many zeros as
        # its window reaches back.
        self._held = np.zeros((channels, self._ahead), np.float32)
        self._came = self._went = 0

    def feed(self, block: Pcm, last: bool) -> Pcm:
        self._came += len(block)
        parts = [self._held, block.T]
        if last:
            parts.append(np.zeros((block.shape[1], self._ahead + 2 * self._down), np.float32))
        held = np.concatenate(parts, axis=1, dtype=np.float32)
        groups = max(0, (held.shape[1] - len(self._bank)) // self._down + 1)
        self._held = held[:, groups * self._down :]
        if not groups:
            return block[:0]
        out: Pcm = np.ascontiguousarray((self._windows(held, groups) @ self._bank).reshape(len(held), -1).T)
        if last:  # as long as what came in, to half a sample
            out = out[: (2 * self._came * self._up + self._down) // (2 * self._down) - self._went]
        self._went += len(out)
        return out

    def _windows(self, held: Bank, groups: int) -> Bank:
        """The samples of each group's window, copied: the product of a view that overlaps itself takes five times as
        long, and a view by numpy's own helpers longer than the product."""
        window = len(self._bank)
        channel, sample = held.strides
        views: Bank = np.ndarray(
            (len(held), groups, window), np.float32, held, strides=(channel, self._down * sample, sample)
        )
        return views.reshape(len(held) * groups, window)


@lru_cache(maxsize=32)
def _bank(up: int, down: int) -> tuple[Bank, int]:
    """The filter of each of a group's outputs ``[window, up]``, and how many input samples it reaches to each side."""
    scale = min(1.0, up / down) * ROLL_OFF
    half = ceil(ZEROS * max(1.0, down / up))
    at = np.arange(up) * down / up  # where the outputs lie, in input samples from the group's first
    window = 2 * half + down
    distance = np.arange(window)[:, None] - half - at[None, :]
    shape = np.i0(BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0.0, None))) / np.i0(BETA)
    weights = np.where(np.abs(distance) <= half, np.sinc(distance * scale) * shape, 0.0)
    return (weights / weights.sum(axis=0)).astype(np.float32), half
