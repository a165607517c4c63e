"""What the server remembers of a session: from the request until some time after its end."""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass, field
from typing import Literal

import anyio
from visavis.interfaces.session import SessionHandle, SessionLimits, SessionStats

from visavis_server_http import wall
from visavis_server_http.errors import ApiError
from visavis_server_http.keys import Caller
from visavis_server_http.speech import Mouth

Status = Literal["starting", "running", "completed", "failed", "cancelled"]


def new_id() -> str:
    """An id for a session: ``sess_`` and 16 hexadecimal digits, not to be guessed."""
    return "sess_" + secrets.token_hex(8)


@dataclass(eq=False)
class Entry:
    """One session, as its caller sees it. Times are UTC.

    ``identity`` is whom it serves (an agent's identity; None: anyone in the room), ``participant`` its own identity in
    ``room``. ``reason`` and ``error`` say why it ended; ``cancelled`` is what a caller stopped.
    """

    avatar: str
    room: str
    participant: str
    identity: str | None
    livekit_url: str
    dialect: str
    caller: Caller
    limits: SessionLimits
    fingerprint: str = ""
    id: str = field(default_factory=new_id)
    created_at: datetime.datetime = field(default_factory=wall.now)
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    status: Status = "starting"
    reason: str = ""
    error: str | None = None
    handle: SessionHandle | None = None
    failure: ApiError | None = None
    """Why it could not be started."""
    stats: SessionStats = field(default_factory=SessionStats)
    """The figures when it ended; while it runs see :meth:`figures`."""
    stopping: str = ""
    """Why a caller wants it to end."""
    mouth: Mouth = field(default_factory=Mouth, repr=False)
    """What it is to say by HTTP."""
    created: float = field(default_factory=anyio.current_time)
    ended: float | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, repr=False)
    settled: anyio.Event = field(default_factory=anyio.Event, repr=False)
    over: anyio.Event = field(default_factory=anyio.Event, repr=False)

    @property
    def active(self) -> bool:
        """Whether it starts or runs."""
        return self.finished_at is None

    async def wait_started(self) -> None:
        """Wait until it runs. Raises ApiError if it could not be started."""
        await self.settled.wait()
        if self.failure is not None:
            raise self.failure

    async def figures(self) -> SessionStats:
        """Its figures so far, or as they were at its end."""
        if self.active and self.handle is not None:
            self.stats = await self.handle.stats()
        return self.stats

    def finish(self, status: Status, reason: str, error: str | None = None) -> bool:
        """It ends here. Only the first call counts; returns whether this was it."""
        if not self.active:
            return False
        self.status, self.reason, self.error = status, reason, error
        self.finished_at, self.ended = wall.now(), anyio.current_time()
        self.settled.set()
        self.over.set()
        return True

    @property
    def seconds(self) -> float:
        """How long it has run since it was started, in seconds; 0 if it never was."""
        if self.started_at is None:
            return 0.0
        return ((self.finished_at or wall.now()) - self.started_at).total_seconds()


class Ledger:
    """The entries by id, and by what makes a start the same as an earlier one. Ended ones are forgotten in time."""

    def __init__(self, *, keep_s: float, keep: int) -> None:
        self._keep_s, self._keep = keep_s, keep
        self._entries: dict[str, Entry] = {}
        self._starts: dict[str, Entry] = {}

    def add(self, entry: Entry, *keys: str) -> None:
        """Remember an entry; a later start with one of ``keys`` finds it."""
        self.forget()
        self._entries[entry.id] = entry
        self._starts |= dict.fromkeys(keys, entry)

    def get(self, entry_id: str) -> Entry | None:
        """The entry of an id."""
        self.forget()
        return self._entries.get(entry_id)

    def started(self, key: str) -> Entry | None:
        """The entry that a start with this key made, unless it is forgotten or failed to start."""
        self.forget()
        entry = self._starts.get(key)
        return None if entry is None or entry.failure is not None else entry

    def all(self, caller: Caller | None = None) -> list[Entry]:
        """The entries of one caller or of all, oldest first."""
        self.forget()
        return [e for e in self._entries.values() if caller is None or e.caller.id == caller.id]

    def active(self, caller: Caller | None = None) -> list[Entry]:
        """Those that start or run."""
        return [entry for entry in self.all(caller) if entry.active]

    def forget(self) -> None:
        """Drop what ended too long ago, and the oldest of too many."""
        ended = [entry for entry in self._entries.values() if not entry.active]
        ended.sort(key=lambda entry: entry.ended or 0.0)
        now, extra = anyio.current_time(), len(ended) - self._keep
        gone = {e.id for n, e in enumerate(ended) if n < extra or now - (e.ended or now) > self._keep_s}
        if gone:
            self._entries = {k: e for k, e in self._entries.items() if k not in gone}
            self._starts = {k: e for k, e in self._starts.items() if e.id not in gone}
