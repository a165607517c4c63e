"""A session: one avatar in one conversation, from ``prepare`` to ``close``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import anyio
from anyio.abc import TaskStatus

from visavis.component import ComponentConfig
from visavis.errors import SessionError, VisavisError
from visavis.interfaces.renderer import LoadedAvatar
from visavis.interfaces.session import SessionContext, SessionHandle, SessionStats, SpeechStream
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.floor import FloorPolicy, Seat
from visavis.pipeline.pipeline import Pipeline, PipelineLimits

log = logging.getLogger("visavis.session")

CLOSING_SECONDS = 20.0
"""How long the parts of a failed or cancelled session may take to let go."""


class Session(SessionHandle):
    """Runs one session. ``run`` is its task; everything else may be called from other tasks of the same loop."""

    def __init__(
        self,
        context: SessionContext,
        avatar: LoadedAvatar,
        batcher: Batcher,
        transport: Transport,
        transport_options: ComponentConfig,
        sources: Sequence[AudioSource],
        *,
        policy: FloorPolicy = FloorPolicy.QUEUE,
        limits: PipelineLimits | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        self.context = context
        self._avatar, self._batcher = avatar, batcher
        self._transport, self._transport_options = transport, transport_options
        self._sources = sources
        self._policy, self._limits = policy, limits
        self._idle_timeout = idle_timeout
        self._stats = SessionStats()
        self._pipeline: Pipeline | None = None
        self._seat: Seat | None = None
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._error: BaseException | None = None
        self.reason = ""
        """Why it ended, once it has."""

    # -- its life

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run to the end. Reports started once frames can flow. Raises what made it fail."""
        way_out: TransportSession | None = None
        try:
            with self._scope:
                way_out = await self._transport.prepare(self.context, self._transport_options)
                await self._converse(way_out, task_status)
            self._stats.state = "closing"
            await self._let_go(way_out, None)
        except BaseException as error:
            cause = single(error)
            self._error = cause
            self.reason = self.reason or str(cause)
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._let_go(way_out, cause)
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
        for source in self._sources:
            await source.joined(self.context)
        self._pipeline = Pipeline(
            self._avatar,
            self._batcher,
            way_out,
            seed=self.context.request.seed,
            policy=self._policy,
            limits=self._limits,
            stats=self._stats,
            metrics=self.context.metrics,
        )
        self._pipeline.floor.on_finished = lambda result: self._segment_finished(result.position)
        self._stats.state = "running"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, self._pipeline)
                tasks.start_soon(self._watch, way_out)
                if self._idle_timeout is not None and way_out.pacing is Pacing.REALTIME:
                    tasks.start_soon(self._watch_idle, self._pipeline, self._idle_timeout)
                task_status.started()
                await self._pipeline.run()
                self.reason = self.reason or "all was said"
                tasks.cancel_scope.cancel()
        finally:
            self._pipeline.close()

    async def _listen(self, pipeline: Pipeline) -> None:
        """Run the sources; once all have returned nobody will speak any more."""
        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(source.run, Seat(pipeline.floor))
        if self._sources:
            pipeline.finish()

    async def _watch(self, way_out: TransportSession) -> None:
        await self.close(await way_out.closed())

    async def _watch_idle(self, pipeline: Pipeline, timeout: float) -> None:
        """Close once nobody has spoken for so long. Files never idle: their time advances with speech alone."""
        due = pipeline.last_spoken + timeout
        while anyio.current_time() < due:
            await anyio.sleep_until(due)
            due = pipeline.last_spoken + timeout
        await self.close(f"nobody spoke for {timeout:g} s")

    async def _let_go(self, way_out: TransportSession | None, error: BaseException | None) -> None:
        for source in self._sources:
            await source.aclose()
        if way_out is not None:
            await way_out.aclose(error)

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
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    async def stats(self) -> SessionStats:
        """A copy of the figures so far."""
        return replace(self._stats)

    async def interrupt(self) -> None:
        """Stop what is said and what waits."""
        await self._running().interrupt()

    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        """Open a segment for whoever holds the handle. Raises SessionError if the session does not run."""
        pipeline = self._running()
        if self._seat is None:
            self._seat = Seat(pipeline.floor)
        return await self._seat.open(rate, channels)

    async def close(self, reason: str = "closed") -> None:
        """End the session. May be called twice."""
        self.reason = self.reason or reason
        self._scope.cancel()

    async def wait(self) -> None:
        """Wait for its end; raises its error if it failed."""
        await self._ended.wait()
        if self._error is not None:
            raise SessionError(f"session {self.id} failed: {self._error}") from self._error

    def _running(self) -> Pipeline:
        if self._pipeline is None or self._stats.state != "running":
            raise SessionError(f"session {self.id} is {self._stats.state}")
        return self._pipeline


def single(error: BaseException) -> BaseException:
    """The error that matters in a group: our own before others, cancellation last."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [single(e) for e in error.exceptions]
    leaves.sort(key=lambda e: (not isinstance(e, VisavisError), not isinstance(e, Exception)))
    return leaves[0]
