"""A worker as a launcher sees it: how full it is, whether it lives, and the sessions that run there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import anyio

from visavis.errors import SessionError
from visavis.interfaces.launcher import Capacity
from visavis.interfaces.session import SessionLimits, SessionRequest
from visavis.metrics import Metrics, NoMetrics
from visavis.remote.calls import Calls
from visavis.remote.figures import FiguresIn
from visavis.remote.logs import log_again
from visavis.remote.session import RemoteSession
from visavis.remote.telling import capacity_of, error_of, stats_of, told_request
from visavis.remote.wire import Message, Wire, WireClosed

log = logging.getLogger("visavis.launcher")

Sure = Callable[[], Awaitable[bool]]

LATENESS: float = 1.0
"""Seconds by which this loop's own clock may be late before it believes that a worker is silent."""


class RemoteWorker:
    """One end of a wire; the other is a ``service.Service``.

    ``listen`` is its task: it returns once the wire is gone. ``name`` stands in the log.
    """

    def __init__(
        self,
        wire: Wire,
        name: str,
        spawn: Callable[..., None],
        *,
        figures: FiguresIn | None = None,
        ended: Callable[[RemoteSession], None] = lambda session: None,
        moved: Callable[[RemoteSession], None] | None = None,
        news: Callable[[RemoteWorker, Message], None] = lambda worker, message: None,
        shared: bool = False,
    ) -> None:
        """``shared`` says that others give it sessions, too: then its own account of how many counts as well.

        ``ended`` hears of each session's end; ``moved`` of those that are to be begun again elsewhere instead;
        ``news`` of whatever else the worker says."""
        self.name = name
        self.calls = Calls(wire)
        self.sessions: dict[str, RemoteSession] = {}
        """Those that run there, by id."""
        self.gone = anyio.Event()
        """Set once the wire is gone, or the worker was given up."""
        self.why = ""
        """Why it is gone."""
        self.ready = anyio.Event()
        """Set with its first beat."""
        self.taking = True
        """False once it is to be given no further session."""
        self.started = 0
        """Sessions that were started there."""
        self._coming: dict[str, RemoteSession] = {}
        self._wire, self._spawn, self._ended = wire, spawn, ended
        self._moved, self._news, self._shared = moved, news, shared
        self._figures = figures or FiguresIn(_nowhere)
        self._capacity = Capacity(0, 0, None)
        self._drawing = 0.0
        self._heard = anyio.current_time()
        self._refusal: Exception | None = None

    # -- its life

    async def listen(self) -> None:
        """Take in what it says until it is gone. Raises the error that it gave for not being able to serve at all."""
        try:
            while not self.gone.is_set():
                message, _ = await self._wire.receive()
                self._take(message)
        except WireClosed as closed:
            self.give_up(str(closed))
        finally:
            self.give_up("it was let go")
            self._figures.forget(self)
        if self._refusal is not None:
            raise self._refusal

    async def stop(self) -> None:
        """Ask it to end its sessions and itself."""
        try:
            await self._wire.send({"stop": True})
        except WireClosed:
            return

    def give_up(self, why: str) -> None:
        """It is gone, or as good as gone: every call ends. Only the first reason counts."""
        if not self.gone.is_set():
            self.why = why
            self.taking = False
            self.gone.set()
            self.calls.fail(SessionError(f"the worker {self.name} is gone: {why}"))

    async def watch(self, patience: float, *, drawing: float | None = None, sure: Sure | None = None) -> None:
        """Give it up once its loop is silent, or its renderer draws at one picture, for longer than ``patience`` s.

        ``drawing`` is another patience for the renderer; ``sure`` says whether it is the worker that is silent.
        """
        every = min(0.5, patience / 4)
        longest = patience if drawing is None else drawing
        while not self.gone.is_set():
            due = anyio.current_time() + every
            await anyio.sleep(every)
            now = anyio.current_time()
            if now - due > LATENESS:
                self._heard = max(self._heard, now - patience / 2)  # we were the ones who stood still
            elif self.ready.is_set() and now - self._heard > patience:
                if sure is None or (await sure() and anyio.current_time() - self._heard > patience):
                    self.give_up(f"it gave no sign of life for {patience:g} s")
            elif self._drawing > longest:
                self.give_up(f"its renderer has been at one call for {self._drawing:.0f} s")

    # -- what it says

    def _take(self, message: Message) -> None:
        self._heard = anyio.current_time()
        if "answer" in message:
            self.calls.answer(message)
        elif "beat" in message:
            self._beat(message)
        elif "ended" in message:
            self._end(message)
        elif "heard" in message or "finished" in message:
            place = message.get("heard") or message["finished"]
            if (session := self.sessions.get(place["session"])) is not None:
                session.tell(str(place["stream"]), how=message.get("how"))
        elif "refused" in message:
            self._refusal = error_of(message["refused"])
            self.give_up(str(self._refusal))
        else:
            self._news(self, message)

    def _beat(self, message: Message) -> None:
        self._capacity = capacity_of(message["beat"])
        self._drawing = float(message["drawing"])
        for session_id, notes in message["notes"].items():
            if (session := self.sessions.get(session_id)) is not None:
                session.notes = notes
        for session_id, stream, played in message["played"]:
            if (session := self.sessions.get(session_id)) is not None:
                session.tell(stream, played=int(played))
        self._figures.add(self, message.get("figures", {}))
        log_again(message.get("log", []), worker=self.name)
        self.ready.set()

    def _end(self, message: Message) -> None:
        session_id = str(message["ended"])
        session = self.sessions.pop(session_id, None) or self._coming.get(session_id)
        if session is not None:
            if message.get("moved") and self._moved is not None and not session.closing:
                session.notes = message.get("notes", {})
                self._moved(session)
                return
            error = error_of(message["error"]) if message.get("error") else None
            session.end(stats_of(message["stats"]), error)
            self._ended(session)

    # -- sessions

    @property
    def starting(self) -> int:
        """Sessions that are being started there, or undone because nobody wants them any more."""
        return len(self._coming) + self.calls.abandoned("start")

    @property
    def capacity(self) -> Capacity:
        """How full it is: by our own account, which is ahead of what it last said."""
        said, running, starting = self._capacity, len(self.sessions), self.starting
        if self._shared:
            running = max(running, said.running)
        if self.gone.is_set() or not self.ready.is_set():
            return Capacity(running, starting, said.most, "it is not ready")
        if said.most is not None and running + starting >= said.most:
            taken = f"all {said.most} sessions are taken" if said.most > 1 else "the one session is taken"
            return replace(said, running=running, starting=starting, problem=taken)
        return replace(said, running=running, starting=starting)

    @property
    def load(self) -> float:
        """How full it is, 0 for empty and 1 for full; where no limit is known, by the number of sessions."""
        full = self.capacity
        return (full.running + full.starting) / (full.most or 1_000)

    async def start(self, session: RemoteSession, request: SessionRequest) -> None:
        """Start a session there. Raises what made it fail; then nothing of it is left."""
        self._coming[session.id] = session
        try:
            told = await self.calls.call(
                "start",
                late=lambda told: self._spawn(self._undo, str(told["id"])),
                request=told_request(request),
                id=session.id,
                inherited=dict(session.notes),
            )
            self.started += 1
            self.hold(session, told["limits"])
        finally:
            del self._coming[session.id]

    def hold(self, session: RemoteSession, limits: Mapping[str, Any]) -> None:
        """A session runs there now. Raises SessionError if the worker is gone since."""
        if self.gone.is_set():
            raise SessionError(f"the worker {self.name} is gone: {self.why}")
        if session.closed_meanwhile:
            self._spawn(self._undo, session.id)
        if not session.over:
            self.sessions[session.id] = session
            session.settle(self, SessionLimits.model_validate(dict(limits)))

    async def _undo(self, session_id: str) -> None:
        """Whoever wanted it has left."""
        try:
            await self.calls.call("close", session=session_id, reason="nobody wants it any more", finish=False)
        except SessionError:
            return  # it is gone with its worker

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """Draw there for nobody; returns the seconds that each picture took."""
        took: list[float] = await self.calls.call("rehearse", avatar=avatar, frames=frames)
        return took


_nowhere: Metrics = NoMetrics()
