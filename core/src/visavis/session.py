"""A session: one avatar in one conversation, from ``prepare`` to ``close``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskStatus

from visavis.component import ComponentConfig
from visavis.errors import AvatarError, SessionError, VisavisError
from visavis.interfaces.renderer import LoadedAvatar
from visavis.interfaces.session import SessionContext, SessionHandle, SessionLimits, SessionStats, SpeechStream
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.floor import FloorPolicy, Seat
from visavis.pipeline.limits import PipelineLimits
from visavis.pipeline.pipeline import Pipeline
from visavis.pipeline.tally import Tally

log = logging.getLogger("visavis.session")

CLOSING_SECONDS = 20.0
"""How long the parts of a failed or cancelled session may take to let go."""
FAREWELL_SECONDS = 2.0
"""How long telling the far end something may take: an end does not wait for it."""
WARNING_SECONDS = 30.0
"""How long before its maximum duration a session says that it will end."""
FINISHING_SECONDS = 30.0
"""How long what is being said may take to come to its end, when a session ends by plan."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Which session a task belongs to.

    Small on purpose: a cancelled timer of asyncio keeps its task's context variables until its time comes, ten minutes
    for an idle timeout, and must not keep a room with them.
    """

    session_id: str
    avatar: str


current: ContextVar[Mark | None] = ContextVar("visavis_session", default=None)
"""The session whose task this is, for whoever writes a log."""


@dataclass(frozen=True, slots=True)
class Loan:
    """A loaded avatar that a session uses, and how it is given back (once)."""

    avatar: LoadedAvatar
    give_back: Callable[[], None]


Lend = Callable[[str], Awaitable[Loan]]
"""Loads the avatar of an id. Raises AvatarError, RendererError."""


class Session(SessionHandle):
    """Runs one session. ``run`` is its task; everything else may be called from other tasks of the same loop.

    ``lend`` loads another avatar for ``swap``; without it there is none. Whoever makes a session calls ``release``
    when it is over.
    """

    def __init__(
        self,
        context: SessionContext,
        avatar: LoadedAvatar | Loan,
        batcher: Batcher,
        transport: Transport,
        transport_options: ComponentConfig,
        sources: Sequence[AudioSource],
        *,
        policy: FloorPolicy = FloorPolicy.QUEUE,
        bounds: PipelineLimits | None = None,
        limits: SessionLimits | None = None,
        lend: Lend | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.context = context
        self._loan = avatar if isinstance(avatar, Loan) else Loan(avatar, lambda: None)
        self._batcher = batcher
        self._transport, self._transport_options = transport, transport_options
        self._sources = sources
        self._policy, self._bounds, self._tally = policy, bounds, tally
        self._limits = limits or SessionLimits()
        self._lend, self._swapping = lend, anyio.Lock()
        self._stats = SessionStats(avatar=context.request.avatar)
        self._pipeline: Pipeline | None = None
        self._way_out: TransportSession | None = None
        self._joined = False
        self._seat: Seat | None = None
        self._scope = anyio.CancelScope()
        self._finish_asked = anyio.Event()
        self._ended = anyio.Event()
        self._error: BaseException | None = None

    # -- its life

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run to the end. Reports started once frames can flow. Raises what made it fail."""
        current.set(Mark(self.context.session_id, self.context.request.avatar))
        try:
            with self._scope:
                self._way_out = await self._transport.prepare(self.context, self._transport_options)
                await self._converse(self._way_out, task_status)
            await self._let_go(None)
        except BaseException as error:
            cause = single(error)
            self._error = cause
            self._because(reason_of(cause))
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._let_go(cause)
            if cause is error or not isinstance(cause, Exception):
                raise
            raise cause from cause.__cause__
        finally:
            self._stats.state = "closed"
            self._ended.set()

    async def _converse(self, way_out: TransportSession, task_status: TaskStatus[None]) -> None:
        for source in self._sources:
            await source.prepare(self.context)
        await way_out.open(self.context)
        self._joined = True
        for source in self._sources:
            await source.joined(self.context)
        self._pipeline = pipeline = Pipeline(
            self._loan.avatar,
            self._batcher,
            way_out,
            seed=self.context.request.seed,
            policy=self._policy,
            limits=self._bounds,
            stats=self._stats,
            metrics=self.context.metrics,
            tally=self._tally,
        )
        pipeline.floor.on_finished = lambda result: self._segment_finished(result.position)
        self._stats.state = "running"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, pipeline)
                tasks.start_soon(self._watch, way_out)
                tasks.start_soon(self._finish_when_asked, pipeline)
                if way_out.pacing is Pacing.REALTIME:
                    tasks.start_soon(self._watch_idle, pipeline)
                    tasks.start_soon(self._watch_duration, way_out)
                task_status.started()
                await pipeline.run()
                self._because("all was said")
                tasks.cancel_scope.cancel()
        finally:
            pipeline.close()

    async def _listen(self, pipeline: Pipeline) -> None:
        """Run the sources; once all have returned nobody will speak any more."""
        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(source.run, Seat(pipeline.floor))
        if self._sources:
            pipeline.finish()

    async def _watch(self, way_out: TransportSession) -> None:
        await self.close(await way_out.closed())

    # -- its end

    async def _watch_idle(self, pipeline: Pipeline) -> None:
        """Close once nobody has spoken for so long. Files never idle: their time advances with speech alone."""
        timeout = self._limits.idle_timeout_s
        if timeout is None:
            return
        due = self._last_sign(pipeline) + timeout
        while anyio.current_time() < due:
            await anyio.sleep_until(due)
            due = self._last_sign(pipeline) + timeout
        await self.close(f"nobody spoke for {timeout:g} s")

    def _last_sign(self, pipeline: Pipeline) -> float:
        return max(pipeline.last_spoken, self.context.last_sign)

    async def _watch_duration(self, way_out: TransportSession) -> None:
        """Warn before the maximum duration is reached; then let what is being said come to its end, and close."""
        most = self._limits.max_duration_s
        if most is None:
            return
        end = anyio.current_time() + most
        reason = f"its maximum duration of {most:g} s is reached"
        await anyio.sleep_until(end - WARNING_SECONDS)
        left = max(0, round(end - anyio.current_time()))
        await self._announce(way_out, state="ending", ends_in_s=str(left), reason=reason)
        await anyio.sleep_until(end)
        await self.close(reason, finish=True)

    async def _finish_when_asked(self, pipeline: Pipeline) -> None:
        await self._finish_asked.wait()
        with anyio.move_on_after(FINISHING_SECONDS) as patience:
            await pipeline.floor.wait_silent()
        if patience.cancelled_caught:
            log.warning("session %s: what was being said did not end in %g s", self.id, FINISHING_SECONDS)
        self._scope.cancel()

    def _because(self, reason: str) -> None:
        """Settle why it ends: the first reason stands."""
        self._stats.reason = self._stats.reason or reason
        self.context.reason = self._stats.reason

    async def _let_go(self, error: BaseException | None) -> None:
        """Close every part, whatever the others do; raises the first error, if there was none before."""
        self._stats.state = "closing"
        self._because("closed")
        way_out = self._way_out
        failures: list[Exception] = []
        if way_out is not None and self._joined:
            with anyio.CancelScope(shield=True):
                await self._announce(way_out, state="closing", reason=self.reason)
        for part in self._sources:
            try:
                await part.aclose()
            except Exception as failure:  # noqa: BLE001 - the other parts are still to be closed
                failures.append(failure)
        if way_out is not None:
            try:
                await way_out.aclose(error or (failures[0] if failures else None))
            except Exception as failure:  # noqa: BLE001 - what made the session fail is what is told
                failures.append(failure)
        if failures and error is None:
            raise failures[0]
        for also in failures:
            log.warning("session %s: a part did not close: %s", self.id, reason_of(also))

    async def _announce(self, way_out: TransportSession, **facts: str) -> None:
        try:
            with anyio.move_on_after(FAREWELL_SECONDS):
                await way_out.announce(**facts)
        except Exception as error:  # noqa: BLE001 - a far end that cannot be told is no reason to fail
            log.warning("session %s: the far end could not be told %s: %s", self.id, facts, type(error).__name__)

    def _segment_finished(self, seconds: float) -> None:
        self._stats.segments += 1
        self._stats.spoken += seconds
        self.context.metrics.count("visavis_segments_total")

    # -- SessionHandle

    @property
    def id(self) -> str:
        """The session's id."""
        return self.context.session_id

    @property
    def reason(self) -> str:
        """Why it ended, once it has; empty before."""
        return self._stats.reason

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    @property
    def live(self) -> bool:
        """Whether it runs in real time, for somebody who watches it now."""
        way_out = self._way_out
        return way_out is not None and way_out.pacing is Pacing.REALTIME and self._stats.state == "running"

    @property
    def limits(self) -> SessionLimits:
        """The limits that apply to it."""
        return self._limits

    async def stats(self) -> SessionStats:
        """A copy of the figures so far."""
        return replace(self._stats)

    async def interrupt(self) -> None:
        """Stop what is said and what waits. Raises SessionError if the session does not run."""
        await self._running().interrupt()

    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        """Open a segment for whoever holds the handle.

        Raises SessionError if the session does not run, FloorRefused if it is about to end.
        """
        pipeline = self._running()
        if self._seat is None:
            self._seat = Seat(pipeline.floor)
        return await self._seat.open(rate, channels)

    async def swap(self, avatar: str) -> None:
        """Show another avatar from the next frame on; see SessionHandle.swap. Raises AvatarError, RendererError."""
        pipeline = self._running()
        if self._lend is None:
            raise SessionError(f"session {self.id} cannot change its avatar")
        async with self._swapping:
            loan = await self._lend(avatar)

            def switched() -> None:
                # In one step with the switch itself: a swap that is cancelled leaves either the old or the new one.
                old, self._loan = self._loan, loan
                self._stats.avatar = avatar
                old.give_back()

            try:
                self._check_like(avatar, loan.avatar)
                await pipeline.swap(loan.avatar, switched)
            finally:
                if self._loan is not loan:
                    loan.give_back()

    def _check_like(self, name: str, new: LoadedAvatar) -> None:
        """Raise AvatarError if an avatar cannot take the place of the one that is shown."""
        old, wanted = self._loan.avatar.format, new.format
        if wanted.video != old.video:
            a, b = wanted.video, old.video
            raise AvatarError(
                f"{name} is {a.width}x{a.height} at {a.fps} pictures a second, but this session shows "
                f"{b.width}x{b.height} at {b.fps}",
                hint="start a new session for it",
            )
        if (wanted.sample_rate, wanted.hop) != (old.sample_rate, old.hop):
            raise AvatarError(
                f"{name} hears {wanted.sample_rate} Hz, but this session's avatar {old.sample_rate} Hz",
                hint="start a new session for it",
            )

    async def close(self, reason: str = "closed", *, finish: bool = False) -> None:
        """End the session, at once or (``finish``) after what is being said. May be called twice."""
        if self.over:
            return
        self._because(reason)
        if finish and self._pipeline is not None:
            self._pipeline.floor.refuse(f"the session ends: {self.reason}")
            self._finish_asked.set()
        else:
            self._scope.cancel()

    async def wait_silent(self) -> None:
        """Wait until nothing is being said or waits to be said. Raises SessionError if the session does not run."""
        await self._running().floor.wait_silent()

    async def wait(self) -> None:
        """Wait for its end; raises its error if it failed."""
        await self._ended.wait()
        if self._error is not None:
            raise SessionError(f"session {self.id} failed: {self._error}") from self._error

    def release(self) -> None:
        """Give the avatar back."""
        self._loan.give_back()

    def _running(self) -> Pipeline:
        if self._pipeline is None or self._stats.state != "running":
            raise SessionError(f"session {self.id} is {self._stats.state}")
        return self._pipeline


def reason_of(error: BaseException) -> str:
    """An error as the reason of an end: our own words; of what others raise only its kind, as it may hold secrets."""
    if isinstance(error, VisavisError):
        return error.message
    if isinstance(error, Exception):
        return f"it failed: {type(error).__name__}"
    return "it was stopped"


def single(error: BaseException) -> BaseException:
    """The error that matters in a group: our own before others, cancellation last."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [single(e) for e in error.exceptions]
    leaves.sort(key=lambda e: (not isinstance(e, VisavisError), not isinstance(e, Exception)))
    return leaves[0]
