"""Sessions that talk all the time, each in a room of its own with somebody who watches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.lowlevel
import numpy as np
from anyio.abc import TaskGroup
from numpy.typing import NDArray

from visavis.errors import AtCapacity, SessionError, VisavisError
from visavis.interfaces.audience import Audience, Seat, Sight
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest, SessionStats
from visavis.session import single

CHUNK: Final = 0.1
"""Seconds of sound that are written at a time."""
APART: Final = 1.37
"""Seconds by which each session is further into the recording than the one before it."""
APPEARS: Final = 20.0
"""Seconds in which a session must be seen in its room."""
ENDS: Final = 10.0
"""Seconds in which a session that was closed must have ended."""
WHY: Final = "the bench is over"


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said over and over: mono, float32 or int16 ``[n]``, and its rate."""

    pcm: NDArray[np.generic]
    rate: int


@dataclass(eq=False)
class _Member:
    """A session, its seat, and what it is doing."""

    number: int
    seat: Seat
    handle: SessionHandle
    talks: anyio.CancelScope | None = None
    silent: anyio.Event = field(default_factory=anyio.Event)
    leaving: bool = False
    ended: str = ""


class Crowd:
    """Made by ``gathered``."""

    def __init__(self, launcher: Launcher, audience: Audience, avatar: str, speech: Speech, tasks: TaskGroup) -> None:
        self._launcher, self._audience = launcher, audience
        self._avatar, self._speech = avatar, speech
        self._tasks = tasks
        self._members: list[_Member] = []

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ended(self) -> str:
        """Why a session has ended that should not have; empty if none has."""
        return next((member.ended for member in self._members if member.ended), "")

    async def fill(self, count: int) -> tuple[int, str]:
        """Have so many sessions; returns how many there are, and why there are not more.

        Raises what made a session fail, TransportError if one is not seen.
        """
        for gone in [member for member in self._members if member.ended] + self._members[count:]:
            if gone in self._members:
                await self._leave(gone)
        if not count:
            return 0, ""
        try:
            while len(self._members) < count:
                await self._join()
        except AtCapacity as full:
            return len(self._members), full.message
        await self._until_seen()
        return len(self._members), ""

    async def _join(self) -> None:
        seat = await self._audience.take_seat()
        number = len(self._members)
        try:
            # Limits of its own would be the deployment's: a bench lasts as long as it lasts.
            request = SessionRequest(avatar=self._avatar, seed=number, transport=dict(seat.transport))
            handle = await self._launcher.start(request)
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(ENDS):
                await self._audience.leave_seat(seat)
            raise
        member = _Member(number, seat, handle)
        self._members.append(member)
        self._tasks.start_soon(self._watch, member)

    async def _watch(self, member: _Member) -> None:
        """Notice when a session ends by itself."""
        why = "it ended"
        try:
            await member.handle.wait()
        except VisavisError as error:
            why = error.message
        if not member.leaving:
            member.ended = why
        if member.talks is not None:
            member.talks.cancel()

    async def _leave(self, member: _Member) -> None:
        member.leaving = True
        self._members.remove(member)
        await member.handle.close(WHY)
        # Why it failed, if it did, was said then.
        with anyio.move_on_after(ENDS), suppress(SessionError):
            await member.handle.wait()
        await self._audience.leave_seat(member.seat)

    async def _until_seen(self) -> None:
        """Wait until each session's pictures arrive."""
        await self._audience.begin()
        with anyio.move_on_after(APPEARS):
            while not self.ended:
                sight = await self._audience.seen()
                if all((seen := sight.seats.get(m.seat.room)) is not None and seen.frames for m in self._members):
                    return
                await anyio.sleep(0.1)

    # -- talking

    def talk(self) -> None:
        """Have all of them talk from now on."""
        for member in self._members:
            if member.talks is None and not member.ended:
                member.talks = anyio.CancelScope()
                member.silent = anyio.Event()
                self._tasks.start_soon(self._speak, member, member.talks)

    async def hush(self) -> None:
        """Have all of them be silent, and wait until they are."""
        for member in self._members:
            if member.talks is not None:
                member.talks.cancel()
                await member.silent.wait()
                member.talks = None

    async def _speak(self, member: _Member, scope: anyio.CancelScope) -> None:
        pcm, rate = self._speech.pcm, self._speech.rate
        size = max(1, round(CHUNK * rate))
        at = round(member.number * APART * rate) % len(pcm)
        try:
            with scope:
                stream = await member.handle.speak(rate)
                while True:
                    await stream.write(np.take(pcm, range(at, at + size), mode="wrap"))
                    at = (at + size) % len(pcm)
                    await anyio.lowlevel.checkpoint()  # what is written to a session that has ended never waits
            if not member.ended:
                await member.handle.interrupt()
        except SessionError as error:
            member.ended = member.ended or error.message
        finally:
            member.silent.set()

    # -- figures

    async def stats(self) -> list[SessionStats]:
        """The figures of all of them."""
        return [await member.handle.stats() for member in self._members]

    async def sight(self) -> Sight:
        """What has arrived at its own seats since the audience began to count."""
        sight = await self._audience.seen()
        return Sight({m.seat.room: sight.seats[m.seat.room] for m in self._members}, sight.stalled)

    async def begin(self) -> None:
        """Have the audience count anew."""
        await self._audience.begin()

    @property
    def strangers(self) -> Sequence[int]:
        """The audience's processes."""
        return self._audience.processes

    async def capacity(self) -> int | None:
        """How many sessions the launcher would take on by what it has measured."""
        return (await self._launcher.capacity()).reckoned


@asynccontextmanager
async def gathered(launcher: Launcher, audience: Audience, avatar: str, speech: Speech) -> AsyncIterator[Crowd]:
    """An empty crowd; its sessions end with the block. What the block raises comes out as it is."""
    try:
        async with anyio.create_task_group() as tasks:
            crowd = Crowd(launcher, audience, avatar, speech, tasks)
            try:
                yield crowd
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2 * ENDS):
                    await crowd.fill(0)
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single(group) from None
