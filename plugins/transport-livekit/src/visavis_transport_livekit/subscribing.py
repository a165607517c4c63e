"""Subscribers of a bench, as a process: ``python -m visavis_transport_livekit.subscribing``.

Each line of its stdin asks for something (``{"do": "join", "room": ..., "url": ..., "token": ...}``, ``leave``,
``begin``, ``seen``) and is answered by a line on its stdout; it leaves all rooms and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Final

from livekit import rtc
from visavis.errors import VisavisError

from visavis_transport_livekit import joining

JOINS: Final = 15.0
"""Seconds in which a room must have been joined."""
PLACEHOLDER: Final = 16
"""A picture that is smaller is none of the avatar's: an encoder that has not begun yet."""
BEAT: Final = 0.01


@dataclass(eq=False)
class _Place:
    """A room, and what has arrived there since it was last counted anew."""

    room: rtc.Room
    since: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    frames: int = 0
    longest: float = 0.0

    def begin(self, now: float) -> None:
        """Count anew; a gap counts from now on."""
        self.since = self.last = now
        self.frames, self.longest = 0, 0.0

    def picture(self, now: float) -> None:
        """A picture has come."""
        self.frames += 1
        self.longest, self.last = max(self.longest, now - self.last), now

    def figures(self, now: float) -> tuple[int, float, float]:
        """As ``visavis.interfaces.audience.Seen`` has them; a gap that still goes on counts."""
        return self.frames, now - self.since, max(self.longest, now - self.last)


class Subscribers:
    """All rooms of this process."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = 0.0

    async def do(self, asked: dict[str, str]) -> dict[str, Any]:
        """What a line asks for; returns the answer."""
        what = asked["do"]
        if what == "join":
            await self._join(asked["room"], asked["url"], asked["token"])
        elif what == "leave":
            place = self._places.pop(asked["room"], None)
            if place is not None:
                await joining.leave(place.room)
        elif what == "begin":
            self._stalled = 0.0
            for place in self._places.values():
                place.begin(time.monotonic())
        else:
            now = time.monotonic()
            return {"seats": {name: p.figures(now) for name, p in self._places.items()}, "stalled": self._stalled}
        return {}

    async def _join(self, name: str, url: str, token: str) -> None:
        room = rtc.Room()
        self._places[name] = place = _Place(room)

        def subscribe(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
            publication.set_subscribed(True)

        def subscribed(track: rtc.Track, publication: Any, participant: Any) -> None:
            if track.kind == rtc.TrackKind.KIND_VIDEO:
                task = asyncio.get_running_loop().create_task(_look(track, place))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        room.on("track_published", subscribe)
        room.on("track_subscribed", subscribed)
        await joining.join(room, url, token, JOINS)

    async def beat(self) -> None:
        """Notice when this process itself stands still."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self._stalled, last = max(self._stalled, now - last - BEAT), now

    async def leave(self) -> None:
        """Leave all rooms."""
        await asyncio.gather(*(joining.leave(place.room) for place in self._places.values()))


async def _look(track: rtc.Track, place: _Place) -> None:
    stream = rtc.VideoStream(track)
    async for event in stream:
        if event.frame.width >= PLACEHOLDER:
            place.picture(time.monotonic())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    subscribers = Subscribers()
    beat = loop.create_task(subscribers.beat())
    while line := await reader.readline():
        try:
            answer = await subscribers.do(json.loads(line))
        except VisavisError as error:
            answer = {"failed": error.message, "hint": error.hint}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    beat.cancel()
    await subscribers.leave()
    await joining.settled(joining.PARTING_SECONDS)


def main() -> None:
    """Run, and end at once: the SDK's native threads do not always survive the interpreter's own way out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches whoever has started us, too, and ends us by our stdin
    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # it would write tokens to stderr
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
