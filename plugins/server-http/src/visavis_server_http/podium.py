"""Where sessions are given what to say, with a bound to how much of it is kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from anyio.abc import TaskGroup, TaskStatus
from visavis.errors import VisavisError
from visavis.interfaces.session import SessionHandle
from visavis.media import AudioFormat
from visavis.redaction import redacted

from visavis_server_http import accounting
from visavis_server_http.entries import Entry
from visavis_server_http.errors import ApiError, unavailable
from visavis_server_http.speech import Pieces, Spoken

log = logging.getLogger("visavis.server.http")


class Podium:
    """Speech from bodies, for all sessions. ``most`` bytes of sound are kept at once."""

    def __init__(self, tasks: TaskGroup, most: int) -> None:
        self._tasks, self._most = tasks, most
        self._held = 0

    @contextmanager
    def holding(self, size: int) -> Iterator[ExitStack]:
        """Count bytes that are kept, until the stack is closed. Raises ApiError 503 if there are too many already."""
        if self._held + size > self._most:
            raise unavailable("AT_CAPACITY", "too much sound waits to be said", 2.0)
        self._held += size
        with ExitStack() as stack:
            stack.callback(self._let_go, size)
            yield stack

    def _let_go(self, size: int) -> None:
        self._held -= size

    async def say(self, entry: Entry, format: AudioFormat, pieces: Pieces, *, wait: bool) -> Spoken:
        """Say something after what is being said; return once all was taken or, with ``wait``, once it was played.

        Raises ApiError, and what ``pieces`` raises.
        """
        handle = _handle(entry)
        if wait:
            return await entry.mouth.say(handle, format, pieces)
        stream = await entry.mouth.write(handle, format, pieces)
        return Spoken(None if stream is None else stream.id, None)

    async def say_later(self, entry: Entry, format: AudioFormat, pieces: Pieces, hold: ExitStack) -> str | None:
        """Say something from memory: returns at once, with the segment's id if nobody is ahead. Raises ApiError.

        ``hold`` is closed once all was taken.
        """
        with hold:
            handle, kept = _handle(entry), hold.pop_all()
            segment: str | None = await self._tasks.start(self._say, entry, handle, format, pieces, kept)
            return segment

    async def _say(
        self,
        entry: Entry,
        handle: SessionHandle,
        format: AudioFormat,
        pieces: Pieces,
        hold: ExitStack,
        *,
        task_status: TaskStatus[str | None],
    ) -> None:
        told = _Told(task_status)
        with hold:
            try:
                await entry.mouth.write(handle, format, pieces, task_status=told)
            except Exception as error:
                if not told.value:
                    raise  # it reaches whoever waits for the start
                ours = isinstance(error, ApiError | VisavisError)
                why, trace = (redacted(str(error)), None) if ours else ("a defect", error)
                log.warning("what was to be said was not: %s", why, exc_info=trace, extra=accounting.about(entry))
            else:
                if not told.value:
                    task_status.started(None)


class _Told(TaskStatus["str | None"]):
    """Remembers whether the start was reported."""

    def __init__(self, status: TaskStatus[str | None]) -> None:
        self._status, self.value = status, False

    def started(self, value: str | None = None) -> None:
        """Report it."""
        self.value = True
        self._status.started(value)


def _handle(entry: Entry) -> SessionHandle:
    if entry.handle is None:
        raise ApiError(409, "SESSION_NOT_RUNNING", f"the session is {entry.status}", {"status": entry.status})
    return entry.handle
