"""What the tests share: a session in a real room, and somebody else in it. The SDK runs on asyncio alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import anyio
import numpy as np
import pytest
from livekit import rtc
from pydantic import SecretStr
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.media import PairedFrame, VideoFormat, VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.transport import LiveKitTransport, LiveKitTransportSession

SIZE = 128
FPS = Fraction(25)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def frame(index: int, level: float = 0.0, *, luma: int = 90, rate: int = 48_000) -> PairedFrame:
    """A grey picture with a steady tone of 500 Hz."""
    data = np.full((SIZE * 3 // 2, SIZE), 128, np.uint8)
    data[:SIZE] = luma
    audio = (level * np.cos(2 * np.pi * 500 * np.arange(rate // 25) / rate)).astype(np.float32)[:, None]
    return PairedFrame(index, audio, VideoFrame(SIZE, SIZE, data))


@dataclass
class Avatar:
    """A session of the transport, its context and its room."""

    session: LiveKitTransportSession
    context: SessionContext
    room: rtc.Room
    metrics: MemoryMetrics

    async def publish(self) -> None:
        await self.session.publish(VideoFormat(SIZE, SIZE, FPS), self.session.audio_format)

    async def talk(self, frames: int, level: float = 0.0) -> None:
        """Present so many frames, each when it is due."""
        begin = anyio.current_time()
        for index in range(frames):
            await anyio.sleep_until(begin + index / 25)
            await self.session.present(frame(index, level))


@asynccontextmanager
async def avatar_in(
    server: LiveKitServer,
    room: str,
    *,
    token: str | None = None,
    agent: str = "",
    identity: str = "avatar",
    borrowed: rtc.Room | None = None,
    **options: Any,
) -> AsyncIterator[Avatar]:
    """An avatar that has joined; it has left when the block ends."""
    metrics = MemoryMetrics()
    context = SessionContext("test", SessionRequest(), metrics)
    if borrowed is not None:
        context.provide(rtc.Room, borrowed)
    transport = LiveKitTransport(LiveKitTransportOptions(**options))
    where = LiveKitSessionOptions(
        url="" if borrowed else server.url,
        token=SecretStr("" if borrowed else (token or server.token(identity, room))),
        agent=agent,
    )
    session = await transport.prepare(context, where)
    assert isinstance(session, LiveKitTransportSession)
    try:
        await session.open(context)
        yield Avatar(session, context, context.resource(rtc.Room), metrics)
    finally:
        await session.aclose()
        await transport.aclose()


@dataclass
class Guest:
    """Somebody in the room who notes what happens there."""

    room: rtc.Room
    events: list[tuple[str, Any]] = field(default_factory=list)

    async def until(self, condition: Callable[[], bool], patience: float = 20.0) -> None:
        """Wait until something is so; asked again and again, since the SDK has many ways to change."""
        with anyio.fail_after(patience):
            while not condition():  # noqa: ASYNC110 - not all of it tells when it changes
                await anyio.sleep(0.01)

    def seen(self, identity: str = "avatar") -> rtc.RemoteParticipant | None:
        return self.room.remote_participants.get(identity)

    def told(self, key: str, identity: str = "avatar") -> str | None:
        """An attribute of a participant, also of one that has left."""
        for what, value in reversed(self.events):
            if what == "attributes" and value[0] == identity and key in value[1]:
                return str(value[1][key])
        there = self.seen(identity)
        return there.attributes.get(key) if there is not None else None


@asynccontextmanager
async def guest_in(
    server: LiveKitServer, room: str, identity: str = "guest", *, subscribe: bool = False, **grants: Any
) -> AsyncIterator[Guest]:
    """A guest who has joined, and leaves with the block."""
    guest = Guest(rtc.Room())
    guest.room.on("participant_attributes_changed", lambda c, p: guest.events.append(("attributes", (p.identity, c))))
    guest.room.on("participant_disconnected", lambda p: guest.events.append(("left", p.identity)))
    options = rtc.RoomOptions(auto_subscribe=subscribe)
    await guest.room.connect(server.url, server.token(identity, room, **grants), options)
    try:
        yield guest
    finally:
        with anyio.CancelScope(shield=True):
            await guest.room.disconnect()
