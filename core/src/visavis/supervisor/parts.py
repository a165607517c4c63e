"""The parts of one process: store, renderer, transport, loaded avatars; and sessions made of them."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import anyio

from visavis import workers
from visavis.config import Deployment, Limits
from visavis.errors import AvatarInvalid
from visavis.interfaces.avatar import AvatarStore
from visavis.interfaces.renderer import LoadedAvatar, Renderer
from visavis.interfaces.session import SessionContext, SessionLimits, SessionRequest, SessionStats
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Transport
from visavis.metrics import Metrics, NoMetrics
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.tally import Tally
from visavis.session import Loan, Session, single
from visavis.supervisor.rehearsing import rehearse

log = logging.getLogger("visavis.supervisor")

ID_BYTES = 12
"""Session ids cannot be guessed: whoever knows one may be taken for its owner."""
CALIBRATION = 12
"""Pictures that are drawn to learn what one costs."""
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
        self.tally = Tally()
        """Frames and late frames of all its sessions."""
        self.calibrates = False
        """Whether an avatar's cost is measured as soon as it is loaded."""
        self.batcher: Batcher
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
            self.batcher = Batcher(self.renderer, self.metrics)
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
        loan = await self.lend(avatar_id)
        try:
            yield loan.avatar
        finally:
            loan.give_back()

    async def lend(self, avatar_id: str) -> Loan:
        """An avatar in memory until it is given back. Raises AvatarError, RendererError."""
        loaded = await self._load(avatar_id)

        def give_back() -> None:
            loaded.users -= 1
            loaded.turn = next(self._turns)
            self._unload_unused()

        return Loan(loaded.avatar, give_back)

    async def rehearse(self, avatar_id: str, frames: int) -> list[float]:
        """Draw so many pictures for nobody; returns the seconds each took. Raises AvatarError, RendererError."""
        async with self.avatar(avatar_id) as avatar:
            return await rehearse(avatar, self.batcher, frames)

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
                    avatar = await workers.run(self.renderer.load, file)
                    self._avatars[file.digest] = _Loaded(avatar, turn=next(self._turns))
                    if self.calibrates:  # its cost is known before anybody counts on it
                        await rehearse(avatar, self.batcher, CALIBRATION)
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

    @property
    def fps(self) -> float:
        """Pictures a second of the fastest avatar in memory; 25 without one."""
        return max((float(v.avatar.format.video.fps) for v in self._avatars.values()), default=25.0)

    # -- sessions

    @asynccontextmanager
    async def session(
        self,
        request: SessionRequest,
        *,
        resources: Mapping[type[Any], Any] | None = None,
        session_id: str | None = None,
        inherited: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Session]:
        """A session that is ready to ``run``.

        ``resources`` stand in its context from the start, by their types: a room that is connected already, say. One
        that takes the place of another has that one's ``session_id`` and what it left (``inherited``).
        Raises ConfigError for options that do not fit (before anything is loaded), AvatarError, RendererError.
        """
        options = self.deployment.transport.session_options(request.transport)
        heard = self.deployment.source.session_options(request.source)
        self.deployment.renderer.session_options(request.renderer)
        loan = await self.lend(request.avatar)
        try:
            sources: list[AudioSource] = [self.deployment.source.make(heard)]
            context = SessionContext(
                session_id or new_session_id(), request, self.metrics, dict(resources or {}), inherited=inherited or {}
            )
            session = Session(
                context,
                loan,
                self.batcher,
                self.transport,
                options,
                sources,
                limits=effective(request.limits, self.deployment.limits),
                lend=self.lend,
                tally=self.tally,
            )
        except BaseException:
            loan.give_back()
            raise
        try:
            yield session
        finally:
            session.release()


def new_session_id() -> str:
    """An id for a session."""
    return secrets.token_hex(ID_BYTES)


def effective(asked: SessionLimits, deployment: Limits) -> SessionLimits:
    """The limits that apply to a session: of each the smaller one."""
    return SessionLimits(
        idle_timeout_s=_smaller(asked.idle_timeout_s, deployment.idle_timeout_s),
        max_duration_s=_smaller(asked.max_duration_s, deployment.max_duration_s),
    )


def _smaller(*seconds: float | None) -> float | None:
    return min((given for given in seconds if given is not None), default=None)


async def run_session(
    deployment: Deployment,
    request: SessionRequest,
    *,
    metrics: Metrics | None = None,
    on_progress: Callable[[SessionStats], None] | None = None,
    on_session: Callable[[Session], None] | None = None,
    resources: Mapping[type[Any], Any] | None = None,
) -> SessionStats:
    """Run one session to its end and return its figures. Raises what made it fail, not a group.

    ``on_progress`` gets its figures ten times a second, ``on_session`` the session before it runs; ``resources`` as for
    ``Supervisor.session``.
    """
    try:
        async with (
            Supervisor(deployment, metrics=metrics) as supervisor,
            supervisor.session(request, resources=resources) as session,
        ):
            if on_session is not None:
                on_session(session)
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
