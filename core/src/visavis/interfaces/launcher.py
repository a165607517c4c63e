"""The contract of a launcher: it decides where a session runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from visavis.errors import SessionError
from visavis.interfaces.session import SessionHandle, SessionRequest


@dataclass(frozen=True, slots=True)
class Capacity:
    """How full it is. ``most`` is None where no number is known yet; ``retry_after`` is in seconds.

    ``problem`` says in one sentence why no session would be started now; None if one would. ``reckoned`` is how many it
    would take on by what was measured, also where ``most`` is a fixed number; None where that is not known.
    """

    running: int
    starting: int
    most: int | None
    problem: str | None = None
    retry_after: float = 5.0
    reckoned: int | None = None


class Launcher(ABC):
    """Starts sessions: in this process, in a worker process, or on a distributed engine.

    An async context manager: entering it makes what sessions share, leaving it ends all sessions.
    """

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Get ready to start sessions."""

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End all sessions and let go."""

    @abstractmethod
    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session and return once it runs. Raises a VisavisError if it cannot; no slot is lost then.

        Raises AtCapacity, before anything is joined, if it takes on no more.
        """

    @abstractmethod
    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""

    @abstractmethod
    async def capacity(self) -> Capacity:
        """How full it is."""

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """Draw so many pictures for nobody, and say how many seconds each took: a benchmark while it runs.

        Raises AvatarError, RendererError; SessionError by a launcher that cannot do it.
        """
        raise SessionError("this launcher draws for sessions alone", hint="measure with `visavis bench`")
