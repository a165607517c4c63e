"""The viewer's process: joins rooms, keeps what arrives, answers commands on stdin.

The first line on stdin is a JSON object: ``url``, ``watch`` (a list of ``name`` and ``token``), ``decode`` (whether
pictures are wanted). Then come commands, one a line: ``save PATH`` and ``stop``; the end of stdin means ``stop``. On
stdout each event is a line of JSON. Tokens are in no command line and no environment.
"""

from __future__ import annotations

import asyncio  # the SDK's streams and callbacks live on its loop
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from visavis.testing.livekit.recording import GRID, RATE, Pictures, Recording, Sound, Take

RECEIVER: Final = (
    "jitter_buffer_delay",
    "jitter_buffer_emitted_count",
    "concealed_samples",
    "inserted_samples_for_deceleration",
    "removed_samples_for_acceleration",
)
"""What is noted each second of how sound is received; see W3C's "Identifiers for WebRTC's Statistics API"."""
STALL: Final = 0.03
"""The loop's heart beats every 10 ms; a beat that comes later than this is a stall."""
LOUD: Final = 600
"""A sample beyond this (of 32768) is sound and not silence."""
QUIET: Final = 0.25
"""Seconds without a loud sample after which silence is announced."""


class TakeInMaking:
    """What has come from one participant so far."""

    def __init__(self, room: str, identity: str) -> None:
        self.room, self.identity = room, identity
        self.picture_times: list[float] = []
        self.sizes: list[tuple[int, int]] = []
        self.blocks: list[NDArray[np.uint8]] = []
        self.chroma: list[tuple[int, int]] = []
        self.placeholders = 0
        self.block_times: list[float] = []
        self.counts: list[int] = []
        self.pcm = bytearray()
        self.loud_at: float | None = None

    def picture(self, now: float, frame: rtc.VideoFrame) -> bool:
        """Keep one picture; False for a placeholder."""
        width, height = frame.width, frame.height
        if width < 16 or height < 16:
            self.placeholders += 1
            return False
        data = np.frombuffer(frame.data, np.uint8)
        luma = data[: width * height].reshape(height, width)
        self.picture_times.append(now)
        self.sizes.append((width, height))
        self.blocks.append(block_means(luma))
        half = ((width + 1) // 2) * ((height + 1) // 2)
        u, v = data[width * height :][:half:16], data[width * height + half :][:half:16]
        self.chroma.append((round(float(u.mean())), round(float(v.mean()))))
        return True

    def block(self, now: float, frame: rtc.AudioFrame) -> str | None:
        """Keep 10 ms of sound; returns "sound" or "silence" where one begins."""
        samples = np.frombuffer(frame.data, np.int16)
        self.block_times.append(now)
        self.counts.append(len(samples))
        self.pcm += samples.tobytes()
        if int(np.abs(samples.astype(np.int32)).max(initial=0)) > LOUD:
            began = self.loud_at is None
            self.loud_at = now
            return "sound" if began else None
        if self.loud_at is not None and now - self.loud_at > QUIET:
            self.loud_at = None
            return "silence"
        return None

    def take(self) -> Take:
        """All of it as arrays."""
        count = len(self.picture_times)
        pictures = Pictures(
            np.array(self.picture_times, np.float64),
            np.array(self.sizes, np.uint16).reshape(count, 2),
            np.array(self.blocks, np.uint8).reshape(count, GRID, GRID),
            np.array(self.chroma, np.uint8).reshape(count, 2),
        )
        counts = np.array(self.counts, np.int64)
        sound = Sound(np.array(self.block_times, np.float64), counts, np.frombuffer(bytes(self.pcm), np.int16))
        return Take(self.room, self.identity, pictures, sound, self.placeholders)


def block_means(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean luma of GRID x GRID blocks; of each only every fourth row and column is looked at (cheap)."""
    height, width = luma.shape
    step = 4 if min(height, width) >= 128 else 1
    rows, columns = height // GRID // step, width // GRID // step
    part = luma[: rows * step * GRID : step, : columns * step * GRID : step]
    mean: NDArray[np.uint8] = part.reshape(GRID, rows, GRID, columns).mean((1, 3)).astype(np.uint8)
    return mean


class Watcher:
    """Joins rooms and keeps what arrives."""

    def __init__(self, *, decode: bool) -> None:
        self._decode = decode
        self._rooms: list[rtc.Room] = []
        self._takes: dict[tuple[str, str], TakeInMaking] = {}
        self._events: list[dict[str, Any]] = []
        self._stalls: list[tuple[float, float]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: set[str] = set()  # the ids of the sound tracks that are there

    def tell(self, event: str, **facts: Any) -> None:
        """Keep an event and say it on stdout."""
        row = {"t": time.monotonic(), "event": event, **facts}
        self._events.append(row)
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self, url: str, name: str, token: str) -> None:
        """Join one room."""
        room = rtc.Room()
        self._rooms.append(room)

        def of(participant: rtc.Participant) -> dict[str, str]:
            return {"room": name, "identity": participant.identity}

        room.on("participant_connected", lambda p: self.tell("participant", **of(p), attributes=dict(p.attributes)))
        room.on("participant_disconnected", lambda p: self.tell("left", **of(p)))
        room.on("participant_attributes_changed", lambda changed, p: self.tell("attributes", **of(p), changed=changed))
        room.on("track_published", lambda pub, p: self.tell("published", **of(p), kind=_kind(pub.kind)))
        room.on("track_unpublished", lambda pub, p: self.tell("unpublished", **of(p), kind=_kind(pub.kind)))
        room.on("reconnecting", lambda: self.tell("reconnecting", room=name))
        room.on("reconnected", lambda: self.tell("reconnected", room=name))
        room.on("disconnected", lambda reason: self.tell("disconnected", room=name, reason=str(reason)))
        room.on("track_unsubscribed", lambda track, pub, p: self._heard.discard(track.sid))
        room.on("track_subscribed", lambda track, pub, p: self._subscribed(name, p.identity, track))
        room.register_text_stream_handler(
            "lk.transcription", lambda reader, identity: self._spawn(self._read_text(name, identity, reader))
        )
        await room.connect(url, token)
        for participant in room.remote_participants.values():
            self.tell("participant", **of(participant), attributes=dict(participant.attributes))
        self.tell("joined", room=name)

    def _subscribed(self, room: str, identity: str, track: rtc.Track) -> None:
        take = self._takes.setdefault((room, identity), TakeInMaking(room, identity))
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._heard.add(track.sid)
            self._spawn(self._hear(take, track))
            self._spawn(self._receive(take, track))
        elif self._decode:
            self._spawn(self._see(take, track))

    async def _see(self, take: TakeInMaking, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        size: tuple[int, int] | None = None
        async for event in stream:
            if take.picture(time.monotonic(), event.frame) and take.sizes[-1] != size:
                size = take.sizes[-1]
                self.tell("picture", room=take.room, identity=take.identity, width=size[0], height=size[1])

    async def _hear(self, take: TakeInMaking, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        async for event in stream:
            change = take.block(time.monotonic(), event.frame)
            if change is not None:
                self.tell(change, room=take.room, identity=take.identity)

    async def _receive(self, take: TakeInMaking, track: rtc.Track) -> None:
        """Note each second what the receiver's jitter buffer does to the sound."""
        while track.sid in self._heard:
            await asyncio.sleep(1)
            for row in await track.get_stats() if track.sid in self._heard else ():
                if row.WhichOneof("stats") == "inbound_rtp":
                    found = row.inbound_rtp.inbound
                    facts = {name: getattr(found, name) for name in RECEIVER}
                    about = {"room": take.room, "identity": take.identity}
                    self._events.append({"t": time.monotonic(), "event": "receiver", **about, **facts})

    async def _read_text(self, room: str, identity: str, reader: rtc.TextStreamReader) -> None:
        text = await reader.read_all()
        self.tell(
            "transcription", room=room, identity=identity, text=text, attributes=dict(reader.info.attributes or {})
        )

    async def beat(self) -> None:
        """Notice when this process itself stands still."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if now - last > STALL:
                self._stalls.append((last, now))
            last = now

    def recording(self) -> Recording:
        """All that has come so far."""
        takes = [take.take() for take in self._takes.values()]
        stalls = np.array(self._stalls, np.float64).reshape(-1, 2)
        used = os.times()
        return Recording(takes, self._events, stalls, used.user + used.system)

    async def leave(self) -> None:
        """Leave all rooms."""
        self._heard.clear()
        for room in self._rooms:
            await room.disconnect()


def _kind(kind: int) -> str:
    return "audio" if kind == rtc.TrackKind.KIND_AUDIO else "video"


async def watch() -> int:
    """Do what stdin says; returns the exit status."""
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    watcher = Watcher(decode=asked.get("decode", True))
    beat = loop.create_task(watcher.beat())
    try:
        for each in asked["watch"]:
            await watcher.join(asked["url"], each["name"], each["token"])
    except rtc.ConnectError:
        # The SDK's message may hold the token.
        watcher.tell("failed", why=f"could not join the room at {asked['url']}")
        return 1
    watcher.tell("ready")
    while words := (await reader.readline()).decode().split(maxsplit=1):
        if words[0] == "save":
            path = Path(words[1].strip())
            await asyncio.to_thread(watcher.recording().save, path)
            watcher.tell("saved", path=str(path))
        elif words[0] == "stop":
            break
    beat.cancel()
    await asyncio.wait_for(watcher.leave(), 5)
    return 0


def main() -> None:
    """Run, and end at once: the SDK's native threads do not always survive the interpreter's own way out."""
    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # it would write tokens to stderr
    status = 1
    try:
        status = asyncio.run(watch())
    except Exception:  # noqa: BLE001 - told on stderr, as the interpreter would have
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
