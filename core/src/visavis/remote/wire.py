"""What carries messages: JSON, and beside it raw bytes (sound). Nothing that is received is ever executed."""

from __future__ import annotations

import json
import struct
from abc import ABC, abstractmethod
from typing import Any, Final

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from visavis.errors import SessionError

Message = dict[str, Any]

_HEAD: Final = struct.Struct(">II")
MOST_JSON: Final = 8 * 2**20
MOST_BYTES: Final = 2**20
"""No message is longer: the other end would have lost its mind, or be somebody else."""


class WireClosed(SessionError):  # noqa: N818 - it is named after what it says
    """The other end is gone, or what it says is no message."""


class Wire(ABC):
    """A way to one other process, in order and without loss while it lasts. Any task may send; one receives."""

    @abstractmethod
    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Send one message. Waits while the other end is slow. Raises WireClosed."""

    @abstractmethod
    async def receive(self) -> tuple[Message, bytes]:
        """The next message. Raises WireClosed."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close it. May be called twice."""


def packed(message: Message, payload: bytes = b"") -> bytes:
    """A message as bytes: two lengths (32 bits, big-endian), JSON, and what goes beside it."""
    text = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(text), len(payload)) + text + payload


def unpacked(text: bytes) -> Message:
    """A message's JSON. Raises WireClosed."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise WireClosed("the other process said what is no message")
    return said


def whole(data: bytes) -> tuple[Message, bytes]:
    """The message that ``packed`` made. Raises WireClosed."""
    if len(data) < _HEAD.size:
        raise WireClosed("the other process said what is no message")
    text, payload = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + text + payload:
        raise WireClosed("a message of the other process came in part")
    return unpacked(data[_HEAD.size : _HEAD.size + text]), data[_HEAD.size + text :]


class StreamWire(Wire):
    """A wire over a stream of bytes: a socket between two processes of one machine."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._incoming = BufferedByteReceiveStream(stream)
        self._turn = anyio.Lock()

    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Send one message, whole even if the sender is cancelled meanwhile."""
        data = packed(message, payload)
        async with self._turn:
            try:
                # Half a message would be the end of the wire. A far end that takes nothing is killed by who watches it.
                with anyio.CancelScope(shield=True):
                    await self._stream.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
                raise WireClosed("the other process is gone") from error

    async def receive(self) -> tuple[Message, bytes]:
        """The next message."""
        try:
            text, payload = _HEAD.unpack(await self._incoming.receive_exactly(_HEAD.size))
            if text > MOST_JSON or payload > MOST_BYTES:
                raise WireClosed("the other process said what is no message")
            message = unpacked(await self._incoming.receive_exactly(text))
            return message, await self._incoming.receive_exactly(payload) if payload else b""
        except (
            anyio.EndOfStream,
            anyio.IncompleteRead,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            OSError,
        ) as error:
            raise WireClosed("the other process is gone") from error

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
