"""One utterance: written by a source, played by the presenter, finished exactly once."""

from __future__ import annotations

import logging
from typing import Protocol

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from visavis.interfaces.session import PlaybackFinished
from visavis.media import as_pcm
from visavis.pipeline.slicer import Slice, Slicer

log = logging.getLogger("visavis.segment")

PIECE_SECONDS = 0.1
"""A long write is taken in pieces of this length, so that it waits while the pipeline is full."""


class Room(Protocol):
    """Tells whether more sound may come in."""

    async def wait_for_room(self, segment: Segment) -> None:
        """Wait until the pipeline has room, or the segment takes no more."""

    def changed(self) -> None:
        """Something arrived or ended: the renderer should look again."""


class Segment:
    """One utterance. Implements ``visavis.interfaces.session.SpeechStream``."""

    def __init__(self, id: str, writer: object, slicer: Slicer, room: Room) -> None:
        self._id, self.writer, self.slicer, self._room = id, writer, slicer, room
        self.format = slicer.source
        self.ended = False
        self.cut = False  # an interrupt is under way
        self._played = 0
        self.on_their_way = 0  # slices taken for rendering and not played yet
        self.heard = False
        self.reported = False
        """Whether it was reported as open over its own duration."""
        self._began = anyio.current_time()
        self.last_write = anyio.current_time()
        self._started = anyio.Event()
        self._done = anyio.Event()
        self._result: PlaybackFinished | None = None

    @property
    def id(self) -> str:
        """Unique in its session."""
        return self._id

    @property
    def played(self) -> int:
        """Source samples really played."""
        return self._played

    @played.setter
    def played(self, samples: int) -> None:
        self._played = samples

    @property
    def over(self) -> bool:
        """True once it has its PlaybackFinished."""
        return self._result is not None

    @property
    def played_out(self) -> bool:
        """Whether it came to its natural end: no more will come, and all that came has been played."""
        return self.slicer.exhausted and self.on_their_way == 0 and not self.cut

    @property
    def should_end(self) -> float:
        """When all that was written should have been played, in the loop's seconds."""
        return self._began + self.slicer.written / self.format.rate

    def take(self, slot: int) -> Slice:
        """Its next slice, for rendering."""
        self.on_their_way += 1
        return self.slicer.take(slot)

    async def write(self, pcm: NDArray[np.generic]) -> None:
        """Add sound; see SpeechStream.write."""
        samples = as_pcm(np.asarray(pcm), self.format.channels)
        piece = max(1, int(self.format.rate * PIECE_SECONDS))
        for at in range(0, len(samples), piece):
            await self._room.wait_for_room(self)
            if self.over or self.ended:
                return
            self.slicer.feed(samples[at : at + piece])
            self.last_write = anyio.current_time()
            self._room.changed()
            # A minute that comes at once must not hold up other sessions, nor this one's next picture.
            await anyio.lowlevel.checkpoint()

    async def end(self) -> None:
        """No more sound will come."""
        self.close_input()

    def close_input(self) -> None:
        """As ``end``, without waiting: also when a newer segment takes its place, or nothing came for too long."""
        if not self.ended and not self.over:
            self.ended = True
            self.slicer.end()
            self._room.changed()

    def cut_off(self) -> None:
        """An interrupt: what waits is thrown away, what still comes is discarded. ``finish`` follows."""
        self.cut = self.ended = True
        self.slicer.drop()
        self._room.changed()

    def start(self) -> None:
        """Its first sample has been played."""
        self.heard = True
        self._began = anyio.current_time()
        self._started.set()

    def finish(self, *, interrupted: bool) -> PlaybackFinished:
        """It ends here. Only the first call counts: a segment finishes once."""
        if self._result is not None:
            return self._result
        samples = self.played if interrupted else self.slicer.written
        self._result = PlaybackFinished(self.id, samples, self.format.rate, interrupted)
        self.ended = True
        self._started.set()
        self._done.set()
        log.debug("segment %s finished at %.3f s, interrupted=%s", self.id, self._result.position, interrupted)
        self._room.changed()
        return self._result

    async def wait_started(self) -> bool:
        """Wait until its first sample has been played; False if it ended unheard."""
        await self._started.wait()
        return self.heard

    async def wait_finished(self) -> PlaybackFinished:
        """Wait for its end."""
        await self._done.wait()
        assert self._result is not None
        return self._result
