"""The floor that measurements stand beside: the plain SDK publishing ready pictures with the sound belonging to them.

    async with floor(server, room, identity="avatar") as process: ...

A process that joins a room, publishes 512x512 pictures (one layer, VP8, explicit bitrate) and continuous sound, and
puts what comes on ``lk.audio_stream`` into that sound, a slice a picture, at once: no face is drawn, nothing is
interruptible. Its pictures are those of ``flash``, or ready ones from a file. Whoever streams to it is told
``lk.playback_finished`` when its sound has left, so that the same client can drive it.

Of a stream with two channels the left one is heard and the right one drives the pictures: so a sender can shift sound
against picture by what it knows, and a probe must find it again.

As a program: ``python -m visavis.testing.livekit.floor``, options as JSON in the first line on stdin; it says ``ready``
and ends with its stdin.
"""

from __future__ import annotations

import asyncio  # the SDK's streams and callbacks live on its loop
import json
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from visavis.media import Plane
from visavis.testing.livekit.flash import Canvas, Ear
from visavis.testing.livekit.sender import FINISHED, STARTED, TOPIC
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.spawning import Spawned, spawned

BITRATE = 700_000


@dataclass(frozen=True)
class FloorOptions:
    """``lead_ms`` of sound wait ahead of the pictures, so that a late slice leaves no hole.

    ``ready``: the path of an npy file of I420 pictures ``[n, height * 3 // 2, width]`` that are shown in turn.
    """

    rate: int = 24_000
    width: int = 512
    height: int = 512
    fps: int = 25
    lead_ms: float = 10.0
    ready: str | None = None


def publish_options(fps: float) -> rtc.TrackPublishOptions:
    """One layer with an explicit bitrate and rate: the SDK's defaults throttle 512x512."""
    options = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False, video_codec=rtc.VideoCodec.VP8
    )
    options.video_encoding.max_bitrate = BITRATE
    options.video_encoding.max_framerate = fps
    return options


class ReadyPictures:
    """Pictures that cost nothing but a copy: drawn by ``flash``, or taken in turn from a file."""

    def __init__(self, options: FloorOptions) -> None:
        self._canvas = Canvas(options.width, options.height)
        self._ready = np.load(options.ready, mmap_mode="r") if options.ready else None
        self._ear = Ear()
        self._number = 0

    def next(self, sound: NDArray[np.int16]) -> Plane:
        """The picture that belongs to this slice."""
        onset, loud = self._ear.hear((sound.astype(np.float32) / 32768).astype(np.float32))
        number, self._number = self._number, self._number + 1
        if self._ready is not None:
            return np.array(self._ready[number % len(self._ready)])  # a copy that the SDK may take the address of
        return self._canvas.draw(flash=onset, mouth=loud, number=number)


class Floor:
    """Joins, publishes, and plays what comes."""

    def __init__(self, options: FloorOptions) -> None:
        self._options = options
        self._room = rtc.Room()
        self._queue: deque[Incoming] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._audio = rtc.AudioSource(options.rate, 1)
        self._video = rtc.VideoSource(options.width, options.height)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, url: str, token: str) -> None:
        """Until cancelled."""
        self._room.register_byte_stream_handler(TOPIC, lambda reader, who: self._spawn(self._read(reader, who)))
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        local = self._room.local_participant
        voice = rtc.LocalAudioTrack.create_audio_track("voice", self._audio)
        face = rtc.LocalVideoTrack.create_video_track("face", self._video)
        await local.publish_track(face, publish_options(self._options.fps))
        await local.publish_track(voice, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        say("ready")
        try:
            await self._present()
        finally:
            await self._room.disconnect()

    async def _read(self, reader: rtc.ByteStreamReader, who: str) -> None:
        incoming = Incoming(who, int((reader.info.attributes or {}).get("num_channels", "1")))
        self._queue.append(incoming)
        async for chunk in reader:
            incoming.add(chunk)
        incoming.open = False

    async def _present(self) -> None:
        options, pictures = self._options, ReadyPictures(self._options)
        size, begin, number = options.rate // options.fps, time.monotonic(), 0
        lead = options.lead_ms / 1000
        if lead:  # so much sound always waits, so that a late slice leaves no hole
            few = round(lead * options.rate)
            await self._audio.capture_frame(rtc.AudioFrame(bytes(2 * few), options.rate, 1, few))
        while True:
            await asyncio.sleep(max(0.0, begin + number / options.fps - time.monotonic()))
            late = time.monotonic() - begin - number / options.fps
            if late > lead:  # the sound has had a hole: made up for, it would wait behind its pictures from now on
                begin += late
            sound, driver = self._slice(size)
            await self._audio.capture_frame(rtc.AudioFrame(sound.tobytes(), options.rate, 1, size))
            picture = pictures.next(driver)
            await asyncio.sleep(max(0.0, begin + number / options.fps + lead - time.monotonic()))
            view = picture.reshape(-1).data
            self._video.capture_frame(rtc.VideoFrame(options.width, options.height, rtc.VideoBufferType.I420, view))
            number += 1

    def _slice(self, size: int) -> NDArray[np.int16]:
        """The next slice of what is being said, or silence: ``[2, size]``, what is heard and what drives pictures."""
        silence = np.zeros((2, size), np.int16)
        if not self._queue:
            return silence
        speaking = self._queue[0]
        if speaking.open and speaking.samples < size:
            return silence
        if not speaking.started:
            speaking.started = True
            self._spawn(self._tell(speaking.who, STARTED, ""))
        part = speaking.take(size)
        if not speaking.open and not speaking.samples:
            self._queue.popleft()
            self._spawn(self._finished(speaking))
        silence[:, : len(part)] = part.T
        return silence

    async def _finished(self, said: Incoming) -> None:
        await asyncio.sleep(self._audio.queued_duration)  # its own wait ends at silence, and sound never stops
        position = said.taken / self._options.rate
        await self._tell(said.who, FINISHED, json.dumps({"playback_position": position, "interrupted": False}))

    async def _tell(self, who: str, method: str, payload: str) -> None:
        try:
            await self._room.local_participant.perform_rpc(
                destination_identity=who, method=method, payload=payload, response_timeout=2
            )
        except rtc.RpcError as error:
            say("untold", why=str(error))


class Incoming:
    """One utterance as it comes."""

    def __init__(self, who: str, channels: int) -> None:
        self.who, self._channels = who, channels
        self._pcm = bytearray()
        self.open, self.started, self.taken = True, False, 0

    @property
    def samples(self) -> int:
        """How many wait."""
        return len(self._pcm) // (2 * self._channels)

    def add(self, chunk: bytes) -> None:
        """Its next bytes."""
        self._pcm += chunk

    def take(self, size: int) -> NDArray[np.int16]:
        """Up to ``size`` samples, ``[n, channels]``."""
        part = np.frombuffer(bytes(self._pcm[: 2 * self._channels * size]), np.int16).reshape(-1, self._channels)
        del self._pcm[: 2 * self._channels * size]
        self.taken += len(part)
        return part


def say(event: str, **facts: Any) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps({"t": time.monotonic(), "event": event, **facts}) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def floor(
    server: LiveKitServer,
    room: str,
    *,
    identity: str = "avatar",
    options: FloorOptions | None = None,
    prefix: Sequence[str] = (),
) -> AsyncIterator[Spawned]:
    """A floor in that room, publishing when the block begins."""
    asked: Mapping[str, Any] = {
        "url": server.url,
        "token": server.token(identity, room),
        **asdict(options or FloorOptions()),
    }
    async with spawned(Spawned, "visavis.testing.livekit.floor", asked, prefix=prefix) as process:
        yield process


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    url, token = asked.pop("url"), asked.pop("token")
    running = loop.create_task(Floor(FloorOptions(**asked)).run(url, token))
    ended = loop.create_task(reader.read())
    await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
    failed = running.done() and running.exception()
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    if failed:
        raise failed


def main() -> None:
    """Run, and end at once (see ``watching``)."""
    status = 0
    try:
        asyncio.run(_serve())
    except Exception:  # noqa: BLE001 - told on stderr, as the interpreter would have
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
