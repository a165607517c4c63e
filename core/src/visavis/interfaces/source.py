"""The contract of an audio source: where speech comes from.

A source is made anew for every session. Its life: ``prepare`` -> ``joined`` -> ``run`` -> ``aclose``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from visavis.interfaces.session import SessionContext, SpeechStream


class SpeechWriter(Protocol):
    """A source's seat at the session's speech floor."""

    async def open(self, rate: int, channels: int = 1) -> SpeechStream:
        """Begin a segment; it waits for its turn if the floor is taken (policy ``queue``).

        With policy ``replace`` the speaker is interrupted first; with ``refuse`` FloorRefused is raised.
        A segment of this writer that is still open is ended first.
        """

    async def interrupt(self) -> None:
        """Stop everything that is being said or waits. Idempotent; returns once the segments are finished."""


class AudioSource(ABC):
    """Where speech comes from: a file, a room, an agent, a microphone."""

    async def prepare(self, context: SessionContext) -> None:
        """Before the transport connects: register what must not miss the first sound."""

    async def joined(self, context: SessionContext) -> None:
        """The transport is connected."""

    @abstractmethod
    async def run(self, speech: SpeechWriter) -> None:
        """Write speech until there is no more, then return. One task: it is cancelled when the session ends.

        An exception ends the session with it; one bad stream of several should be refused and survived.
        """

    async def aclose(self) -> None:
        """Let go of what the source holds, also after a failed start. May be called twice."""
