"""The parts of one process and the sessions that share them."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from visavis import workers
from visavis.config import Deployment
from visavis.errors import AvatarInvalid, SessionError
from visavis.interfaces.avatar import AvatarStore
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.renderer import LoadedAvatar, Renderer
from visavis.interfaces.session import SessionContext, SessionHandle, SessionRequest, SessionStats
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Transport
from visavis.metrics import Metrics, NoMetrics
from visavis.pipeline.batcher import Batcher
from visavis.session import Session, single

log = logging.getLogger("visavis.supervisor")

KEPT_AVATARS = 4
"""Avatars that stay in memory although no session uses them, so that the next session starts at once."""


@dataclass
class _Loaded:
    """An avatar in memory and the number of sessions that use it."""

    avatar: LoadedAvatar
    users: int = 0
    turn: int = field(default=0)


class Supervisor:
    """Makes the store, the renderer and the transport once, and sessions of them. An async context manager."""

    def __init__(self, deployment: Deployment, *, metrics: Metrics | None = None) -> None:
        self.deployment = deployment
        self.metrics = metrics or NoMetrics()
        self._stack = AsyncExitStack()
        self._loading = anyio.Lock()
        self._avatars: dict[str, _Loaded] = {}
        self._turns = itertools.count()
        self.store: AvatarStore
        self.renderer: Renderer
        self.transport: Transport

    async def __aenter__(self) -> Supervisor:
        """Make the parts. Raises what their factories raise; nothing is left half-made."""
        async with AsyncExitStack() as stack:
            self.store = self.deployment.store.make()
            stack.push_async_callback(self.store.aclose)
            self.transport = self.deployment.transport.make()
            stack.push_async_callback(self.transport.aclose)
            self.renderer = await workers.run(self.deployment.renderer.make)
            stack.callback(self.renderer.close)
            self.renderer.metrics = self.metrics
            stack.callback(self._unload_all)
            self._batcher = Batcher(self.renderer, self.metrics)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the parts. Sessions have ended by now."""
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    # -- avatars

    @asynccontextmanager
    async def avatar(self, avatar_id: str) -> AsyncIterator[LoadedAvatar]:
        """An avatar in memory, shared by all sessions that use it at the time."""
        loaded = await self._load(avatar_id)
        try:
            yield loaded.avatar
        finally:
            loaded.users -= 1
            loaded.turn = next(self._turns)
            self._unload_unused()

    async def _load(self, avatar_id: str) -> _Loaded:
        async with self._loading:
            with await self.store.open(avatar_id) as file:
                engine, renderer = file.manifest.engine, self.deployment.renderer.name
                if engine not in self.renderer.engines:
                    raise AvatarInvalid(
                        avatar_id,
                        f"it needs the engine {engine!r}, which the renderer {renderer!r} does not read",
                        hint=f"it reads: {', '.join(sorted(self.renderer.engines))}",
                    )
                if file.digest not in self._avatars:
                    self._avatars[file.digest] = _Loaded(await workers.run(self.renderer.load, file))
                loaded = self._avatars[file.digest]
                loaded.users += 1
                return loaded

    def _unload_unused(self) -> None:
        unused = sorted((v.turn, k) for k, v in self._avatars.items() if not v.users)
        for _, digest in unused[: max(0, len(self._avatars) - KEPT_AVATARS)]:
            self._avatars.pop(digest).avatar.close()

    def _unload_all(self) -> None:
        while self._avatars:
            self._avatars.popitem()[1].avatar.close()

    # -- sessions

    @asynccontextmanager
    async def session(self, request: SessionRequest) -> AsyncIterator[Session]:
        """A session that is ready to ``run``. Raises ConfigError for options that do not fit."""
        options = self.deployment.transport.session_options(request.transport)
        heard = self.deployment.source.session_options(request.source)
        sources: list[AudioSource] = [self.deployment.source.make(heard)]
        context = SessionContext(secrets.token_hex(4), request, self.metrics)
        async with self.avatar(request.avatar) as avatar:
            timeout = self.deployment.limits.idle_timeout_s
            yield Session(context, avatar, self._batcher, self.transport, options, sources, idle_timeout=timeout)


async def run_session(
    deployment: Deployment,
    request: SessionRequest,
    *,
    metrics: Metrics | None = None,
    on_progress: Callable[[SessionStats], None] | None = None,
) -> SessionStats:
    """Run one session to its end and return its figures. Raises what made it fail, not a group."""
    try:
        async with Supervisor(deployment, metrics=metrics) as supervisor, supervisor.session(request) as session:
            async with anyio.create_task_group() as tasks:
                if on_progress is not None:
                    tasks.start_soon(_report, session, on_progress)
                await session.run()
                tasks.cancel_scope.cancel()
            stats = await session.stats()
            if on_progress is not None:
                on_progress(stats)
            return stats
    except BaseExceptionGroup as group:
        raise single(group) from None


async def _report(session: Session, on_progress: Callable[[SessionStats], None]) -> None:
    while True:
        on_progress(await session.stats())
        await anyio.sleep(0.1)


class LocalLauncher(Launcher):
    """Runs sessions in this process. An async context manager around its supervisor and its tasks."""

    def __init__(self, deployment: Deployment, *, metrics: Metrics | None = None) -> None:
        self._supervisor = Supervisor(deployment, metrics=metrics)
        most = deployment.limits.max_sessions
        self._max = most if isinstance(most, int) else None
        self._sessions: dict[str, Session] = {}
        self._starting = 0
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup

    async def __aenter__(self) -> LocalLauncher:
        """Make the parts."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._supervisor)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End all sessions and let go of the parts."""
        for session in list(self._sessions.values()):
            await session.close("the launcher closes")
        return await self._stack.__aexit__(kind, error, trace)

    async def start(self, request: SessionRequest) -> SessionHandle:
        """Start a session; returns once frames can flow. Raises SessionError when full, or why it cannot start."""
        if self._max is not None and len(self._sessions) + self._starting >= self._max:
            raise SessionError(f"all {self._max} sessions are taken", hint="try again later")
        self._starting += 1
        try:
            session: Session = await self._tasks.start(self._run, request)
        finally:
            self._starting -= 1
        return session

    async def _run(self, request: SessionRequest, *, task_status: anyio.abc.TaskStatus[Session]) -> None:
        started = False
        try:
            async with self._supervisor.session(request) as session:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(session.run)
                    self._sessions[session.id] = session
                    started = True
                    task_status.started(session)
                self._sessions.pop(session.id, None)
        except Exception as error:  # noqa: BLE001 - one session's failure must not end the others
            cause = single(error)
            if not started:
                raise cause from None
            # It ends alone: its cause is with whoever waits on its handle, and in the log.
            log.error("a session failed: %s", cause)
            self._sessions = {k: s for k, s in self._sessions.items() if not s.over}

    async def sessions(self) -> list[SessionHandle]:
        """The sessions that run."""
        return list(self._sessions.values())
