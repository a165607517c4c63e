"""Reading a video file back, for transports that write one. Needs PyAV (``visavis[testing]``)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from visavis.testing.signals import Readback


def read_film(path: str | os.PathLike[str]) -> Readback:
    """Decode a file's first video and audio stream, the sound as long as the file says it is.

    Raises PyAV's errors for what is no video, IndexError for a file that lacks one of the streams.
    """
    import av

    with av.open(str(path)) as film:
        pictures = film.streams.video[0]
        lumas = [float(_luma(frame)) for frame in film.decode(pictures)]
    with av.open(str(path)) as film:
        stream = film.streams.audio[0]
        packed = av.AudioResampler("flt")
        rows: list[Any] = []
        for frame in film.decode(stream):
            rows += [part.to_ndarray().reshape(frame.samples, -1) for part in packed.resample(frame)]
        sound = np.concatenate(rows) if rows else np.zeros((0, stream.channels), np.float32)
        if stream.duration is not None and stream.time_base is not None:
            # A codec works in blocks: what it adds behind the end is no part of the film.
            sound = sound[: round(stream.duration * stream.time_base * stream.rate)]
        return Readback(sound.astype(np.float32), stream.rate, lumas)


def _luma(frame: Any) -> float:
    return float(frame.to_ndarray(format="yuv420p")[: frame.height].mean())
