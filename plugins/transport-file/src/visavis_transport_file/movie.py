"""A video file being written: pictures and sound in, packets out. All of it blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.video.stream import VideoStream
from visavis.media import AudioFormat, PairedFrame, Pcm, Plane, VideoFormat, VideoFrame

from visavis_transport_file.containers import Container, encoder_options
from visavis_transport_file.options import FileTransportOptions
from visavis_transport_file.sound import Sound, default_bit_rate

KEY_FRAME_SECONDS: Final = 2
"""A player can jump to any of these."""
BT601: Final = 6
"""The code point of BT.601 (SMPTE 170M) in H.273, for primaries, transfer and matrix alike."""
LIMITED: Final = 1
"""FFmpeg's code for the limited range (16..235)."""


class Movie:
    """Writes one file. Pictures are numbered and samples counted: no clock is asked.

    A frame without a picture shows the one before it again (or, at the start, the first one that comes), so the
    frame rate is constant and the video as long as its sound.
    """

    def __init__(
        self,
        path: Path,
        kind: Container,
        encoder: str,
        options: FileTransportOptions,
        video: VideoFormat,
        audio: AudioFormat,
    ) -> None:
        """Open ``path`` and describe its streams. Raises OSError, FFmpegError or ValueError."""
        self._video_format = video
        self._sound = Sound(audio, kind.audio)
        # No date, no random numbers: the same input gives the same bytes.
        settings = {**kind.options, "fflags": "+bitexact"}
        if kind.keeps_samples:
            settings["movie_timescale"] = str(self._sound.rate)
        self._output = av.open(str(path), "w", format=kind.format, options=settings)
        try:
            self._video = self._add_video(encoder, options)
            self._audio = self._add_audio(kind.audio, options.audio_bit_rate)
        except BaseException:
            self._output.close()
            raise
        self._pictures = 0
        self._missing = 0
        self._samples = 0
        self._last: Plane | None = None

    def _add_video(self, encoder: str, options: FileTransportOptions) -> VideoStream:
        fps = self._video_format.fps
        settings = encoder_options(encoder, options.preset, options.crf)
        stream = cast(VideoStream, self._output.add_stream(encoder, rate=fps, options=settings))
        stream.width, stream.height, stream.pix_fmt = self._video_format.width, self._video_format.height, "yuv420p"
        context = stream.codec_context
        context.thread_count = options.threads
        context.gop_size = max(1, round(KEY_FRAME_SECONDS * fps))
        # Pictures in the order they are shown: programs that do not read edit lists then keep the lips in time too.
        context.max_b_frames = 0
        context.color_primaries = context.color_trc = context.colorspace = BT601
        context.color_range = LIMITED
        return stream

    def _add_audio(self, encoder: str, bit_rate: int | None) -> AudioStream:
        stream = cast(AudioStream, self._output.add_stream(encoder, rate=self._sound.rate))
        stream.codec_context.layout = self._sound.layout
        stream.codec_context.bit_rate = bit_rate or default_bit_rate(self._sound.channels)
        return stream

    def write(self, frames: Sequence[PairedFrame]) -> None:
        """Encode and write. Raises OSError, FFmpegError or ValueError."""
        for frame in frames:
            if frame.video is None:
                self._missing += 1
            else:
                self._write_picture(frame.video)
            self._write_sound(self._sound.take(frame.audio))

    def finish(self) -> None:
        """Write what the encoders still hold, and the index. Raises OSError or FFmpegError."""
        if self._last is None and self._missing:
            # Every picture came too late: black, so that the sound is not lost.
            wide, high = self._video_format.width, self._video_format.height
            self._last = np.full((high * 3 // 2, wide), 128, np.uint8)
            self._last[:high] = 16
        self._repeat(self._missing)
        self._missing = 0
        self._write_sound(self._sound.rest())
        self._output.mux(self._video.encode(None))
        self._output.mux(self._audio.encode(None))
        self._output.close()

    def abandon(self) -> None:
        """Close without caring for the content: the file is about to go."""
        with contextlib.suppress(FFmpegError, OSError, ValueError):
            self._output.close()

    def _write_picture(self, picture: VideoFrame) -> None:
        form = self._video_format
        if (picture.width, picture.height) != (form.width, form.height):
            raise ValueError(f"a picture of {picture.width}x{picture.height} in a video of {form.width}x{form.height}")
        data = np.ascontiguousarray(picture.data)
        if self._last is None:
            self._last = data
        self._repeat(self._missing)
        self._missing = 0
        self._last = data
        self._repeat(1)

    def _repeat(self, times: int) -> None:
        for _ in range(times):
            frame = av.VideoFrame.from_numpy_buffer(self._last, format="yuv420p")
            frame.pts = self._pictures
            frame.time_base = 1 / self._video_format.fps
            frame.colorspace, frame.color_range = BT601, LIMITED
            self._pictures += 1
            self._output.mux(self._video.encode(frame))

    def _write_sound(self, pcm: Pcm) -> None:
        if not len(pcm):
            return
        # Packed: PyAV cannot make a planar frame of eight channels.
        packed = np.ascontiguousarray(pcm).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._sound.layout)
        frame.sample_rate = self._sound.rate
        frame.pts = self._samples
        frame.time_base = Fraction(1, self._sound.rate)
        self._samples += len(pcm)
        self._output.mux(self._audio.encode(frame))
