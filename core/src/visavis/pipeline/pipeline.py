"""One session's pipeline: speech in, paired frames out, bounded in milliseconds of media.

Two tasks: one renders ahead of time, one presents. In real time only the presenter sleeps, to absolute deadlines.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import anyio
import numpy as np

from visavis.clock import FrameGrid
from visavis.interfaces.renderer import LoadedAvatar, RenderFormat
from visavis.interfaces.session import SessionStats
from visavis.interfaces.transport import Pacing, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, SpokenSpan, VideoFrame, silence
from visavis.metrics import Metrics, NoMetrics
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.drawing import Drawing
from visavis.pipeline.floor import FloorPolicy, SpeechFloor
from visavis.pipeline.playhead import Playhead
from visavis.pipeline.segment import Segment
from visavis.pipeline.slicer import FrameCounter, Slice, Slicer

log = logging.getLogger("visavis.pipeline")


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Bounds, in seconds of media."""

    speech: float = 0.5
    """Sound that may wait to be rendered; a writer waits beyond it."""
    ahead: float = 0.2
    """Frames that may wait to be presented."""
    starved: float = 0.2
    """Sound that fails to come for so long no longer holds back what was heard (real time only)."""
    stalled: float = 10.0
    """An open segment without sound for so long is ended (real time only)."""
    skip: float = 2.0
    """Later than this (a suspended machine) the clock starts anew instead of catching up."""


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A slice on its way through the renderer."""

    segment: Segment
    slice: Slice


@dataclass(frozen=True, slots=True)
class _Item:
    """A frame on its way to the presenter."""

    spoken: _Spoken | None
    audio: Pcm
    slot: int
    video: VideoFrame | None


@dataclass(eq=False)
class _Swap:
    """A change of avatar that was asked for."""

    format: RenderFormat
    drawing: Drawing[_Spoken]
    switched: Callable[[], None]
    done: anyio.Event = field(default_factory=anyio.Event)


class Pipeline:
    """Ingest -> render -> present, for one session."""

    def __init__(
        self,
        avatar: LoadedAvatar,
        batcher: Batcher,
        transport: TransportSession,
        *,
        seed: int = 0,
        policy: FloorPolicy = FloorPolicy.QUEUE,
        limits: PipelineLimits | None = None,
        stats: SessionStats | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._format = avatar.format
        self._batcher, self._seed = batcher, seed
        self._fps: Fraction = avatar.format.video.fps
        self._transport = transport
        self._realtime = transport.pacing is Pacing.REALTIME
        self._limits = limits or PipelineLimits()
        self.stats = stats or SessionStats()
        self._metrics = metrics or NoMetrics()
        self._drawing: Drawing[_Spoken] = Drawing(batcher, avatar, seed=seed)
        self.floor = SpeechFloor(self._slicer, policy=policy, buffer_seconds=self._limits.speech)
        self.floor.on_interrupt = self.interrupt
        self._playhead = Playhead()
        self._ready: deque[_Item] = deque()
        self._capacity = max(2, int(self._limits.ahead * self._fps))
        self._heard_last: Segment | None = None
        self._owed = 0  # samples of silence that fill the slot of a frame whose sound was short (files)
        self._late = 0  # frames by which the presenter is behind: their pictures are not drawn
        self._audio: AudioFormat | None = transport.audio_format
        self._counter: FrameCounter | None = None
        self._published = anyio.Event()
        self._present = anyio.Lock()
        self._swap: _Swap | None = None
        self._finishing = False
        self._began = self._last_spoken = anyio.current_time()
        self.epoch = 0

    # -- sound comes in

    async def _slicer(self, source: AudioFormat) -> Slicer:
        audio = await self._publish(source)
        return Slicer(source, audio, self._format.sample_rate, self._format.hop)

    async def _publish(self, wanted: AudioFormat) -> AudioFormat:
        """Publish once: with the transport's own sound format, or with that of the first segment."""
        if self._audio is None or not self._published.is_set():
            audio = self._audio or wanted
            await self._transport.publish(self._format.video, audio)
            self._audio = audio
            self._counter = FrameCounter(audio.rate, self._fps)
            self._published.set()
        return self._audio

    def finish(self) -> None:
        """No more segments will be opened: ``run`` returns once all has been played."""
        self._finishing = True
        self.floor.changed()

    @property
    def last_spoken(self) -> float:
        """When somebody last spoke, in the loop's seconds: now, while anybody does."""
        return anyio.current_time() if self.floor.segments else self._last_spoken

    # -- the two tasks

    async def run(self) -> None:
        """Render and present until ``finish`` was called and all has been played, or until cancelled."""
        if self._transport.audio_format is not None:
            await self._publish(self._transport.audio_format)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._render)
            if self._realtime:
                await self._present_on_time()
            else:
                await self._present_at_once()
            tasks.cancel_scope.cancel()
        if self._published.is_set():
            await self._transport.drain()
            self._account()

    async def _render(self) -> None:
        while True:
            change = self.floor.change
            self.floor.complete()
            if self._swap is not None:
                await self._switch(self._swap)
            if len(self._ready) >= self._capacity:
                await change.wait()
            elif not await self._render_one():
                await self._wait(change)

    async def _wait(self, change: anyio.Event) -> None:
        """Nothing can be rendered: wait for a change, or for patience with a silent segment to end."""
        segment = self.floor.speaking()
        if not self._realtime or segment is None:
            await change.wait()
            return
        patience = self._limits.starved if self._drawing.waiting else self._limits.stalled
        deadline = segment.last_write + patience
        with anyio.CancelScope(deadline=deadline):
            await change.wait()
            return
        if anyio.current_time() >= segment.last_write + self._limits.stalled:
            log.warning("segment %s: no sound for %.0f s, it is ended", segment.id, self._limits.stalled)
            segment.close_input()

    async def _render_one(self) -> bool:
        """Put at most one frame into the queue; False if there is nothing to do now."""
        if self._counter is None:
            return False
        segment = self.floor.speaking()
        if self._drawing.waiting and self._must_flush(segment):
            self._queue(await self._drawing.flush(skip=self._skip()))
            return True
        if segment is not None and segment.slicer.ready(self._counter.peek()):
            piece = segment.take(self._counter.next())
            self._heard_last = segment
            self.floor.changed()  # there is room again
            self._queue(await self._drawing.hear(piece.ear, _Spoken(segment, piece), skip=self._skip()))
            return True
        if self._realtime and not self._ready:
            if segment is not None:
                self.stats.underruns += 1
            await self._idle()
            return True
        return False

    async def swap(self, avatar: LoadedAvatar, switched: Callable[[], None]) -> None:
        """Draw with another avatar of the same format from the next picture on.

        What the old one has heard is drawn by it first. ``switched`` is called in one step with the change; a call
        that is cancelled before that changes nothing.
        """
        drawing: Drawing[_Spoken] = Drawing(self._batcher, avatar, seed=self._seed)
        self._swap = swap = _Swap(avatar.format, drawing, switched)
        self.floor.changed()
        try:
            await swap.done.wait()
        finally:
            if self._drawing is not drawing:
                drawing.close()
            if self._swap is swap:
                self._swap = None

    async def _switch(self, swap: _Swap) -> None:
        while self._drawing.waiting:
            self._queue(await self._drawing.flush(skip=self._skip()))
        if self._swap is not swap:
            return  # whoever asked has left meanwhile
        old, self._drawing = self._drawing, swap.drawing
        self._format, self._swap = swap.format, None
        old.close()
        swap.switched()
        swap.done.set()

    def _must_flush(self, speaking: Segment | None) -> bool:
        """Whether what was heard must be drawn now, without further sound to look ahead into.

        At a segment's end always: a segment's pictures do not depend on how soon the next one comes.
        """
        if speaking is None or speaking is not self._heard_last:
            return True
        # Compared as the deadline in _wait is made: a rounded difference could say "not yet" for ever.
        return self._realtime and anyio.current_time() >= speaking.last_write + self._limits.starved

    def _skip(self) -> bool:
        """Whether the next picture is too late to be drawn."""
        if self._late > 0:
            self._late -= 1
            return True
        return False

    async def _idle(self) -> None:
        assert self._counter is not None
        assert self._audio is not None
        epoch = self.epoch
        video = None if self._skip() else await self._drawing.idle()
        if epoch == self.epoch:
            slot = self._counter.next()
            self._ready.append(_Item(None, silence(slot, self._audio.channels), slot, video))
            self.stats.idle_frames += 1
            self.floor.changed()

    def _queue(self, drawn: tuple[_Spoken, VideoFrame | None] | None) -> None:
        if drawn is not None:
            spoken, video = drawn
            self._ready.append(_Item(spoken, spoken.slice.audio, spoken.slice.slot, video))
            self.floor.changed()

    async def _next(self) -> _Item | None:
        """The next frame, or None once all is finished."""
        while True:
            if self._finishing and not self.floor.segments:
                return None
            if self._ready:
                break
            await self.floor.change.wait()
        item = self._ready.popleft()
        self.floor.changed()
        return item

    async def _present_at_once(self) -> None:
        """Files: one frame after the other."""
        while (item := await self._next()) is not None:
            epoch = self.epoch
            async with self._present:
                if epoch == self.epoch:
                    await self._give(item)
            self._account()

    async def _present_on_time(self) -> None:
        grid, index = FrameGrid(self._fps), 0
        while True:
            late = await grid.wait(index)
            self._account()
            if late > self._limits.skip:
                log.warning("%.1f s late: the clock starts anew", late)
                grid, index, late = FrameGrid(self._fps), 0, 0.0
            self._late = int(late * self._fps)
            item = await self._next()
            if item is None:
                return
            if self._late:
                self.stats.late_frames += 1
                self._metrics.count("visavis_late_frames_total")
                item = replace(item, video=None)  # a newer picture follows at once
            epoch = self.epoch
            async with self._present:
                if epoch == self.epoch:
                    await self._give(_padded(item))
            self._account()
            index += 1

    async def _give(self, item: _Item) -> None:
        """Hand one frame to the transport and to the account.

        A segment's last sound may be shorter than its slot. Whether another frame follows is not known yet (its writer
        may wait for this one's end), so the missing silence goes before the next frame's sound.
        """
        audio, spoken, owed = item.audio, item.spoken, self._owed
        if owed:
            audio = np.concatenate([silence(owed, audio.shape[1]), audio])
        self._owed = item.slot - len(item.audio)
        span = None
        if spoken is not None:
            piece = spoken.slice
            span = SpokenSpan(spoken.segment.id, piece.source_samples, piece.first, piece.last)
        frame = PairedFrame(self.stats.frames, audio, item.video, span, self.epoch, short=self._owed > 0)
        await self._transport.present(frame)
        self._count(frame)
        self._playhead.silence(owed)
        if spoken is None:
            self._playhead.silence(len(item.audio))
        else:
            self._playhead.speech(len(item.audio), spoken.slice.audio.shape[0], spoken.segment, spoken.slice)

    def _count(self, frame: PairedFrame) -> None:
        self.stats.frames += 1
        self.stats.shown = float(self.stats.frames / self._fps)
        if frame.video is None:
            self.stats.dropped_frames += 1
            self._metrics.count("visavis_dropped_frames_total")
        if self.stats.first_frame is None:
            self.stats.first_frame = anyio.current_time() - self._began

    def _account(self) -> None:
        self._playhead.advance(self._transport.held())
        if self.floor.segments:
            self._last_spoken = anyio.current_time()
            self.floor.complete()

    # -- out of band

    async def interrupt(self) -> None:
        """Stop what is said: read the position, drop older work, flush, reset the face, finish the segments."""
        async with self._present:
            self._account()
            self._playhead.interrupt(self._transport.held())
            self.epoch += 1
            self.floor.cut_off()
            self._ready.clear()
            self._drawing.interrupt()
            await self._transport.flush()
            self.floor.finish_cut()
        self._metrics.count("visavis_interrupts_total")

    def close(self) -> None:
        """Finish every segment, let go of the renderer's session."""
        self.floor.close()
        self._drawing.close()


def _padded(item: _Item) -> _Item:
    """The same frame with its sound filled up to its slot."""
    missing = item.slot - len(item.audio)
    if missing <= 0:
        return item
    audio = np.concatenate([item.audio, silence(missing, item.audio.shape[1])])
    return _Item(item.spoken, audio, item.slot, item.video)
