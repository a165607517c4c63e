"""The frames on their way: speech that was cut into slices, and the idle picture that stands ready."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from visavis.media import VideoFrame
from visavis.pipeline.floor import SpeechFloor
from visavis.pipeline.segment import Segment
from visavis.pipeline.slicer import FrameCounter, Slice


@dataclass(eq=False, slots=True)
class Item:
    """A slice of speech between the cut and the presenter.

    ``asked`` says that the renderer draws it now or has drawn it, ``drawn`` that it has (``video`` is None if it was
    too late to be drawn), ``taken`` that its sound has been presented: what is drawn of it then comes too late.
    """

    segment: Segment
    slice: Slice
    asked: bool = False
    drawn: bool = False
    taken: bool = False
    video: VideoFrame | None = None


class Line:
    """One session's frames on their way, in order. ``most`` slices may wait here.

    The renderer takes slices from ``unheard``, the presenter from ``waiting``: where the renderer is late the presenter
    overtakes it, for sound never waits for pictures.
    """

    def __init__(self, floor: SpeechFloor, most: int) -> None:
        self._floor, self._most = floor, most
        self.counter: FrameCounter | None = None
        self.waiting: deque[Item] = deque()
        """Cut and not presented."""
        self.unheard: deque[Item] = deque()
        """Cut and not given to the renderer."""
        self.idle: VideoFrame | None = None
        """A picture without speech, for a time at which no speech is ready."""

    @property
    def sound_ready(self) -> bool:
        """Whether whoever speaks has sound for another slice."""
        segment = self._floor.speaking()
        return self.counter is not None and segment is not None and segment.slicer.ready(self.counter.peek())

    def cut(self) -> bool:
        """Cut the next slice of whoever speaks; False if there is none, or no room."""
        segment, counter = self._floor.speaking(), self.counter
        if counter is None or segment is None or len(self.waiting) >= self._most:
            return False
        if not segment.slicer.ready(counter.peek()):
            return False
        item = Item(segment, segment.take(counter.next()))
        self.waiting.append(item)
        self.unheard.append(item)
        self._floor.changed()  # there is room for more sound
        return True

    def next_to_hear(self) -> Item | None:
        """The next slice for the renderer, cut if need be; None if there is none now."""
        if not self.unheard and not self.cut():
            return None
        return self.unheard.popleft()

    def complete(self, look_ahead: int) -> bool:
        """Whether the first slice has all the sound that its picture needs; cuts what is needed to tell."""
        while len(self.waiting) <= look_ahead and self.cut():
            pass
        if not self.waiting:
            return False
        first = self.waiting[0]
        return first.asked or len(self.waiting) > look_ahead or (first.segment.ended and first.segment.slicer.exhausted)

    def take(self) -> Item:
        """The first slice, for the presenter. An idle picture is out of date from now on."""
        item = self.waiting.popleft()
        item.taken = True
        self.idle = None
        self._floor.changed()
        return item

    def take_idle(self) -> VideoFrame | None:
        """The idle picture, for the presenter; None if none is ready."""
        video, self.idle = self.idle, None
        self._floor.changed()
        return video

    def forget(self) -> None:
        """The renderer will not hear what it has not heard yet: that has no pictures."""
        for item in self.unheard:
            item.asked = item.drawn = True
        self.unheard.clear()

    def clear(self) -> int:
        """An interrupt: nothing is on its way any more. Returns how many pictures were, and will not be shown."""
        unshown = sum(item.video is not None for item in self.waiting) + (self.idle is not None)
        self.waiting.clear()
        self.unheard.clear()
        self.idle = None
        return unshown
