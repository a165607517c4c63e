"""The peer's process: livekit-agents' own AvatarRunner and DataStreamAudioReceiver, unaltered, with ready pictures.

Only what a user of these classes has to write is here: the generator of pictures. Its idle pictures wait for an empty
queue, as the makers of the runner do it, which is to the peer's advantage.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)
from visavis.testing.livekit.floor import FloorOptions, ReadyPictures, say

FPS = 25


class ReadyGenerator(VideoGenerator):  # type: ignore[misc]
    """A picture for every 40 ms of sound; idle ones when nothing waits."""

    def __init__(self, options: FloorOptions) -> None:
        self._options = options
        self._pictures = ReadyPictures(options)
        self._size = options.rate // FPS
        self._queue: asyncio.Queue[rtc.AudioFrame | AudioSegmentEnd] = asyncio.Queue(maxsize=10_000)
        self.runner: AvatarRunner
        self._rest = b""

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Sound as it comes."""
        await self._queue.put(frame)

    def clear_buffer(self) -> None:
        """Drop what waits."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Pictures and sound in turn."""
        return self._frames()

    async def _frames(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        silence = np.zeros(self._size, np.int16)
        while True:
            if self._queue.empty():
                if self.runner.av_sync._video_queue.qsize() == 0:
                    yield self._picture(silence)
                await asyncio.sleep(0.005)
                continue
            got = self._queue.get_nowait()
            if isinstance(got, AudioSegmentEnd):
                if self._rest:
                    last = self._rest.ljust(2 * self._size, b"\0")
                    self._rest = b""
                    for frame in self._pair(last):
                        yield frame
                yield got
                continue
            self._rest += bytes(got.data)
            while len(self._rest) >= 2 * self._size:
                part, self._rest = self._rest[: 2 * self._size], self._rest[2 * self._size :]
                for frame in self._pair(part):
                    yield frame

    def _pair(self, part: bytes) -> list[rtc.VideoFrame | rtc.AudioFrame]:
        sound = np.frombuffer(part, np.int16)
        return [self._picture(sound), rtc.AudioFrame(part, self._options.rate, 1, self._size)]

    def _picture(self, sound: np.ndarray) -> rtc.VideoFrame:
        picture = self._pictures.next(sound)
        return rtc.VideoFrame(
            self._options.width, self._options.height, rtc.VideoBufferType.I420, picture.reshape(-1).data
        )


async def run() -> None:
    """Until stdin ends."""
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    options = FloorOptions(rate=asked["rate"], ready=asked["ready"])
    room = rtc.Room()
    await room.connect(asked["url"], asked["token"])
    generator = ReadyGenerator(options)
    shape = AvatarOptions(
        video_width=options.width,
        video_height=options.height,
        video_fps=FPS,
        audio_sample_rate=options.rate,
        audio_channels=1,
    )
    receiver = DataStreamAudioReceiver(room, sender_identity=asked["agent"])
    generator.runner = AvatarRunner(room, audio_recv=receiver, video_gen=generator, options=shape)
    say("ready")
    await generator.runner.start()
    await reader.read()


if __name__ == "__main__":
    try:
        asyncio.run(run())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
