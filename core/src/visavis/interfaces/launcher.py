"""The contract of a launcher: it decides where a session runs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from visavis.interfaces.session import SessionHandle, SessionRequest


class Launcher(ABC):
    """Starts sessions: in this process, in a worker process, or on a distributed engine."""

    @abstractmethod
    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session and return once it runs. Raises a VisavisError if it cannot; no slot is lost then."""

    @abstractmethod
    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""

    @abstractmethod
    async def aclose(self) -> None:
        """End all sessions and let go."""
