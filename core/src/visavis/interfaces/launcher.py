"""The contract of a launcher: it decides where a session runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from visavis.interfaces.session import SessionHandle, SessionRequest


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
        """Start a session and return once it runs. Raises a VisavisError if it cannot; no slot is lost then."""

    @abstractmethod
    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""
