"""The launcher ``local``: sessions run in this process, as many as it takes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from visavis.config import Deployment
from visavis.errors import AtCapacity, SessionError, VisavisError
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.metrics import Metrics, NoMetrics
from visavis.session import Session, reason_of, single
from visavis.supervisor.admission import Admission
from visavis.supervisor.parts import Supervisor

log = logging.getLogger("visavis.launcher")


class LocalLauncher(Launcher):
    """Runs sessions in this process. An async context manager around its supervisor and its tasks.

    ``cores`` is this process's part of the machine where it has not the whole: what admission reckons with.
    """

    def __init__(self, deployment: Deployment, *, metrics: Metrics | None = None, cores: float | None = None) -> None:
        self._metrics = metrics or NoMetrics()
        self._cores = cores
        self._deployment = deployment
        self.supervisor = Supervisor(deployment, metrics=metrics)
        self._sessions: dict[str, Session] = {}
        self._starts: set[anyio.CancelScope] = set()
        self._closing = False
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup
        self._admission: Admission

    async def __aenter__(self) -> LocalLauncher:
        """Make the parts, and load the avatars that are to be warm; one that cannot be loaded stops nobody."""
        async with AsyncExitStack() as stack:
            supervisor = await stack.enter_async_context(self.supervisor)
            most = self._deployment.limits.max_sessions
            self._admission = Admission(most, supervisor.batcher.cost, supervisor.tally, cores=self._cores)
            supervisor.calibrates = self._admission.measures
            for avatar in self._deployment.prewarm:
                try:
                    stack.callback((await supervisor.lend(avatar)).give_back)
                except VisavisError as error:
                    log.warning("the avatar %s is not warm: %s", avatar, error)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End all sessions, those that are still starting too, and let go of the parts."""
        self._closing = True
        for session in list(self._sessions.values()):
            await session.close("the server stops")
        for scope in list(self._starts):
            scope.cancel()
        return await self._stack.__aexit__(kind, error, trace)

    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session; returns once frames can flow. Raises AtCapacity, or why it cannot start."""
        return await self.begin(request)

    async def begin(
        self, request: SessionRequest, *, session_id: str | None = None, inherited: Mapping[str, Any] | None = None
    ) -> Session:
        """As ``start``, for a session of a given id, or one that takes another's place: see ``Supervisor.session``."""
        if self._closing:
            raise SessionError("no session is started any more: the server stops")
        full = await self.capacity()
        if full.problem is not None:
            self._metrics.count("visavis_sessions_refused_total")
            raise AtCapacity(full.problem, retry_after=full.retry_after)
        began = anyio.current_time()
        scope = anyio.CancelScope()
        self._starts.add(scope)
        try:
            session: Session = await self._tasks.start(self._run, request, scope, session_id, inherited)
        except BaseException:
            scope.cancel()  # whoever asked has left: nobody would end what has just begun
            raise
        finally:
            self._starts.discard(scope)
        self._metrics.observe("visavis_session_start_seconds", anyio.current_time() - began)
        return session

    async def _run(
        self,
        request: SessionRequest,
        scope: anyio.CancelScope,
        session_id: str | None,
        inherited: Mapping[str, Any] | None,
        *,
        task_status: TaskStatus[Session],
    ) -> None:
        session: Session | None = None
        started = False
        try:
            with scope:
                ready = self.supervisor.session(request, session_id=session_id, inherited=inherited)
                async with ready as session:
                    async with anyio.create_task_group() as tasks:
                        await tasks.start(session.run)
                        self._starts.discard(scope)
                        self._note(session, runs=True)
                        task_status.started(session)
                        started = True
            if not started:
                raise SessionError("the session was not started: the server stops")
        except Exception as error:  # noqa: BLE001 - one session's failure must not end the others
            cause = single(error)
            if not started:
                raise cause from None
            # It ends alone: its cause is with whoever waits on its handle, and in the log.
            log.error("session %s failed: %s", session.id if session else "", reason_of(cause))
        finally:
            if session is not None:
                self._note(session, runs=False)

    def _note(self, session: Session, *, runs: bool) -> None:
        """A session begins to run, or has ended (or never began)."""
        self._admission.sample(len(self._sessions))
        if runs:
            self._sessions[session.id] = session
        else:
            self._sessions.pop(session.id, None)
        self._metrics.gauge("visavis_sessions", len(self._sessions))

    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""
        return list(self._sessions.values())

    async def capacity(self) -> Capacity:
        """How full it is."""
        self._admission.sample(len(self._sessions))
        self._admission.fps = self.supervisor.fps
        return self._admission.capacity(len(self._sessions), len(self._starts), anyio.current_time())

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """Draw so many pictures for nobody; returns the seconds each took. Raises AvatarError, RendererError."""
        return await self.supervisor.rehearse(avatar, frames)
