"""The contract of a transport: it takes pictures with their sound, and says what has really been played."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from visavis.component import ComponentConfig
from visavis.interfaces.session import SessionContext

if TYPE_CHECKING:
    from visavis.media import AudioFormat, PairedFrame, VideoFormat


class Pacing(StrEnum):
    """Whose clock the frames keep."""

    REALTIME = "realtime"
    """Frames go out on the media clock; what is late is dropped (pictures only)."""
    ASAP = "asap"
    """Files: nothing sleeps, nothing is dropped, media time advances only with the source's samples."""


class TransportSession(ABC):
    """One session's way out. Its life: ``open`` -> ``publish`` -> ``present``... -> ``drain`` -> ``aclose``."""

    @property
    @abstractmethod
    def pacing(self) -> Pacing:
        """Whose clock the frames keep."""

    @property
    def audio_format(self) -> AudioFormat | None:
        """The sound it wants; None to take that of the first segment."""
        return None

    async def open(self, context: SessionContext) -> None:
        """Connect. What sources registered in ``prepare`` is in place by now."""

    @abstractmethod
    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        """Make the tracks (or streams) visible, before any frame."""

    @abstractmethod
    async def present(self, frame: PairedFrame) -> None:
        """Take one frame. May wait while its own buffer (bounded in milliseconds) is full."""

    def held(self) -> int:
        """Samples taken but not played yet, at the format's rate. 0 for a file."""
        return 0

    async def flush(self) -> None:
        """Throw away what is held: an interrupt. Afterwards ``held()`` is 0."""

    async def drain(self) -> None:
        """Wait until everything taken has been played."""

    async def announce(self, **facts: str) -> None:
        """Tell the far end about the session (``state="ending"``, ``reason="..."``); a file has nobody to tell."""

    async def closed(self) -> str:
        """Wait until the far end is gone (the room, the viewer); returns the reason. A file never is."""
        await anyio.sleep_forever()
        return ""  # pragma: no cover (never reached)

    @abstractmethod
    async def aclose(self, error: BaseException | None = None) -> None:
        """Finish (a file is completed) or, with an error, give up (a file is removed). May be called twice."""


class Transport(ABC):
    """Makes a session's way out. One for the whole process."""

    @abstractmethod
    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        """Make what a session needs, not connected yet; provide shared resources in ``context``.

        ``options`` is an instance of the record's ``session`` model.
        """

    async def aclose(self) -> None:
        """Let go of what is shared. May be called twice."""
