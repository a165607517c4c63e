"""The task that draws: speech ahead of its time as far as the line has room, else one idle picture."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from visavis.interfaces.renderer import LoadedAvatar, RenderFormat
from visavis.interfaces.session import SessionStats
from visavis.media import VideoFrame
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.drawing import Drawing
from visavis.pipeline.floor import SpeechFloor
from visavis.pipeline.limits import PipelineLimits
from visavis.pipeline.line import Item, Line
from visavis.pipeline.segment import Segment

log = logging.getLogger("visavis.pipeline")

MOST_BEHIND: Final = 2.0
"""Seconds of sound by which a renderer may be behind the presenter; then it starts anew with what comes."""


@dataclass(eq=False)
class _Swap:
    """A change of avatar that was asked for."""

    format: RenderFormat
    drawing: Drawing[Item]
    switched: Callable[[], None]
    done: anyio.Event = field(default_factory=anyio.Event)


class Rendering:
    """Draws one session's frames into its line. ``realtime`` says whether idle pictures are wanted."""

    def __init__(
        self,
        avatar: LoadedAvatar,
        batcher: Batcher,
        floor: SpeechFloor,
        line: Line,
        *,
        seed: int,
        realtime: bool,
        limits: PipelineLimits,
        stats: SessionStats,
    ) -> None:
        self.format = avatar.format
        self._batcher, self._seed = batcher, seed
        self._floor, self._line = floor, line
        self._realtime, self._limits, self._stats = realtime, limits, stats
        self._drawing: Drawing[Item] = Drawing(batcher, avatar, seed=seed)
        self._heard_last: Segment | None = None
        self._epoch = 0
        self._swap: _Swap | None = None
        self._most_behind = round(MOST_BEHIND * self.format.video.fps)

    async def run(self) -> None:
        """Draw until cancelled."""
        while True:
            change = self._floor.change
            self._floor.complete()
            if self._swap is not None:
                await self._switch(self._swap)
            if not await self._one():
                await self._wait(change)

    async def _one(self) -> bool:
        """Take one step of the renderer; False if there is nothing to do now."""
        line, drawing = self._line, self._drawing
        if len(line.unheard) > self._most_behind:
            log.warning("the renderer is more than %g s behind: it leaves that sound out", MOST_BEHIND)
            line.forget()
            drawing.interrupt()
        if drawing.waiting and self._must_flush():
            self._drawn(await drawing.flush(skip=self._ask(None)))
            return True
        if (item := line.next_to_hear()) is not None:
            self._heard_last = item.segment
            self._drawn(await drawing.hear(item.slice.ear, item, skip=self._ask(item)))
            return True
        if self._realtime and line.counter is not None and self._wants_idle():
            await self._idle()
            return True
        return False

    def _ask(self, heard: Item | None) -> bool:
        """Note that the picture which this step draws is on its way; True if it is too late to be drawn."""
        due = self._drawing.next_due(heard)
        if due is None:
            return False
        due.asked = True
        return due.taken

    def _drawn(self, drawn: tuple[Item, VideoFrame | None] | None) -> None:
        if drawn is not None:
            item, video = drawn
            item.video, item.drawn = video, True
            self._floor.changed()

    def _wants_idle(self) -> bool:
        line = self._line
        return line.idle is None and not (line.waiting and line.waiting[0].asked)

    async def _idle(self) -> None:
        epoch = self._epoch
        video = await self._drawing.idle()
        if epoch == self._epoch:
            self._line.idle = video
            self._stats.idle_frames += 1
            self._floor.changed()

    def _must_flush(self) -> bool:
        """Whether what was heard must be drawn now, without further sound to look ahead into.

        At a segment's end always: a segment's pictures do not depend on how soon the next one comes.
        """
        next_one = self._line.unheard[0].segment if self._line.unheard else self._floor.speaking()
        if next_one is None or next_one is not self._heard_last:
            return True
        # Compared as the deadline in _wait is made: a rounded difference could say "not yet" for ever.
        starved = self._realtime and anyio.current_time() >= next_one.last_write + self._limits.starved
        return starved and not self._line.unheard and not self._line.sound_ready

    async def _wait(self, change: anyio.Event) -> None:
        """Nothing can be rendered: wait for a change, or for patience with a silent segment to end."""
        segment = self._floor.speaking()
        if not self._realtime or segment is None or self._line.sound_ready:
            await change.wait()
            return
        patience = self._limits.starved if self._drawing.waiting else self._limits.stalled
        with anyio.CancelScope(deadline=segment.last_write + patience):
            await change.wait()
            return
        if anyio.current_time() >= segment.last_write + self._limits.stalled:
            log.warning("segment %s: no sound for %.0f s, it is ended", segment.id, self._limits.stalled)
            segment.close_input()

    async def swap(self, avatar: LoadedAvatar, switched: Callable[[], None]) -> None:
        """Draw with another avatar of the same format from the next picture on.

        What the old one has heard is drawn by it first. ``switched`` is called in one step with the change; a call
        that is cancelled before that changes nothing.
        """
        drawing: Drawing[Item] = Drawing(self._batcher, avatar, seed=self._seed)
        self._swap = swap = _Swap(avatar.format, drawing, switched)
        self._floor.changed()
        try:
            await swap.done.wait()
        finally:
            if self._drawing is not drawing:
                drawing.close()
            if self._swap is swap:
                self._swap = None

    async def _switch(self, swap: _Swap) -> None:
        while self._drawing.waiting:
            self._drawn(await self._drawing.flush(skip=self._ask(None)))
        if self._swap is not swap:
            return  # whoever asked has left meanwhile
        old, self._drawing = self._drawing, swap.drawing
        self.format, self._swap = swap.format, None
        self._line.idle = None
        old.close()
        swap.switched()
        swap.done.set()

    def interrupt(self) -> None:
        """Forget what was heard and what was drawn of it; the face goes to rest."""
        self._epoch += 1
        self._drawing.interrupt(self._line.clear())

    def close(self) -> None:
        """Let go of the renderer's session."""
        self._drawing.close()
