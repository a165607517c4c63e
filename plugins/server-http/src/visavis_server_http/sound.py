"""Sound as it comes in a body, WAV or bare PCM, in pieces of any size: headers are read as they arrive."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from visavis.media import AudioFormat

from visavis_server_http.errors import ApiError

WAV: Final = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "application/octet-stream")
PCM: Final = ("audio/pcm", "audio/l16")
TAKEN: Final = "audio/wav, or audio/pcm;rate=24000;channels=1 (int16, little-endian), or audio/L16;rate=24000"
HEADER_MOST: Final = 2**20
"""Chunks before a WAV's sound, pictures among them, may be so long together."""
_UNKNOWN: Final = 0x7FFFFFFF
"""A writer that does not know the length yet gives 0 or something beyond this."""
_EXTENSIBLE: Final = 0xFFFE


@dataclass(frozen=True, slots=True)
class _Coding:
    dtype: str
    """numpy's name; ``i3`` for 24 bits."""
    format: AudioFormat

    @property
    def block(self) -> int:
        """Bytes of one sample on all channels."""
        return int(self.dtype[-1]) * self.format.channels


class Sound:
    """Turns bytes into samples ``[n, channels]``, int16 or float32, as they come."""

    def __init__(self, content_type: str) -> None:
        """Raises ApiError 415 or 422 for a type that is not taken."""
        kind, parameters = _read_type(content_type)
        self._coding = None if kind in WAV else _pcm_coding(kind, parameters)
        if kind not in WAV + PCM:
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"send {TAKEN}", {"content_type": kind[:80]})
        self._wav = _WavHeader() if kind in WAV else None
        self._left: int | None = None
        self._rest = b""
        self.samples = 0

    @property
    def format(self) -> AudioFormat | None:
        """Rate and channels, once they are known."""
        return self._coding.format if self._coding else None

    @property
    def seconds(self) -> float:
        """How much sound came so far."""
        return self.samples / self.format.rate if self.format else 0.0

    def feed(self, data: bytes) -> NDArray[Any] | None:
        """More bytes; returns what became samples by them, if anything. Raises ApiError 415 or 422."""
        if self._coding is None:
            assert self._wav is not None
            found = self._wav.feed(data)
            if found is None:
                return None
            self._coding, self._left, data = found
        if self._left is not None:
            data = data[: max(0, self._left)]
            self._left -= len(data)
        data = self._rest + data
        whole = len(data) - len(data) % self._coding.block
        self._rest = data[whole:]
        return self._decoded(data[:whole], self._coding) if whole else None

    def end(self) -> None:
        """No more bytes will come. Raises ApiError 422 if there was no sound at all."""
        if self._coding is None:
            raise _bad("it ends before its sound begins")
        if not self.samples:
            raise _bad("there is no sound in it")

    def _decoded(self, data: bytes, coding: _Coding) -> NDArray[Any]:
        pcm: NDArray[Any]
        if coding.dtype == "<i3":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            pcm = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
        else:
            raw = np.frombuffer(data, coding.dtype)
            if raw.dtype.kind == "f":
                pcm = np.clip(raw, -1.0, 1.0).astype(np.float32)
                if not np.isfinite(pcm).all():
                    raise _bad("it holds samples that are not numbers")
            elif coding.dtype == "|u1":
                pcm = (raw.astype(np.float32) - 128) / np.float32(128)
            elif coding.dtype == "<i4":
                pcm = raw.astype(np.float32) / np.float32(2**31)
            else:
                pcm = raw.astype(np.int16)
        shaped = pcm.reshape(-1, coding.format.channels)
        self.samples += len(shaped)
        return shaped


class _WavHeader:
    """Reads a WAV's chunks up to its sound."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 12
        self._coding: _Coding | None = None

    def feed(self, data: bytes) -> tuple[_Coding, int | None, bytes] | None:
        """More bytes. Once the sound begins: its coding, its length in bytes (None: until the end), its first bytes."""
        self._data += data
        if len(self._data) >= 12 and (self._data[:4] not in (b"RIFF", b"RF64") or self._data[8:12] != b"WAVE"):
            raise _bad("it is no WAV")
        if self._data[:4] != b"RIFF"[: len(self._data)] and self._data[:4] != b"RF64"[: len(self._data)]:
            raise _bad("it is no WAV")
        while len(self._data) >= self._at + 8:
            name, size = self._data[self._at : self._at + 4], self._size()
            body = self._at + 8
            if name == b"data":
                if self._coding is None:
                    raise _bad("its sound comes before its format")
                return self._coding, None if size == 0 or size >= _UNKNOWN else size, self._data[body:]
            if body + size > HEADER_MOST:
                raise _bad("what comes before its sound is too long")
            if len(self._data) < body + size:
                return None
            if name == b"fmt ":
                self._coding = _wav_coding(self._data[body : body + size])
            self._at = body + size + size % 2
        return None

    def _size(self) -> int:
        size: int = struct.unpack_from("<I", self._data, self._at + 4)[0]
        return size


def _wav_coding(chunk: bytes) -> _Coding:
    if len(chunk) < 16:
        raise _bad("its format is cut short")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack_from("<H", chunk, 24)
    dtype = {(1, 8): "|u1", (1, 16): "<i2", (1, 24): "<i3", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}
    if (code, bits) not in dtype:
        details = {"format": code, "bits": bits}
        raise ApiError(415, "UNSUPPORTED_AUDIO", "of WAV files PCM and floating point are taken", details)
    return _Coding(dtype[code, bits], _format(rate, channels))


def _pcm_coding(kind: str, parameters: dict[str, str]) -> _Coding | None:
    if kind not in PCM:
        return None
    if "rate" not in parameters:
        raise ApiError(
            400, "MISSING_PARAMETER", f"the content type lacks the rate: send {TAKEN}", {"parameter": "rate"}
        )
    rate, channels = _whole(parameters, "rate"), _whole(parameters, "channels")
    return _Coding(">i2" if kind == "audio/l16" else "<i2", _format(rate, channels))


def _whole(parameters: dict[str, str], name: str) -> int:
    text = parameters.get(name, "1")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ApiError(422, "INVALID_PARAMETER", f"{name} in the content type is no number", {"parameter": name})
    return int(text)


def _format(rate: int, channels: int) -> AudioFormat:
    try:
        return AudioFormat(rate, channels)
    except ValueError as error:
        raise _bad(str(error)) from None


def _read_type(content_type: str) -> tuple[str, dict[str, str]]:
    message = Message()
    message["content-type"] = "".join(c for c in content_type if c.isprintable())[:500]
    pairs: Iterator[Any] = iter(message.get_params() or [])
    kind = str(next(pairs, ("", ""))[0]).lower()
    return kind, {str(name).lower(): str(value) for name, value in pairs}


def _bad(why: str) -> ApiError:
    return ApiError(422, "BAD_AUDIO", f"the audio cannot be played: {why}")
