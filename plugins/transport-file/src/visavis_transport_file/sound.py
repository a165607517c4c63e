"""The sound on its way to the encoder: a rate, a number of channels and a level that it takes."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
import soxr  # type: ignore[import-untyped]  # it ships no py.typed
from av.codec import Codec
from visavis.media import AudioFormat, Pcm, to_channels

log = logging.getLogger("visavis.transport.file")

LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""FFmpeg's layouts that the encoders take, by their number of channels."""
LOUDEST: Final = np.float32(8.0)
"""18 dB over full scale. What is louder is no sound but an accident, and encoders refuse it."""


class Sound:
    """Turns a stream of sound into what an audio encoder takes; what it takes already is passed on untouched."""

    def __init__(self, source: AudioFormat, encoder: str) -> None:
        self.rate = nearest_rate(source.rate, encoder)
        self.channels = source.channels if source.channels in LAYOUTS else 1
        self.layout = LAYOUTS[self.channels]
        self._resampler: soxr.ResampleStream | None = None
        if self.rate != source.rate:
            log.info("%s has no %d Hz: the sound is resampled to %d Hz", encoder, source.rate, self.rate)
            self._resampler = soxr.ResampleStream(source.rate, self.rate, self.channels, dtype="float32")
        if self.channels != source.channels:
            log.warning("%d channels are mixed down to one", source.channels)

    def take(self, pcm: Pcm) -> Pcm:
        """What ``[n, channels]`` of the source gives; it may lag by the resampler's window."""
        return self._resampled(np.clip(to_channels(pcm, self.channels), -LOUDEST, LOUDEST), last=False)

    def rest(self) -> Pcm:
        """What is left at the end."""
        return self._resampled(np.zeros((0, self.channels), np.float32), last=True)

    def _resampled(self, pcm: Pcm, *, last: bool) -> Pcm:
        if self._resampler is None:
            return pcm
        out: Pcm = self._resampler.resample_chunk(np.ascontiguousarray(pcm), last=last).reshape(-1, self.channels)
        return out


def nearest_rate(rate: int, encoder: str) -> int:
    """The rate itself where the encoder has it, else the next higher one, else its highest."""
    rates: list[int] = sorted(Codec(encoder, "w").audio_rates or [rate])
    return next((r for r in rates if r >= rate), rates[-1])


def default_bit_rate(channels: int) -> int:
    """Bits a second: 128,000 for one or two channels (FFmpeg's own choice for AAC), 64,000 for each further one."""
    return 128_000 + 64_000 * max(0, channels - 2)
