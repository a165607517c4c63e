"""What launchers have in common whose sessions run in other processes: they are counted here, and begun again."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from statistics import median
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from visavis.config import Deployment
from visavis.errors import AtCapacity, SessionError, VisavisError
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.metrics import Metrics, NoMetrics
from visavis.remote.session import RemoteSession
from visavis.remote.worker import RemoteWorker
from visavis.supervisor.admission import RETRY_AFTER
from visavis.supervisor.parts import new_session_id

log = logging.getLogger("visavis.launcher")

AGAIN_SECONDS: Final = 30.0
"""How long a place is looked for, for a session whose worker is gone."""
AGAIN_PAUSE: Final = 0.25
MOST_DEATHS: Final = 3
DEATHS_WITHIN: Final = 300.0
"""A session that has lost so many workers within so many seconds may be what kills them: it is not begun again."""
LOAD_SECONDS: Final = 1.0
STOPS: Final = "the server stops"


class RemoteLauncher(Launcher):
    """Keeps the sessions; whoever derives from it says where one is placed, and calls ``lose`` for a lost worker."""

    def __init__(self, deployment: Deployment, *, metrics: Metrics | None = None) -> None:
        self.deployment = deployment
        self.metrics = metrics or NoMetrics()
        self._sessions: dict[str, RemoteSession] = {}
        self._starts: set[anyio.CancelScope] = set()
        self._closing = False
        self._tasks: TaskGroup

    @property
    @abstractmethod
    def workers(self) -> list[RemoteWorker]:
        """The workers that are ready, those included that take no further session."""

    @abstractmethod
    async def place(self, session: RemoteSession, request: SessionRequest) -> None:
        """Start a session in some worker. Raises AtCapacity, or why it cannot start; then nothing of it is left."""

    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session; returns once it runs. Raises AtCapacity, or why it cannot start."""
        if self._closing:
            raise SessionError(f"no session is started any more: {STOPS}")
        full = await self.capacity()
        if full.problem is not None:
            self.metrics.count("visavis_sessions_refused_total")
            raise AtCapacity(full.problem, retry_after=full.retry_after)
        session = RemoteSession(new_session_id(), request, self.spawn)
        scope = anyio.CancelScope()
        self._starts.add(scope)
        try:
            with scope:
                await self.place(session, request)
        finally:
            self._starts.discard(scope)
        if scope.cancelled_caught:
            raise SessionError(f"the session was not started: {STOPS}")
        if not session.over:
            self._sessions[session.id] = session
        return session

    def problem(self) -> str | None:
        """Why no worker would take on a session; None if one would."""
        taking = [worker.capacity for worker in self.workers if worker.taking]
        if not taking:
            return "no worker is ready"
        if any(full.problem is None for full in taking):
            return None
        most = sum(full.most or 0 for full in taking)
        running = sum(full.running + full.starting for full in taking)
        return f"all {most} sessions are taken" if running >= most > 1 else taking[0].problem

    async def capacity(self) -> Capacity:
        """How full all workers are together."""
        running = len(self._sessions)
        starting = len(self._starts) + sum(worker.calls.abandoned("start") for worker in self.workers)
        fixed = self.deployment.limits.max_sessions
        taking = [worker.capacity for worker in self.workers if worker.taking]
        total, reckoned = together(full.most for full in taking), together(full.reckoned for full in taking)
        if isinstance(fixed, int):
            total = fixed if total is None else min(fixed, total)
            if running + starting >= fixed:
                taken = f"all {fixed} sessions are taken" if fixed > 1 else "the one session is taken"
                return Capacity(running, starting, total, taken, RETRY_AFTER, reckoned)
        return Capacity(running, starting, total, self.problem(), RETRY_AFTER, reckoned)

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """Draw in every worker, which has the avatar in memory then; returns what the slowest took."""
        # One after the other: what is measured is a worker, not how they crowd each other.
        took = [await worker.rehearse(avatar, frames) for worker in self.workers]
        if not took:
            raise SessionError("no worker is ready", hint="try again in a moment")
        return max(took, key=lambda each: median(each or [0.0]))

    async def tell_load(self) -> None:
        """Keep the figures of how full all workers are: what more or fewer of them are started by."""
        while True:
            taking = [worker.capacity for worker in self.workers if worker.taking]
            taken = sum(full.running + full.starting for full in taking)
            self.metrics.gauge("visavis_fleet_sessions", taken)
            if taking and all(full.most is not None for full in taking):
                most = sum(full.most or 0 for full in taking)
                self.metrics.gauge("visavis_fleet_capacity", most)
                self.metrics.gauge("visavis_fleet_load", taken / most)
            elif not taking:
                self.metrics.gauge("visavis_fleet_capacity", 0)
                self.metrics.gauge("visavis_fleet_load", 1.0)
            await anyio.sleep(LOAD_SECONDS)

    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run, those that are being begun again included."""
        return list(self._sessions.values())

    def spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Do something in a task of the launcher's own."""
        if not self._closing:
            self._tasks.start_soon(work, *arguments)

    def ended(self, session: RemoteSession) -> None:
        """A session is over."""
        self._sessions.pop(session.id, None)

    def lose(self, worker: RemoteWorker) -> None:
        """A worker is gone: its sessions are begun again, or end with the reason."""
        lost, worker.sessions = worker.sessions, {}
        if lost:
            log.error("the worker %s is gone with %d sessions: %s", worker.name, len(lost), worker.why)
        for session in lost.values():
            session.lose()
            problem = self._no_more(session)
            if problem is None:
                self.spawn(self._again, session, worker.why)
            else:
                self._report(session, SessionError(f"its worker is gone: {worker.why}; {problem}"))

    def move(self, session: RemoteSession) -> None:
        """A worker that shuts down has let a session go, once nothing was being said: it is begun again elsewhere."""
        session.leave()
        self.spawn(self._again, session, "it shuts down")

    def _no_more(self, session: RemoteSession) -> str | None:
        """Why a session is not begun again; None if it is."""
        now = anyio.current_time()
        if self._closing:
            return STOPS
        if session.closing:
            return "it was about to end"
        if not self.deployment.transport.record.rejoins:
            return f"what the transport {self.deployment.transport.name} has begun cannot be continued"
        if sum(now - death < DEATHS_WITHIN for death in session.deaths) >= MOST_DEATHS:
            return f"{MOST_DEATHS} workers have died with this session"
        return None

    async def _again(self, session: RemoteSession, why: str) -> None:
        """Begin a session again: the same request, the same identity, the same handle."""
        began = anyio.current_time()
        error: VisavisError = SessionError(f"its worker is gone: {why}; no other took it on in {AGAIN_SECONDS:g} s")
        with anyio.move_on_after(AGAIN_SECONDS):
            while not session.over:
                try:
                    await self.place(session, session.again())
                except SessionError as full:  # no room just now, or that worker went, too
                    log.debug("session %s: %s", session.id, full)
                    await anyio.sleep(AGAIN_PAUSE)
                except VisavisError as failed:
                    error = SessionError(f"its worker is gone, and it could not be begun again: {failed.message}")
                    break
                else:
                    self._count_again(session, anyio.current_time() - began)
                    return
        self._report(session, error)

    def _count_again(self, session: RemoteSession, seconds: float) -> None:
        self.metrics.count("visavis_sessions_begun_again_total")
        self.metrics.observe("visavis_session_begun_again_seconds", seconds)
        log.warning("session %s was begun again after %.1f s", session.id, seconds, extra={"session": session.id})

    def _report(self, session: RemoteSession, error: VisavisError) -> None:
        """A session ends because its worker is gone."""
        if not session.over:
            self.metrics.count("visavis_sessions_lost_total")
            log.error("session %s failed: %s", session.id, error.message, extra={"session": session.id})
            session.end(None, None if session.closing else error)
        self.ended(session)

    def close_all(self) -> None:
        """No session is started any more; those that start are cancelled, those without a place are over."""
        self._closing = True
        for scope in list(self._starts):
            scope.cancel()
        for session in list(self._sessions.values()):
            if session.place is None:
                self._report(session, SessionError(STOPS))


def together(counts: Iterable[int | None]) -> int | None:
    """The sum of what workers say; None while there are none, or one does not know yet."""
    said = list(counts)
    known = [one for one in said if one is not None]
    return sum(known) if known and len(known) == len(said) else None
