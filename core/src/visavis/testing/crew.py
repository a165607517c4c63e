"""Workers without processes: a launcher's other end in tasks of this one, to be killed, frozen and made to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from visavis.config import Deployment, Limits
from visavis.errors import SessionError, VisavisError
from visavis.processes.hiring import Hired
from visavis.remote.figures import FiguresOut
from visavis.remote.service import Service
from visavis.remote.telling import told_error
from visavis.remote.wire import Message, Wire, WireClosed, packed, whole
from visavis.session import single
from visavis.supervisor import LocalLauncher

_WAITING = 64


class MemoryWire(Wire):
    """One end of a wire within this process. What is sent goes through bytes, as between processes."""

    def __init__(self, out: MemoryObjectSendStream[bytes], into: MemoryObjectReceiveStream[bytes]) -> None:
        self._out, self._into = out, into
        self._thawed = anyio.Event()
        self._thawed.set()

    def freeze(self) -> None:
        """Send nothing any more, as a process whose loop stands still."""
        self._thawed = anyio.Event()

    def thaw(self) -> None:
        """Go on."""
        self._thawed.set()

    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Send one message. Raises WireClosed."""
        await self._thawed.wait()
        try:
            await self._out.send(packed(message, payload))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise WireClosed("the other process is gone") from None

    async def receive(self) -> tuple[Message, bytes]:
        """The next message. Raises WireClosed."""
        try:
            return whole(await self._into.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise WireClosed("the other process is gone") from None

    async def aclose(self) -> None:
        """Close both directions."""
        self.cut()

    def cut(self) -> None:
        """Close both directions at once."""
        self._out.close()
        self._into.close()


def wires() -> tuple[MemoryWire, MemoryWire]:
    """Both ends of a wire."""
    there = anyio.create_memory_object_stream[bytes](_WAITING)
    back = anyio.create_memory_object_stream[bytes](_WAITING)
    return MemoryWire(there[0], back[1]), MemoryWire(back[0], there[1])


@dataclass(eq=False)
class Member:
    """A worker in a task of this process."""

    wire: MemoryWire
    scope: anyio.CancelScope
    launcher: LocalLauncher
    environment: Mapping[str, str]
    weight: int = 0
    """What it is said to weigh, in bytes."""
    killed: bool = False
    over: bool = False
    """Whether it has ended."""

    def kill(self) -> None:
        """Gone without a word, as by SIGKILL."""
        self.killed = True
        self.wire.cut()
        self.scope.cancel()


@dataclass
class Crew:
    """Hires workers that are tasks. ``deployment`` is what they all have, its limits those of their orders."""

    deployment: Deployment
    members: list[Member] = field(default_factory=list)
    """All that were hired, in order."""
    fails: list[VisavisError] = field(default_factory=list)
    """Why the next ones to be hired cannot start."""
    made: Callable[..., LocalLauncher] = LocalLauncher

    @property
    def alive(self) -> list[Member]:
        """Those that were not killed and have not ended."""
        return [member for member in self.members if not member.killed and not member.over]

    @asynccontextmanager
    async def hire(self, orders: Mapping[str, Any], environment: Mapping[str, str]) -> AsyncIterator[Hired]:
        """Stands in for ``visavis.processes.hiring.hired``."""
        if self.fails:
            raise self.fails.pop(0)
        ours, theirs = wires()
        limits = Limits.model_validate(orders["limits"])
        told = replace(self.deployment, limits=limits, prewarm=tuple(orders["prewarm"]))
        figures = FiguresOut()
        launcher = self.made(told, metrics=figures, cores=orders["cores"])
        async with anyio.create_task_group() as tasks:
            member = Member(theirs, anyio.CancelScope(), launcher, dict(environment))
            self.members.append(member)
            tasks.start_soon(self._work, member, figures)
            try:
                yield Hired(ours, len(self.members), member.kill, lambda: member.weight)
            finally:
                ours.cut()
                tasks.cancel_scope.cancel()

    @staticmethod
    async def _work(member: Member, figures: FiguresOut) -> None:
        """As ``visavis.processes.__main__`` does it."""
        wire = member.wire
        try:
            with member.scope:
                async with member.launcher:
                    service = Service(wire, member.launcher, figures=figures)
                    await service.run()
                await service.farewell()
        except Exception as error:  # noqa: BLE001 - told to the other end, as a process would
            cause = single(error)
            told = cause if isinstance(cause, VisavisError) else SessionError(f"a defect: {type(cause).__name__}")
            await _last_word(wire, told)
        finally:
            member.over = True
            wire.cut()


async def _last_word(wire: MemoryWire, error: VisavisError) -> None:
    try:
        await wire.send({"refused": told_error(error)})
    except WireClosed:
        return  # nobody is there to be told
