"""What an avatar is to the agent, wherever it runs: it is asked for, it joins, it is lost, it is let go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from livekit import rtc
from livekit.agents.voice.io import AudioOutput

ROOM_EVENTS = (
    "connection_state_changed",
    "participant_connected",
    "participant_active",
    "participant_disconnected",
    "track_published",
    "disconnected",
)


@dataclass(frozen=True, slots=True)
class Loss:
    """How an avatar was lost. ``alive_until`` is when it was last known to live, on the event loop's clock.

    ``orderly`` means that it left for a reason of its own, such as a limit; it is asked back when the agent speaks.
    """

    reason: str
    alive_until: float
    orderly: bool = False
    error: Exception | None = None


class Link(ABC):
    """One avatar for one agent. Each of ``ask``, ``join``, ``lost``, ``drop`` may come again, in this order; one that
    ``comes_back`` is joined again without being asked."""

    def __init__(self, room: rtc.Room) -> None:
        self._room = room

    async def connected(self) -> None:
        """Wait until the agent is in its room."""
        await until(self._room, self._room.isconnected)

    @property
    @abstractmethod
    def identity(self) -> str:
        """The identity of the participant that the avatar publishes as."""

    @abstractmethod
    async def ask(self, *, patience: float | None = None) -> None:
        """Ask for the avatar; waits no longer than about ``patience`` seconds for a busy server."""

    @abstractmethod
    async def join(self, tasks: TaskGroup) -> AudioOutput:
        """Wait until it is in the room and its video is published; returns what to speak to."""

    @abstractmethod
    async def lost(self) -> Loss:
        """Wait until it is gone."""

    async def comes_back(self) -> bool:
        """After a loss: wait as long as the avatar may come back by itself; whether it has."""
        return False

    @abstractmethod
    async def drop(self, reason: str) -> None:
        """Let go of it: nothing of it stays in the room. Never raises; may be called at any time, twice."""

    async def aclose(self) -> None:
        """After the last ``drop``."""
        await self.drop("closed")


async def until(room: rtc.Room, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that changes with the room's events."""
    change = anyio.Event()

    def changed(*_: object) -> None:
        change.set()

    for event in ROOM_EVENTS:
        room.on(event, changed)
    try:
        while not condition():
            await change.wait()
            change = anyio.Event()
    finally:
        for event in ROOM_EVENTS:
            room.off(event, changed)
