"""A client of an avatar, of the bare SDK: streams PCM on ``lk.audio_stream``, interrupts, notes what it is told.

    async with speaking_to(server, room, "avatar") as sender:     # joins as agent "agent"
        await sender.avatar_seen()                                # its video track is published
        said = await sender.say(pcm, 24_000)                      # int16 [n] or [n, channels]; one segment
        await said.wait_started()
        finish = await said.wait_finished()                       # finish.position, finish.interrupted, finish.t
        await sender.interrupt()                                  # lk.clear_buffer; returns when it is answered

    stream = await sender.open(24_000)                            # the same by hand
    await stream.write(pcm); await stream.close()

Finishes are matched with segments in their order, as stock clients do. ``sender.started`` and ``sender.finishes`` hold
all that came, so that a test can count. All times are ``time.monotonic``. Runs on asyncio only, as the SDK does.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from visavis.testing.livekit.server import LiveKitServer

TOPIC = "lk.audio_stream"
CLEAR, STARTED, FINISHED = "lk.clear_buffer", "lk.playback_started", "lk.playback_finished"


@dataclass(frozen=True)
class Finish:
    """One ``lk.playback_finished``: when it came, and what it said."""

    t: float
    position: float
    interrupted: bool


@dataclass
class Utterance:
    """One segment that is sent or was. Times by ``time.monotonic``; None until it happened."""

    sender: Sender
    number: int
    rate: int
    channels: int
    writer: rtc.ByteStreamWriter = field(repr=False)
    first_write: float | None = None
    closed_at: float | None = None
    samples: int = 0

    async def write(self, pcm: NDArray[np.int16] | bytes, chunk: int | None = None) -> None:
        """Send int16 samples, in writes of ``chunk`` bytes (all at once without)."""
        data = pcm if isinstance(pcm, bytes) else np.ascontiguousarray(pcm, np.int16).tobytes()
        step = chunk or max(1, len(data))
        for at in range(0, len(data), step):
            if self.first_write is None:
                self.first_write = time.monotonic()
            await self.writer.write(data[at : at + step])
        self.samples += len(data) // (2 * self.channels)

    async def close(self) -> None:
        """End the segment."""
        await self.writer.aclose()
        self.closed_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Its length so far."""
        return self.samples / self.rate

    @property
    def finish(self) -> Finish | None:
        """How it ended, if it has."""
        return self.sender.finishes[self.number] if len(self.sender.finishes) > self.number else None

    async def wait_finished(self, timeout: float = 30.0) -> Finish:
        """Wait for its ``lk.playback_finished``. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            while self.finish is None:
                await self.sender.change.wait()
        assert self.finish is not None
        return self.finish

    async def wait_started(self, timeout: float = 30.0) -> float:
        """Wait for the next ``lk.playback_started`` after its first write; returns its time. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            while True:
                for t in self.sender.started:
                    if self.first_write is not None and t >= self.first_write:
                        return t
                await self.sender.change.wait()


class Sender:
    """A participant that speaks through an avatar. Made by ``speaking_to``."""

    def __init__(self, room: rtc.Room, to: str) -> None:
        self.room, self.to = room, to
        self.said: list[Utterance] = []
        self.started: list[float] = []
        self.finishes: list[Finish] = []
        self.change = anyio.Event()

    def listen(self) -> None:
        """Register the two methods that an avatar calls; once the room is connected."""
        local = self.room.local_participant
        local.register_rpc_method(STARTED, self._on_started)
        local.register_rpc_method(FINISHED, self._on_finished)
        for event in ("track_published", "participant_connected", "participant_disconnected", "disconnected"):
            self.room.on(event, lambda *_: self._changed())

    def _changed(self) -> None:
        change, self.change = self.change, anyio.Event()
        change.set()

    def _on_started(self, call: rtc.RpcInvocationData) -> str:
        if call.caller_identity != self.to:
            return "reject"
        self.started.append(time.monotonic())
        self._changed()
        return "ok"

    def _on_finished(self, call: rtc.RpcInvocationData) -> str:
        if call.caller_identity != self.to:
            return "reject"
        said = json.loads(call.payload)
        self.finishes.append(Finish(time.monotonic(), float(said["playback_position"]), bool(said["interrupted"])))
        self._changed()
        return "ok"

    @property
    def avatar(self) -> rtc.RemoteParticipant | None:
        """The avatar, if it is in the room."""
        return self.room.remote_participants.get(self.to)

    def _shows(self) -> bool:
        tracks = self.avatar.track_publications.values() if self.avatar is not None else ()
        return any(track.kind == rtc.TrackKind.KIND_VIDEO for track in tracks)

    async def avatar_seen(self, timeout: float = 30.0) -> None:
        """Wait until the avatar has published video, as stock clients do. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            while not self._shows():
                await self.change.wait()

    async def avatar_gone(self, timeout: float = 30.0) -> None:
        """Wait until the avatar is not in the room. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            while self.avatar is not None:
                await self.change.wait()

    async def open(
        self, rate: int, channels: int = 1, *, attributes: Mapping[str, str] | None = None, to: str | None = None
    ) -> Utterance:
        """Begin a segment. ``attributes`` replaces the usual two (sample_rate, num_channels)."""
        usual = {"sample_rate": str(rate), "num_channels": str(channels)}
        writer = await self.room.local_participant.stream_bytes(
            name=f"AUDIO_{secrets.token_hex(6)}",
            topic=TOPIC,
            destination_identities=[to or self.to],
            attributes=dict(usual if attributes is None else attributes),
        )
        self.said.append(Utterance(self, len(self.said), rate, channels, writer))
        return self.said[-1]

    async def say(
        self,
        pcm: NDArray[np.int16],
        rate: int,
        *,
        chunk_ms: float | None = 100.0,
        pace: float = math.inf,
        attributes: Mapping[str, str] | None = None,
    ) -> Utterance:
        """Send one whole segment, ``[n]`` or ``[n, channels]``: at once, or at so many times the pace of its sound."""
        channels = pcm.shape[1] if pcm.ndim == 2 else 1
        utterance = await self.open(rate, channels, attributes=attributes)
        step = max(1, round((chunk_ms or 1e9) / 1000 * rate))
        begin = anyio.current_time()
        for at in range(0, len(pcm), step):
            if pace < math.inf:
                await anyio.sleep_until(begin + at / rate / pace)
            await utterance.write(pcm[at : at + step])
        await utterance.close()
        return utterance

    async def interrupt(self, timeout: float = 5.0) -> float:
        """Call ``lk.clear_buffer``; returns the time at which it was sent. Raises rtc.RpcError."""
        sent = time.monotonic()
        await self.room.local_participant.perform_rpc(
            destination_identity=self.to, method=CLEAR, payload="", response_timeout=timeout
        )
        return sent


@asynccontextmanager
async def speaking_to(
    server: LiveKitServer, room_name: str, avatar: str, *, identity: str = "agent", agent: bool = True
) -> AsyncIterator[Sender]:
    """A sender that has joined; it subscribes to nothing. It leaves with the block."""
    room = rtc.Room()
    options = rtc.RoomOptions(auto_subscribe=False)
    await room.connect(server.url, server.token(identity, room_name, agent=agent), options)
    sender = Sender(room, avatar)
    sender.listen()
    try:
        yield sender
    finally:
        with anyio.CancelScope(shield=True):
            await room.disconnect()
