"""One session's pipeline: speech in, paired frames out, bounded in milliseconds of media.

Two tasks: one renders ahead of time, one presents. In real time only the presenter sleeps, to absolute deadlines, and
it waits for nobody there: sound goes out in time, with or without its picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import anyio
import numpy as np

from visavis.clock import FrameGrid
from visavis.interfaces.renderer import LoadedAvatar
from visavis.interfaces.session import SessionStats
from visavis.interfaces.transport import Pacing, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, SpokenSpan, VideoFrame, silence
from visavis.metrics import Metrics, NoMetrics
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.floor import FloorPolicy, SpeechFloor
from visavis.pipeline.limits import PipelineLimits
from visavis.pipeline.line import Item, Line
from visavis.pipeline.playhead import Playhead
from visavis.pipeline.rendering import Rendering
from visavis.pipeline.segment import Segment
from visavis.pipeline.slicer import FrameCounter, Slicer
from visavis.pipeline.tally import Tally

log = logging.getLogger("visavis.pipeline")

GRACE: Final = 0.25
"""How long after its deadline a picture may still come, in frames; transports hold more sound than that."""
FIRST_PICTURE: Final = 0.5
"""Seconds for which the first frame waits for its picture: the clock starts with it."""


class Pipeline:
    """Ingest -> render -> present, for one session. ``tally`` counts the frames of all sessions that share it."""

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
        tally: Tally | None = None,
    ) -> None:
        self._video = avatar.format.video
        self._fps: Fraction = self._video.fps
        self._frame = float(1 / self._fps)
        self._transport = transport
        self._realtime = transport.pacing is Pacing.REALTIME
        self._limits = limits or PipelineLimits()
        self.stats = stats or SessionStats()
        self._metrics = metrics or NoMetrics()
        self._tally = tally or Tally()
        self.floor = SpeechFloor(self._slicer, policy=policy, buffer_seconds=self._limits.speech)
        self.floor.on_interrupt = self.interrupt
        self._line = Line(self.floor, max(2, int(self._limits.ahead * self._fps)) + avatar.format.look_ahead)
        self._rendering = Rendering(
            avatar,
            batcher,
            self.floor,
            self._line,
            seed=seed,
            realtime=self._realtime,
            limits=self._limits,
            stats=self.stats,
        )
        self._playhead = Playhead()
        self._owed = 0  # samples of silence that fill the slot of a frame whose sound was short (files)
        self._spoke: Segment | None = None  # whose sound the last frame had
        self._held_since: float | None = None  # since when speech has been waiting for its first picture
        self._audio: AudioFormat | None = transport.audio_format
        self._published = anyio.Event()
        self._publishing = anyio.Lock()
        self._present = anyio.Lock()
        self._finishing = False
        self._began = self._last_spoken = anyio.current_time()
        self.epoch = 0

    # -- sound comes in

    async def _slicer(self, source: AudioFormat) -> Slicer:
        audio = await self._publish(source)
        ear = self._rendering.format
        return Slicer(source, audio, ear.sample_rate, ear.hop)

    async def _publish(self, wanted: AudioFormat) -> AudioFormat:
        """Publish once: with the transport's own sound format, or with that of the first segment."""
        async with self._publishing:  # speech that comes in the meantime waits for the same tracks
            if self._audio is None or not self._published.is_set():
                audio = self._audio or wanted
                await self._transport.publish(self._video, audio)
                self._audio = audio
                self._line.counter = FrameCounter(audio.rate, self._fps)
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

    @property
    def _finished(self) -> bool:
        return self._finishing and not self.floor.segments

    # -- the two tasks

    async def run(self) -> None:
        """Render and present until ``finish`` was called and all has been played, or until cancelled."""
        if self._transport.audio_format is not None:
            await self._publish(self._transport.audio_format)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._rendering.run)
            if self._realtime:
                await self._present_on_time()
            else:
                await self._present_at_once()
            tasks.cancel_scope.cancel()
        if self._published.is_set():
            await self._transport.drain()
            self._account()

    async def _present_at_once(self) -> None:
        """Files: one frame after the other, each when its picture is there."""
        while True:
            change = self.floor.change
            if self._finished:
                return
            if not (self._line.waiting and self._line.waiting[0].drawn):
                await change.wait()
                continue
            item, epoch = self._line.take(), self.epoch
            async with self._present:
                if epoch == self.epoch:
                    await self._give(item, item.slice.audio, item.slice.slot, item.video)
            self._account()

    async def _present_on_time(self) -> None:
        """Real time: one frame at each of the clock's deadlines."""
        await self._published.wait()
        await self._until(anyio.current_time() + FIRST_PICTURE, lambda: self._line.idle is not None or self._head_drawn)
        grid, index = FrameGrid.shared(self._fps), 0
        while True:
            late = await grid.wait(index)
            self._metrics.observe("visavis_presenter_late_seconds", late)
            self._account()
            if late > self._limits.skip:
                log.warning("%.1f s late: the clock starts anew", late)
                grid, index, late = FrameGrid.shared(self._fps), 0, 0.0
            behind = late >= self._frame  # a newer picture follows at once
            speaks = await self._whether_to_speak(grid.due(index) + GRACE * self._frame, behind)
            if self._finished:
                return
            epoch = self.epoch
            async with self._present:  # an interrupt may have come first: silence follows it without a gap
                await self._give_one(speaks and epoch == self.epoch and bool(self._line.waiting), behind)
            self._account()
            index += 1

    async def _whether_to_speak(self, deadline: float, behind: bool) -> bool:
        """Whether the next frame is speech. Waits for its picture until the deadline, and no longer."""
        line, look_ahead = self._line, self._rendering.format.look_ahead
        if line.complete(look_ahead):
            if line.waiting[0].drawn or (behind and self._goes_on):
                self._held_since = None
                return True
            now = anyio.current_time()
            self._held_since = now if self._held_since is None else self._held_since
            if self._goes_on or now >= self._held_since + self._limits.patience:
                await self._until(deadline, lambda: not line.waiting or line.waiting[0].drawn)
                self._held_since = None
                return True
        if line.idle is None and not behind:
            await self._until(deadline, lambda: line.idle is not None or self._head_drawn)
        return self._head_drawn

    @property
    def _goes_on(self) -> bool:
        """Whether the first slice goes on with what the last frame said: a pause would be heard."""
        return bool(self._line.waiting) and self._line.waiting[0].segment is self._spoke

    @property
    def _head_drawn(self) -> bool:
        return bool(self._line.waiting) and self._line.waiting[0].drawn

    async def _until(self, deadline: float, condition: Callable[[], bool]) -> None:
        """Wait for a condition that the floor's changes bring about, at most until the deadline."""
        with anyio.CancelScope(deadline=deadline):
            while True:
                change = self.floor.change
                if condition() or self._finished:
                    return
                await change.wait()

    async def _give_one(self, speaks: bool, behind: bool) -> None:
        """Hand on the next frame of a session in real time: its sound fills its slot."""
        if speaks:
            item = self._line.take()
            missing = item.slice.slot - len(item.slice.audio)
            audio = item.slice.audio
            if missing > 0:
                audio = np.concatenate([audio, silence(missing, audio.shape[1])])
            video = None if behind else item.video
            await self._give(item, audio, len(audio), video)
            return
        assert self._audio is not None
        assert self._line.counter is not None
        if (segment := self.floor.speaking()) is not None and segment.heard:
            self.stats.underruns += 1
        slot = self._line.counter.next()
        idle = self._line.take_idle()
        await self._give(None, silence(slot, self._audio.channels), slot, None if behind else idle)

    async def _give(self, item: Item | None, audio: Pcm, slot: int, video: VideoFrame | None) -> None:
        """Hand one frame to the transport and to the account.

        A segment's last sound may be shorter than its slot. Whether another frame follows is not known yet (its writer
        may wait for this one's end), so the missing silence goes before the next frame's sound.
        """
        owed, self._owed = self._owed, slot - len(audio)
        given = len(audio)
        if owed:
            audio = np.concatenate([silence(owed, audio.shape[1]), audio])
        span = None
        if item is not None:
            piece = item.slice
            span = SpokenSpan(item.segment.id, piece.source_samples, piece.first, piece.last)
        frame = PairedFrame(self.stats.frames, audio, video, span, self.epoch, short=self._owed > 0)
        await self._transport.present(frame)
        self._count(frame)
        self._playhead.silence(owed)
        if item is None:
            self._spoke = None
            self._playhead.silence(given)
        else:
            self._spoke = item.segment
            self._playhead.speech(given, len(item.slice.audio), item.segment, item.slice)

    def _count(self, frame: PairedFrame) -> None:
        stats, now = self.stats, anyio.current_time()
        stats.frames += 1
        stats.shown = stats.frames * self._frame
        if frame.video is None:
            stats.dropped_frames += 1
            stats.late_frames += self._realtime
            self._metrics.count("visavis_dropped_frames_total")
            self._metrics.count("visavis_late_frames_total", float(self._realtime))
        self._metrics.count("visavis_frames_total")
        self._tally.add(now, self._realtime and frame.video is None)
        if stats.first_frame is None:
            stats.first_frame = now - self._began
            self._metrics.observe("visavis_first_frame_seconds", stats.first_frame)

    def _account(self) -> None:
        self._playhead.advance(self._transport.held())
        if self.floor.segments:
            now = self._last_spoken = anyio.current_time()
            self.floor.complete()
            if self._realtime and self.floor.segments:
                self._report_overdue(self.floor.segments[0], now)

    def _report_overdue(self, segment: Segment, now: float) -> None:
        """Tell, once, of a segment that is still open although all its sound should have been played long ago."""
        if not segment.reported and now > segment.should_end + self._limits.overdue:
            segment.reported = True
            heard, had = segment.played / segment.format.rate, segment.slicer.written / segment.format.rate
            log.warning("segment %s is open over its own duration: %.2f s of %.2f s played", segment.id, heard, had)
            self._metrics.count("visavis_segments_overdue_total")

    # -- out of band

    async def swap(self, avatar: LoadedAvatar, switched: Callable[[], None]) -> None:
        """Draw with another avatar from the next picture on; see ``Rendering.swap``."""
        await self._rendering.swap(avatar, switched)

    async def interrupt(self) -> None:
        """Stop what is said: read the position, drop older work, flush, reset the face, finish the segments."""
        async with self._present:
            self._account()
            self._playhead.interrupt(self._transport.held())
            self.epoch += 1
            self.floor.cut_off()
            self._rendering.interrupt()
            await self._transport.flush()
            self._spoke = None
            self.floor.finish_cut()
        self._metrics.count("visavis_interrupts_total")

    def close(self) -> None:
        """Finish every segment, let go of the renderer's session."""
        self.floor.close()
        self._rendering.close()
