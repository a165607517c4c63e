"""Cuts speech into frame-sized slices: the original sound for the listener, a mono copy for the renderer.

The sound is resampled at most once on each path. Input is processed in blocks of one fixed size, so the slices do
not depend on the sizes in which a source happens to write.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from visavis.media import AudioFormat, Pcm, samples_of_frame, silence, to_channels
from visavis.pipeline.resampling import resampler

BLOCK_SECONDS = Fraction(1, 100)
"""10 ms: short beside a frame, so that resampling adds no delay that matters; long enough to cost little."""


class FrameCounter:
    """Numbers a session's slots, so that the sound of n frames is floor(n * rate / fps) samples."""

    def __init__(self, rate: int, fps: Fraction) -> None:
        self.rate, self.fps, self.index = rate, fps, 0

    def next(self) -> int:
        """The number of samples of the next slot."""
        samples = samples_of_frame(self.index, self.rate, self.fps)
        self.index += 1
        return samples

    def peek(self) -> int:
        """The number of samples that ``next`` will return."""
        return samples_of_frame(self.index, self.rate, self.fps)


class PcmQueue:
    """Samples in order: appended in any sizes, taken in any others."""

    def __init__(self, channels: int) -> None:
        self._parts: deque[Pcm] = deque()
        self._channels = channels
        self.samples = 0

    def append(self, pcm: Pcm) -> None:
        """Add ``[n, channels]`` samples."""
        if len(pcm):
            self._parts.append(pcm)
            self.samples += len(pcm)

    def take(self, samples: int) -> Pcm:
        """Remove and return up to ``samples``."""
        out: list[Pcm] = []
        wanted = min(samples, self.samples)
        self.samples -= wanted
        while wanted:
            part = self._parts.popleft()
            if len(part) > wanted:
                self._parts.appendleft(part[wanted:])
                part = part[:wanted]
            wanted -= len(part)
            out.append(part)
        if not out:
            return silence(0, self._channels)
        return out[0] if len(out) == 1 else np.concatenate(out)


class _Path:
    """Channels are mixed, then the rate is converted, if need be."""

    def __init__(self, source: AudioFormat, rate: int, channels: int) -> None:
        self._channels = channels
        self._resampler = None if source.rate == rate else resampler(source.rate, rate, channels)

    def feed(self, block: Pcm, last: bool) -> Pcm:
        """Convert one block."""
        mixed = to_channels(block, self._channels)
        return mixed if self._resampler is None else self._resampler.feed(mixed, last)


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame's sound.

    ``audio`` ``[n, channels]`` is for the listener (shorter than its slot of ``slot`` samples only at the segment's
    end), ``ear`` float32 ``[hop]`` for the renderer, ``source_samples`` how many of the source's samples it spans.
    """

    audio: Pcm
    slot: int
    ear: NDArray[np.float32]
    source_samples: int
    first: bool
    last: bool


class Slicer:
    """One segment's sound on its way in.

    ``source`` is the format that is written, ``listener`` the transport's, ``hop`` samples at ``ear_rate`` go with a
    frame for the renderer.
    """

    def __init__(self, source: AudioFormat, listener: AudioFormat, ear_rate: int, hop: int) -> None:
        self.source, self.listener, self._hop = source, listener, hop
        self._block = max(1, int(source.rate * BLOCK_SECONDS))
        self._in = PcmQueue(source.channels)
        self._audio, self._ear = PcmQueue(listener.channels), PcmQueue(1)
        self._to_listener = _Path(source, listener.rate, listener.channels)
        self._to_ear = _Path(source, ear_rate, 1)
        self._ended = False
        self._taken = 0  # listener samples handed out
        self._claimed = 0  # source samples these stand for
        self.written = 0  # source samples taken in

    @property
    def buffered(self) -> float:
        """Seconds of sound that wait here."""
        return self._in.samples / self.source.rate + self._audio.samples / self.listener.rate

    def feed(self, pcm: Pcm) -> None:
        """Take in source samples ``[n, channels]``."""
        self.written += len(pcm)
        self._in.append(pcm)
        while self._in.samples >= self._block:
            self._convert(self._in.take(self._block), last=False)

    def end(self) -> None:
        """No more will come."""
        if not self._ended:
            self._ended = True
            if self.written:
                self._convert(self._in.take(self._in.samples), last=True)

    def drop(self) -> None:
        """Throw away what waits; no more is taken in."""
        self._ended = True
        for queue in (self._in, self._audio, self._ear):
            queue.take(queue.samples)

    def _convert(self, block: Pcm, last: bool) -> None:
        self._audio.append(self._to_listener.feed(block, last))
        self._ear.append(self._to_ear.feed(block, last))

    @property
    def exhausted(self) -> bool:
        """True once it has ended and every sample was handed out."""
        return self._ended and self._audio.samples == 0

    def ready(self, slot: int) -> bool:
        """Whether ``take(slot)`` has a slice: a whole one, or the rest after the end."""
        if self._ended:
            return self._audio.samples > 0
        return self._audio.samples >= slot and self._ear.samples >= self._hop

    def take(self, slot: int) -> Slice:
        """The next slice, for a slot of so many listener samples."""
        first = self._taken == 0
        audio = self._audio.take(slot)
        ear = self._ear.take(self._hop)[:, 0]
        if len(ear) < self._hop:
            ear = np.concatenate([ear, np.zeros(self._hop - len(ear), np.float32)])
        self._taken += len(audio)
        last = self.exhausted
        reached = self.written if last else min(self.written, self._taken * self.source.rate // self.listener.rate)
        spanned, self._claimed = reached - self._claimed, reached
        return Slice(audio, slot, np.ascontiguousarray(ear), spanned, first, last)
