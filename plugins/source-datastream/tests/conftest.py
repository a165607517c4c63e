"""A room of our own making: it behaves as the SDK's does, on either event loop, without a network."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
import trio.testing
from livekit import rtc
from visavis import workers
from visavis.component import ComponentConfig, NoOptions
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.transport import Pacing, Transport
from visavis.media import AudioFormat
from visavis.metrics import MemoryMetrics
from visavis.pipeline.batcher import Batcher
from visavis.session import Session
from visavis.testing.fakes import FakeRenderer, Recorder
from visavis_source_datastream import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.source import DataStreamSource


@pytest.fixture
def anyio_backend() -> object:
    """Virtual time: what is asserted after so many seconds does not depend on the machine."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def _inline_workers() -> Any:
    with workers.inline():
        yield


class Reader:
    """An incoming byte stream; also the end at which its sender writes."""

    def __init__(self, stream_id: str, attributes: dict[str, str] | None, size: int = 0) -> None:
        self.info = SimpleNamespace(stream_id=stream_id, attributes=attributes, size=size)
        self.chunks: deque[bytes | Exception | None] = deque()
        self.closed = False
        self._more = anyio.Event()

    def write(self, chunk: bytes) -> None:
        self._put(chunk)

    def end(self) -> None:
        self._put(None)

    def abort(self) -> None:
        self._put(rtc.StreamError("aborted by the sender"))

    def _put(self, item: bytes | Exception | None) -> None:
        if not self.closed:
            self.chunks.append(item)
            event, self._more = self._more, anyio.Event()
            event.set()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        while not self.chunks:
            if self.closed:
                raise StopAsyncIteration
            await self._more.wait()
        item = self.chunks.popleft()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.closed = True
        self._put(None)


@dataclass
class Participant:
    """A sender: what it does, and what it was told."""

    room: Room
    identity: str
    sid: str = ""
    state: int = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
    told: list[tuple[str, Any]] = field(default_factory=list)
    """What it heard, in order: ("started", ""), ("finished", {...}), ("error", {...})."""
    answers: Callable[[str], float] = lambda method: 0.002
    """Seconds after which a call of a method is answered."""
    deaf: bool = False
    """Whether it has no such methods."""
    opened: int = 0

    def stream(self, rate: object = 16_000, channels: object = 1, *, size: int = 0, **more: str) -> Reader:
        """Open a stream."""
        self.opened += 1
        return self.stream_with({"sample_rate": str(rate), "num_channels": str(channels), **more}, size=size)

    def stream_with(self, attributes: dict[str, str] | None, *, size: int = 0) -> Reader:
        """Open a stream with these attributes and no others."""
        self.room.streams += 1
        reader = Reader(f"s{self.room.streams}", attributes, size)
        handler = self.room.handlers.get("lk.audio_stream")
        if handler is not None:
            handler(reader, self.identity)
        return reader

    async def call(self, method: str, payload: str = "") -> str:
        """Call a method of the avatar."""
        handler = self.room.local_participant.methods.get(method)
        if handler is None:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, "no such method")
        data = rtc.RpcInvocationData("r", self.identity, payload, 5.0, method=method)
        return str(await handler(data))

    async def clear(self) -> str:
        """Interrupt."""
        return await self.call("lk.clear_buffer")

    def leave(self) -> None:
        """Be gone."""
        self.room.remote_participants.pop(self.identity, None)
        self.room.emit("participant_disconnected", self)

    def come(self) -> None:
        """Join, again perhaps."""
        self.room.joins += 1
        self.sid = f"PA_{self.room.joins}"
        self.room.remote_participants[self.identity] = self
        self.room.emit("participant_connected", self)
        self.room.emit("participant_active", self)

    @property
    def finishes(self) -> list[dict[str, Any]]:
        return [what for name, what in self.told if name == "finished"]

    @property
    def starts(self) -> int:
        return sum(name == "started" for name, _ in self.told)

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [what for name, what in self.told if name == "error"]


class Avatar:
    """The local participant."""

    def __init__(self, room: Room) -> None:
        self.room, self.sid = room, "PA_us"
        self.attributes: dict[str, str] = {}
        self.methods: dict[str, Any] = {}

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self.methods[name] = handler

    def unregister_rpc_method(self, name: str) -> None:
        del self.methods[name]

    async def perform_rpc(
        self, *, destination_identity: str, method: str, payload: str, response_timeout: float | None = None
    ) -> str:
        them = self.room.remote_participants.get(destination_identity)
        if them is None:
            await anyio.sleep(7)
            raise rtc.RpcError(rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT, "nobody there")
        if them.deaf:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, "no such method")
        them.told.append((method.removeprefix("lk.playback_"), json.loads(payload) if payload else ""))
        await anyio.sleep(them.answers(method))
        return "ok"

    async def send_text(self, text: str, *, destination_identities: list[str], topic: str) -> None:
        assert topic == "visavis.error"
        for identity in destination_identities:
            if identity in self.room.remote_participants:
                self.room.remote_participants[identity].told.append(("error", json.loads(text)))


class Room:
    """What is used of ``livekit.rtc.Room``."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.listeners: dict[str, list[Any]] = {}
        self.remote_participants: dict[str, Participant] = {}
        self.connection_state = rtc.ConnectionState.CONN_CONNECTED
        self.local_participant = Avatar(self)
        self.streams = self.joins = 0

    def join(self, identity: str, **more: Any) -> Participant:
        """A participant comes in."""
        them = Participant(self, identity, **more)
        them.come()
        return them

    def connect(self, connected: bool) -> None:
        """The network comes and goes."""
        state = rtc.ConnectionState
        self.connection_state = state.CONN_CONNECTED if connected else state.CONN_RECONNECTING
        self.emit("connection_state_changed", self.connection_state)

    def isconnected(self) -> bool:
        return self.connection_state != rtc.ConnectionState.CONN_DISCONNECTED

    def register_byte_stream_handler(self, topic: str, handler: Any) -> None:
        if topic in self.handlers:
            raise ValueError("taken")
        self.handlers[topic] = handler

    def unregister_byte_stream_handler(self, topic: str) -> None:
        del self.handlers[topic]

    def on(self, event: str, listener: Any) -> None:
        self.listeners.setdefault(event, []).append(listener)

    def off(self, event: str, listener: Any) -> None:
        self.listeners[event].remove(listener)

    def emit(self, event: str, *arguments: Any) -> None:
        for listener in list(self.listeners.get(event, [])):
            listener(*arguments)

    @property
    def traces(self) -> int:
        """What is still registered in it."""
        return len(self.handlers) + len(self.local_participant.methods) + sum(map(len, self.listeners.values()))


@pytest.fixture
def make_room() -> type[Room]:
    """The class of such rooms."""
    return Room


class RoomTransport(Transport):
    """Plays to a recorder in real time, and provides the room."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.recorder = Recorder(Pacing.REALTIME, AudioFormat(16_000, 1))

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> Recorder:
        context.resources[rtc.Room] = self.room
        return self.recorder


@dataclass
class Scene:
    """A session under way: its room, what its viewers hear, and itself."""

    room: Room
    session: Session
    recorder: Recorder
    metrics: MemoryMetrics

    def heard(self, floor: float = 0.01) -> float:
        """Seconds of sound that was not silence."""
        sound = self.recorder.sound()
        return float((np.abs(sound[:, 0]) > floor).sum() / 16_000) if len(sound) else 0.0


@asynccontextmanager
async def scene(
    room: Room,
    options: DataStreamOptions | None = None,
    identity: str | None = None,
    inherited: dict[str, Any] | None = None,
) -> AsyncIterator[Scene]:
    """A real session with a real pipeline around the source; closed at the end."""
    transport, metrics = RoomTransport(room), MemoryMetrics()
    source = DataStreamSource(options or DataStreamOptions(), DataStreamSessionOptions(identity=identity))
    renderer = FakeRenderer(fps=25)
    context = SessionContext("s", SessionRequest(), metrics, inherited=inherited or {})
    session = Session(context, renderer.load(), Batcher(renderer), transport, NoOptions(), [source])
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        room.emit("local_track_subscribed", SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO))
        await anyio.sleep(0.1)
        yield Scene(room, session, transport.recorder, metrics)
        await session.close()
        await session.wait()
    assert room.traces == 0, "something of the source is left in the room"


@pytest.fixture
def open_scene() -> Any:
    """``async with open_scene(room, options, identity) as scene``."""
    return scene
