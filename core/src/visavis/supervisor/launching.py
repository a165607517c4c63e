"""The launcher ``local``: sessions run in this process, as many as it takes on."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from visavis.config import Deployment
from visavis.errors import AtCapacity
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.metrics import Metrics
from visavis.session import Session, reason_of, single
from visavis.supervisor.parts import Supervisor

log = logging.getLogger("visavis.launcher")

RETRY_AFTER = 5.0
"""Seconds after which somebody who was refused may ask again."""


class LocalLauncher(Launcher):
    """Runs sessions in this process. An async context manager around its supervisor and its tasks."""

    def __init__(self, deployment: Deployment, *, metrics: Metrics | None = None) -> None:
        self.supervisor = Supervisor(deployment, metrics=metrics)
        most = deployment.limits.max_sessions
        self._most = most if isinstance(most, int) else None
        self._sessions: dict[str, Session] = {}
        self._starting = 0
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup

    async def __aenter__(self) -> LocalLauncher:
        """Make the parts."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.supervisor)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End all sessions and let go of the parts."""
        for session in list(self._sessions.values()):
            await session.close("the server stops")
        return await self._stack.__aexit__(kind, error, trace)

    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session; returns once frames can flow. Raises AtCapacity, or why it cannot start."""
        full = await self.capacity()
        if full.problem is not None:
            raise AtCapacity(full.problem, retry_after=full.retry_after)
        self._starting += 1
        try:
            session: Session = await self._tasks.start(self._run, request)
        finally:
            self._starting -= 1
        return session

    async def _run(self, request: SessionRequest, *, task_status: anyio.abc.TaskStatus[Session]) -> None:
        session: Session | None = None
        started = False
        try:
            async with self.supervisor.session(request) as session:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(session.run)
                    self._sessions[session.id] = session
                    task_status.started(session)
                    started = True
        except Exception as error:  # noqa: BLE001 - one session's failure must not end the others
            cause = single(error)
            if not started:
                raise cause from None
            # It ends alone: its cause is with whoever waits on its handle, and in the log.
            log.error("session %s failed: %s", session.id if session else "?", reason_of(cause))
        finally:
            if session is not None:
                self._sessions.pop(session.id, None)

    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""
        return list(self._sessions.values())

    async def capacity(self) -> Capacity:
        """How full it is."""
        running, problem = len(self._sessions), None
        if self._most is not None and running + self._starting >= self._most:
            problem = f"all {self._most} sessions are taken"
        return Capacity(running, self._starting, self._most, problem, RETRY_AFTER)

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """Draw so many pictures for nobody; returns the seconds each took. Raises AvatarError, RendererError."""
        return await self.supervisor.rehearse(avatar, frames)
