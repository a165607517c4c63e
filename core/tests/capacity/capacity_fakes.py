"""A machine of fakes on which so many sessions fit as a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
from visavis.capacity import Bounds, Plan, Speech
from visavis.capacity.machine import Reading
from visavis.component import NoOptions
from visavis.config import Deployment, Part
from visavis.errors import AtCapacity, SessionError
from visavis.interfaces.audience import Audience, Seat, Seen, Sight
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import (
    PlaybackFinished,
    SessionHandle,
    SessionLimits,
    SessionRequest,
    SessionStats,
    SpeechStream,
)
from visavis.metrics import Metrics
from visavis.plugins import Kind, LauncherPlugin, TransportPlugin
from visavis.registry import Origin

FPS = 25


@dataclass
class Box:
    """The machine: what it holds, and what becomes of it."""

    holds: int = 5
    """More talking sessions than these, and each further one is late with a tenth of its frames."""
    takes: int = 1_000
    """More are refused."""
    loses_pictures_from: int = 1_000
    """With so many, subscribers get 20 pictures a second, though the server is in time."""
    dies_with: int = 1_000
    """With so many talking, one ends."""
    cores: int = 16
    cost: float = 0.2
    """Cores of a talking session."""
    watching: float = 0.01
    """Cores of a subscriber."""
    unseen: bool = False
    """Nothing arrives at subscribers."""
    started: float = field(default_factory=anyio.current_time)
    sessions: list[Talker] = field(default_factory=list)
    seats: dict[str, Seat] = field(default_factory=dict)
    most_seats: int = 0
    requests: list[SessionRequest] = field(default_factory=list)

    @property
    def talking(self) -> int:
        return sum(session.talks for session in self.sessions)

    def read(self, audience: Sequence[int]) -> Reading:
        """The account: as if what goes on now had always gone on (differences are what counts)."""
        seconds = anyio.current_time() - self.started
        server, watching = seconds * self.cost * self.talking, seconds * self.watching * len(self.seats)
        memory = 100_000_000 + 2_000_000 * len(self.sessions)
        return Reading(server, watching, server + watching, self.cores, memory)


class Stream(SpeechStream):
    """Takes sound in real time, and half a second ahead."""

    def __init__(self, session: Talker) -> None:
        self._session, self._due = session, anyio.current_time()

    @property
    def id(self) -> str:
        return "1"

    async def write(self, pcm: np.ndarray[Any, Any]) -> None:
        if self._session.over.is_set():
            return
        self._session.written.append(int(pcm[0]))
        self._due = max(anyio.current_time() - 0.5, self._due) + len(pcm) / 16_000
        await anyio.sleep_until(self._due - 0.5)

    async def end(self) -> None: ...

    async def wait_started(self) -> bool:
        return True

    async def wait_finished(self) -> PlaybackFinished:
        raise NotImplementedError


class Talker(SessionHandle):
    """A session whose figures follow from the clock."""

    def __init__(self, box: Box, number: int) -> None:
        self._box, self._id = box, f"session-{number}"
        self.over, self.error = anyio.Event(), None
        self.talks = False
        self.written: list[int] = []
        self._began = self._counted = anyio.current_time()
        self._late = 0.0
        self.interrupts = 0

    @property
    def id(self) -> str:
        return self._id

    async def stats(self) -> SessionStats:
        self.count()
        frames = round(FPS * (anyio.current_time() - self._began))
        return SessionStats(frames=frames, late_frames=round(self._late), shown=frames / FPS)

    def count(self) -> None:
        """Late frames so far: called whenever what makes them late changes."""
        now = anyio.current_time()
        if self._box.talking > self._box.holds:
            self._late += 0.1 * FPS * (now - self._counted)
        self._counted = now

    async def interrupt(self) -> None:
        self.interrupts += 1
        self._change(False)

    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        self._change(True)
        if self._box.talking >= self._box.dies_with:
            self.end(SessionError("the room is gone"))
        return Stream(self)

    def _change(self, talks: bool) -> None:
        for session in self._box.sessions:
            session.count()
        self.talks = talks

    async def swap(self, avatar: str) -> None:
        raise NotImplementedError

    @property
    def limits(self) -> SessionLimits:
        return SessionLimits()

    async def close(self, reason: str = "closed", *, finish: bool = False) -> None:
        self.end(None)

    def end(self, error: SessionError | None) -> None:
        if not self.over.is_set():
            self._change(False)
            self.error = error
            self._box.sessions.remove(self)
            self.over.set()

    async def wait(self) -> None:
        await self.over.wait()
        if self.error is not None:
            raise self.error


class Starts(Launcher):
    """Starts such sessions."""

    def __init__(self, box: Box, deployment: Deployment, metrics: Metrics) -> None:
        self.box, self.deployment, self.metrics = box, deployment, metrics
        self._number = 0

    async def __aenter__(self) -> Starts:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for session in list(self.box.sessions):
            await session.close()

    async def start(self, request: SessionRequest) -> SessionHandle:
        most = self.deployment.limits.max_sessions
        assert isinstance(most, int)  # a bench that lets "auto" refuse would measure what "auto" believes
        if len(self.box.sessions) >= min(self.box.takes, most):
            raise AtCapacity("all are taken", retry_after=5)
        self._number += 1
        self.box.requests.append(request)
        self.box.sessions.append(Talker(self.box, self._number))
        return self.box.sessions[-1]

    async def sessions(self) -> list[SessionHandle]:
        return list(self.box.sessions)

    async def capacity(self) -> Capacity:
        return Capacity(len(self.box.sessions), 0, self.box.takes, reckoned=7)


class Watches(Audience):
    """Sees what the box sends."""

    def __init__(self, box: Box) -> None:
        self.box, self._number = box, 0
        self._since = anyio.current_time()

    async def __aenter__(self) -> Watches:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.box.seats.clear()

    async def take_seat(self) -> Seat:
        self._number += 1
        seat = Seat(f"room-{self._number}", {"token": "secret"})
        self.box.seats[seat.room] = seat
        self.box.most_seats = max(self.box.most_seats, len(self.box.seats))
        return seat

    async def leave_seat(self, seat: Seat) -> None:
        del self.box.seats[seat.room]

    async def begin(self) -> None:
        self._since = anyio.current_time()

    async def seen(self) -> Sight:
        seconds = anyio.current_time() - self._since
        fps = 20 if len(self.box.seats) >= self.box.loses_pictures_from else FPS
        frames = 0 if self.box.unseen else max(1, round(fps * seconds))
        seats: Mapping[str, Seen] = {room: Seen(frames, max(seconds, 1e-9), 1 / fps) for room in self.box.seats}
        return Sight(seats)

    @property
    def processes(self) -> Sequence[int]:
        return [1]


def speech(seconds: float = 20.0, rate: int = 16_000) -> Speech:
    """Sound whose every sample says where it stands, in hundredths of a second."""
    return Speech((np.arange(int(seconds * rate)) * 100 // rate).astype(np.int16), rate)


def plan(**given: Any) -> Plan:
    return Plan(**{"avatar": "mira", "speech": speech(), "seconds": 10.0, "most": 32, "bounds": Bounds(), **given})


def launcher_part(box: Box) -> Part:
    record = LauncherPlugin(name="starts", summary="", factory=lambda config, d, m: Starts(box, d, m))
    return Part(Kind.LAUNCHER, record.name, record, NoOptions(), Origin("d", "1", "e"))


def transport_part(box: Box | None) -> Part:
    audience = None if box is None else lambda config: Watches(box)
    record = TransportPlugin(name="rooms", summary="", factory=lambda config: None, audience=audience)  # type: ignore[arg-type, return-value]
    return Part(Kind.TRANSPORT, record.name, record, NoOptions(), Origin("d", "1", "e"))
