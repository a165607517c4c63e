"""Speaking over HTTP: one utterance of a session at a time, in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from numpy.typing import NDArray
from visavis.interfaces.session import PlaybackFinished, SessionHandle, SpeechStream
from visavis.media import AudioFormat

from visavis_server_http.errors import too_many

MOST_WAITING: Final = 8

Pieces = AsyncIterator[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Spoken:
    """How an utterance ended. ``segment`` None: an interrupt came before its turn."""

    segment: str | None
    finished: PlaybackFinished | None

    @property
    def played(self) -> bool:
        """Whether it was said to its end."""
        return self.finished is not None and not self.finished.interrupted

    @property
    def position(self) -> float:
        """Seconds that were played."""
        return self.finished.position if self.finished is not None else 0.0


class Mouth:
    """What a session is to say by HTTP: the session's floor lets each writer hold one segment."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._waiting = 0
        self._epoch = 0

    async def say(self, handle: SessionHandle, format: AudioFormat, pieces: Pieces) -> Spoken:
        """As :meth:`write`, and wait until it was played."""
        stream = await self.write(handle, format, pieces)
        return Spoken(None, None) if stream is None else Spoken(stream.id, await stream.wait_finished())

    async def write(
        self,
        handle: SessionHandle,
        format: AudioFormat,
        pieces: Pieces,
        *,
        task_status: TaskStatus[str | None] = anyio.TASK_STATUS_IGNORED,
    ) -> SpeechStream | None:
        """Write it when its turn comes; returns once all was taken. None: an interrupt came before its turn.

        Reports the segment's id once it is open, or None at once if others are ahead. Raises ApiError 429 if too many
        wait, and what ``pieces`` raises, once the segment was ended.
        """
        epoch, ahead = self._epoch, self._turn.locked()
        if self._waiting >= MOST_WAITING:
            raise too_many(f"{MOST_WAITING} utterances wait already", 1.0, limit="utterances")
        if ahead:
            task_status.started(None)
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            if epoch != self._epoch:
                return None
            stream = await handle.speak(format.rate, format.channels)
            if not ahead:
                task_status.started(stream.id)
            await self._feed(stream, pieces)
        finally:
            self._turn.release()
        return stream

    async def _feed(self, stream: SpeechStream, pieces: Pieces) -> None:
        """Write it all, or until an interrupt or the session's end finishes the segment."""
        broken: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_finished, stream, tasks.cancel_scope)
            try:
                async for piece in pieces:
                    await stream.write(piece)
            except Exception as error:  # noqa: BLE001 - told below, outside of the group
                broken = error
            with anyio.CancelScope(shield=True):
                await stream.end()
            tasks.cancel_scope.cancel()
        if broken is not None:
            raise broken

    async def _until_finished(self, stream: SpeechStream, scope: anyio.CancelScope) -> None:
        await stream.wait_finished()
        scope.cancel()

    def interrupt(self) -> None:
        """What waits for its turn will not be said."""
        self._epoch += 1
