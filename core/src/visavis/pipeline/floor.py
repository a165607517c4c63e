"""The speech floor: who may speak now. A session has one; whoever writes has a seat at it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum

import anyio

from visavis.errors import FloorRefused
from visavis.interfaces.session import PlaybackFinished
from visavis.media import AudioFormat
from visavis.pipeline.segment import Segment
from visavis.pipeline.slicer import Slicer

log = logging.getLogger("visavis.floor")


class FloorPolicy(StrEnum):
    """What happens when a second writer wants to speak."""

    QUEUE = "queue"
    """It waits for its turn."""
    REPLACE = "replace"
    """The speaker is interrupted."""
    REFUSE = "refuse"
    """The newcomer is refused."""


MakeSlicer = Callable[[AudioFormat], Awaitable[Slicer]]


class SpeechFloor:
    """Holds the segments in the order in which they are spoken, bounded by ``buffer_seconds`` of sound."""

    def __init__(self, make_slicer: MakeSlicer, *, policy: FloorPolicy, buffer_seconds: float) -> None:
        self.policy = policy
        self.segments: deque[Segment] = deque()
        """Begun and not finished, in order."""
        self.on_interrupt: Callable[[], Awaitable[None]] | None = None
        self.on_finished: Callable[[PlaybackFinished], None] | None = None
        self._make_slicer = make_slicer
        self._limit = buffer_seconds
        self._turn = anyio.Lock()
        self._change = anyio.Event()
        self._count = 0
        self._epoch = 0
        self._closed = False
        self._refusal = ""

    # what writers do

    async def open(self, seat: Seat, format: AudioFormat) -> Segment:
        """Begin a segment for a seat, by the policy. Raises FloorRefused."""
        self._check_open()
        if seat.segment is not None and not seat.segment.ended:
            log.info("segment %s is ended by a newer one of the same writer", seat.segment.id)
            seat.segment.close_input()
        if any(s.writer is not seat for s in self.segments):
            if self.policy is FloorPolicy.REFUSE:
                raise FloorRefused("somebody else is speaking", hint="try again when the avatar is silent")
            if self.policy is FloorPolicy.REPLACE:
                await self.interrupt()
        epoch = self._epoch
        async with self._turn:
            await self._until(lambda: bool(self._refusal) or all(s.ended for s in self.segments))
            self._check_open()
            self._count += 1
            segment = Segment(str(self._count), seat, await self._make_slicer(format), self)
            seat.segment = segment
            self.segments.append(segment)
            if epoch != self._epoch or self._closed:  # an interrupt came while it waited: over before it was heard
                self._finish(segment, interrupted=True)
            self.changed()
        return segment

    def _check_open(self) -> None:
        if self._refusal:
            raise FloorRefused(self._refusal)

    async def interrupt(self) -> None:
        """Stop everything that is said or waits, by the pipeline's order of steps."""
        if self.on_interrupt is not None:
            await self.on_interrupt()

    async def wait_for_room(self, segment: Segment) -> None:
        """Wait until the floor holds less than its limit, or the segment takes no more."""
        await self._until(lambda: segment.over or segment.ended or self.buffered < self._limit)

    @property
    def buffered(self) -> float:
        """Seconds of sound that wait to be rendered."""
        return sum(s.slicer.buffered for s in self.segments)

    def refuse(self, why: str) -> None:
        """From now on no segment is begun, those that wait for their turn included; what was begun goes on."""
        self._refusal = self._refusal or why
        self.changed()

    async def wait_silent(self) -> None:
        """Wait until every segment that was begun has been finished."""
        await self._until(lambda: not self.segments)

    # what the pipeline does

    def changed(self) -> None:
        """Wake whoever waits for a change."""
        event, self._change = self._change, anyio.Event()
        event.set()

    @property
    def change(self) -> anyio.Event:
        """Set at the next change. Take it before you look, wait for it after."""
        return self._change

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change.wait()

    def speaking(self) -> Segment | None:
        """The first segment whose sound has not all been taken for rendering."""
        return next((s for s in self.segments if not (s.ended and s.slicer.exhausted)), None)

    def complete(self) -> None:
        """Finish, in order, the segments that came to their natural end."""
        while self.segments and self.segments[0].played_out:
            self._finish(self.segments[0], interrupted=False)

    def cut_off(self) -> None:
        """An interrupt begins: what was begun is rendered no further, and what waits to begin never will be."""
        self._epoch += 1
        for segment in self.segments:
            segment.cut_off()

    def finish_cut(self) -> None:
        """An interrupt is done: what it cut off is finished, in order."""
        for segment in [s for s in self.segments if s.cut]:
            self._finish(segment, interrupted=True)
        self.changed()

    def close(self) -> None:
        """Nobody may speak any more; what was begun is finished as interrupted."""
        self._closed = True
        self.cut_off()
        self.finish_cut()

    def _finish(self, segment: Segment, *, interrupted: bool) -> None:
        self.segments.remove(segment)
        result = segment.finish(interrupted=interrupted)
        self.changed()
        if self.on_finished is not None:
            self.on_finished(result)


class Seat:
    """One writer's place at the floor. Implements ``visavis.interfaces.source.SpeechWriter``."""

    def __init__(self, floor: SpeechFloor) -> None:
        self._floor = floor
        self.segment: Segment | None = None

    async def open(self, rate: int, channels: int = 1) -> Segment:
        """Begin a segment; see SpeechWriter.open. Raises ValueError for an impossible format."""
        return await self._floor.open(self, AudioFormat(rate, channels))

    async def interrupt(self) -> None:
        """Stop everything that is said or waits."""
        await self._floor.interrupt()
