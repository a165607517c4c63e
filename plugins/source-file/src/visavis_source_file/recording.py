"""A recording being decoded: piece by piece, at its own rate, channels and level."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.error import FFmpegError
from numpy.typing import NDArray
from visavis.errors import MediaError
from visavis.media import AudioFormat, Pcm

from visavis_source_file.integrity import declares_length, shortfall

TOLERANCE: Final = 0.15
"""Seconds by which a container's length may differ from what decodes: encoders pad and round."""
GUESSED_LENGTH: Final = frozenset({"aac", "ac3", "eac3", "amr", "dts", "loas"})
"""Bare streams without a header for the whole: their length is a guess from the bit rate."""
PLAYLISTS: Final = frozenset({"concat", "concatf", "dash", "hls", "imf"})
"""What names other files, which whoever named this one may not be allowed to hear."""
MANY: Final = 8
"""From so many channels on PyAV reads beyond the end of a planar frame (its list of planes ends with the frame's
eight pointers, not with a null), so the channels are interleaved by FFmpeg first."""
WHOLE_LENGTH_ONLY: Final = "matroska"
"""Containers that state one length for all streams together."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a recording holds. ``seconds`` is None where neither the file nor a guess tells."""

    format: AudioFormat
    seconds: float | None
    codec: str
    container: str

    @property
    def samples(self) -> int | None:
        """The length in samples, as far as it is known beforehand."""
        return None if self.seconds is None else round(self.seconds * self.format.rate)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of sound: float32 ``[n, channels]`` in -1..1."""

    format: AudioFormat
    pcm: Pcm


def probe(path: str | os.PathLike[str]) -> Probe:
    """What a recording holds. Blocking. Raises MediaError for what cannot be played."""
    recording = Recording(Path(path))
    try:
        return Probe(recording.format, recording.seconds, recording.codec, recording.container)
    finally:
        recording.close()


class Recording:
    """An open recording. All methods block; they may be called from changing threads, one at a time.

    Opening decodes the first piece, so that what cannot be played raises MediaError here.
    ``damage`` says, once everything is read, where and how the recording is broken; None if it is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._input, self._stream = _open(path)
        self.codec = self._stream.codec_context.name
        self.container = self._input.format.name
        self.damage: str | None = None
        self._heard = 0.0
        self._packet_end: float | None = None
        self._broken_at: float | None = None
        self._packer: av.AudioResampler | None = None
        self._pieces = self._read_pieces()
        self._next: Chunk | None = None
        try:
            self._cut = shortfall(path)
            self.seconds = self._announced()
            self._next = next(self._pieces, None)
            if self._next is None:
                raise self._soundless()
        except BaseException:
            self.close()
            raise
        self.format = self._next.format

    def _soundless(self) -> MediaError:
        why = "holds no sound" if self._broken_at is None else "is not audio, or is damaged from its start"
        return MediaError(f"{self._path} {why}")

    def read(self, seconds: float) -> Chunk | None:
        """About ``seconds`` of sound, of one format; None at the end.

        Raises MediaError for a sample that is not a number.
        """
        if self._next is None:
            return None
        form = self._next.format
        pieces: list[Pcm] = []
        have = 0
        while self._next is not None and self._next.format == form and have < seconds * form.rate:
            pieces.append(self._next.pcm)
            have += len(self._next.pcm)
            self._next = next(self._pieces, None)
        return Chunk(form, pieces[0] if len(pieces) == 1 else np.concatenate(pieces))

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._pieces.close()
        self._input.close()

    def _announced(self) -> float | None:
        """The length in seconds that the file states or that its size lets guess."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return self._input.duration / 1_000_000 if self._input.duration else None

    def _promised(self) -> float | None:
        """The announced length where it is a statement about this stream, not a guess."""
        if self.container in GUESSED_LENGTH or (self.container == "mp3" and not declares_length(self._path)):
            return None
        if WHOLE_LENGTH_ONLY in self.container and len(self._input.streams) > 1:
            return None
        return self.seconds

    def _read_pieces(self) -> Generator[Chunk, None, None]:
        """All pieces in order; the last one is held back until it is known to be the last, and trimmed."""
        held: Chunk | None = None
        for chunk in self._decode():
            if held is not None:
                yield held
            held = chunk
        if held is not None:
            held = self._trimmed(held)
            if len(held.pcm):
                yield held
        self._judge()

    def _decode(self) -> Iterator[Chunk]:
        origin: float | None = None
        packets = self._input.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self._note_break()
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except FFmpegError:
                self._note_break()
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                if frame.time is not None:
                    origin = frame.time if origin is None else origin
                    if frame.time - origin > self._heard + TOLERANCE:
                        self._note_break()
                        origin = frame.time - self._heard
                if packet.pts is not None and packet.duration and packet.time_base and origin is not None:
                    self._packet_end = float((packet.pts + packet.duration) * packet.time_base) - origin
                yield self._chunk(frame)

    def _chunk(self, frame: av.AudioFrame) -> Chunk:
        try:
            form = AudioFormat(frame.sample_rate, len(frame.layout.channels))
        except ValueError as error:
            raise MediaError(f"{self._path}: {error}") from None
        pcm = to_float(self._samples_of(frame), frame.format.is_planar and form.channels < MANY, form.channels)
        bad = ~np.isfinite(pcm).all(axis=1)
        if bad.any():
            at = self._heard + int(bad.argmax()) / form.rate
            raise MediaError(f"{self._path}: the sample at {at:.3f} s is not a number (NaN or infinity)")
        self._heard += len(pcm) / form.rate
        return Chunk(form, pcm)

    def _samples_of(self, frame: av.AudioFrame) -> NDArray[Any]:
        if not frame.format.is_planar or len(frame.layout.channels) < MANY:
            plain: NDArray[Any] = frame.to_ndarray()
            return plain
        if self._packer is None:
            self._packer = av.AudioResampler(frame.format.packed, frame.layout, frame.sample_rate)
        packed = self._packer.resample(frame)
        return np.concatenate([part.to_ndarray() for part in packed], axis=1)

    def _trimmed(self, last: Chunk) -> Chunk:
        """The last piece without an encoder's padding, where an mp4 says how much of it is sound."""
        if "mp4" not in self.container or self.codec not in ("aac", "opus", "mp3"):
            return last
        rate = last.format.rate
        excess = 0
        if self._packet_end is not None:
            excess = round((self._heard - self._packet_end) * rate)
        # An edit list counts in milliseconds as a rule, the packets in samples: finer than that, believe the packets.
        if self.seconds is not None and self._heard - max(0, excess) / rate - self.seconds > 0.001:
            excess = round((self._heard - self.seconds) * rate)
        if not 0 < excess <= len(last.pcm):
            return last
        self._heard -= excess / rate
        return Chunk(last.format, last.pcm[:-excess])

    def _note_break(self) -> None:
        if self._broken_at is None:
            self._broken_at = self._heard

    def _judge(self) -> None:
        """At the end: what does not fit together?"""
        promised = self._promised()
        short = promised is not None and promised - self._heard > TOLERANCE
        of = f" of the {promised:.2f} s announced" if short else ""
        if self._broken_at is not None and self._heard - self._broken_at > TOLERANCE:
            self.damage = f"the recording is damaged at {self._broken_at:.2f} s; {self._heard:.2f} s{of} could be read"
        elif short or self._cut or self._broken_at is not None:
            because = of or (f" ({self._cut})" if self._cut else "")
            self.damage = f"the recording is cut short: its sound breaks off at {self._heard:.2f} s{because}"


_SCALES: Final[dict[str, tuple[float, float]]] = {
    # dtype: (zero, one part of full scale)
    "uint8": (128.0, 1 / 128),
    "int16": (0.0, 1 / 32768),
    "int32": (0.0, 1 / 2147483648),
    "int64": (0.0, 1 / 9223372036854775808),
}


def to_float(samples: NDArray[Any], planar: bool, channels: int) -> Pcm:
    """Decoded samples (any depth, planar ``[channels, n]`` or packed ``[1, n * channels]``) as ``[n, channels]``."""
    shaped = samples.T if planar else samples.reshape(-1, channels)
    pcm: Pcm = np.ascontiguousarray(shaped, dtype=np.float32)
    scale = _SCALES.get(samples.dtype.name)
    if scale is not None:
        zero, unit = scale
        if zero:
            pcm -= np.float32(zero)
        pcm *= np.float32(unit)
    return pcm


def _open(path: Path) -> tuple[av.container.InputContainer, AudioStream]:
    _check_file(path)
    mode: Literal["r"] = "r"
    try:
        # Only this one file: a playlist must not make the decoder open others, or the network.
        source = av.open(str(path.absolute()), mode, options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError):
        raise MediaError(f"{path} is not audio, or of a kind that cannot be read") from None
    if source.format.name in PLAYLISTS:
        source.close()
        raise MediaError(f"{path} is a list of other files, not a recording")
    stream = source.streams.best("audio")
    if not isinstance(stream, AudioStream):
        holds = ", ".join(sorted({s.type for s in source.streams})) or "nothing"
        source.close()
        raise MediaError(f"{path} holds no sound (only {holds})")
    # Where FFmpeg has no decoder PyAV gives no context, although its types promise one.
    if getattr(stream, "codec_context", None) is None:
        source.close()
        raise MediaError(f"{path}: its sound is of a kind that cannot be decoded")
    return source, stream


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise MediaError(f"{path} is a folder, not a recording")
        if not stat.S_ISREG(found.st_mode):
            raise MediaError(f"{path} is not a file")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise MediaError(f"{path} does not exist") from None
    except PermissionError:
        raise MediaError(f"{path} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if found.st_size == 0:
        raise MediaError(f"{path} is empty")
