"""The contract of an audience: rooms for a bench to send sessions to, and somebody there who counts what arrives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Seat:
    """A room of its own name with a subscriber in it. ``transport`` are a session's options to come there."""

    room: str
    transport: Mapping[str, Any] = field(repr=False)
    """May hold secrets: a room's token."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What arrived at one seat: pictures within so many seconds, and the longest time without one (seconds)."""

    frames: int
    seconds: float
    longest_gap: float

    @property
    def fps(self) -> float:
        """Pictures a second."""
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What arrived at all seats, by their rooms' names."""

    seats: Mapping[str, Seen]
    stalled: float = 0.0
    """The longest time (seconds) for which the audience itself stood still: what it missed, the server had sent."""


class Audience(ABC):
    """Makes rooms that nobody else uses, and watches them from processes of its own. An async context manager.

    Leaving it leaves nothing behind: no process, no participant, no room.
    """

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Get ready. Raises a VisavisError that says what is missing."""

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Leave all rooms."""

    @abstractmethod
    async def take_seat(self) -> Seat:
        """Make a room and subscribe to whoever comes there. Raises TransportError."""

    @abstractmethod
    async def leave_seat(self, seat: Seat) -> None:
        """Leave a room. Raises TransportError."""

    @abstractmethod
    async def begin(self) -> None:
        """Count anew, at all seats. Raises TransportError."""

    @abstractmethod
    async def seen(self) -> Sight:
        """What has arrived since ``begin``. Raises TransportError."""

    @property
    @abstractmethod
    def processes(self) -> Sequence[int]:
        """The ids of its processes: what they cost is not the server's."""
