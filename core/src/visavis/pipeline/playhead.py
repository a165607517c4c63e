"""Counts what has really been played: what was presented, less what the transport still holds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from visavis.pipeline.segment import Segment
from visavis.pipeline.slicer import Slice


@dataclass(slots=True)
class _Stretch:
    """Listener samples ``begin``..``end`` of the session's sound, which stand for source samples of a segment."""

    begin: int
    end: int
    segment: Segment
    source_samples: int


class Playhead:
    """One session's account. All counts are samples of the listener's rate unless they say otherwise."""

    def __init__(self) -> None:
        self.presented = 0
        self._ahead: deque[_Stretch] = deque()

    def silence(self, samples: int) -> None:
        """So many samples of silence were given to the transport."""
        self.presented += samples

    def speech(self, samples: int, spoken: int, segment: Segment, piece: Slice) -> None:
        """So many samples were given, the first ``spoken`` of them a slice of a segment, the rest silence."""
        end = self.presented + spoken
        self._ahead.append(_Stretch(self.presented, end, segment, piece.source_samples))
        self.presented += samples

    def advance(self, held: int) -> None:
        """Account for what has been played by now."""
        played = self.presented - held
        while self._ahead and self._ahead[0].end <= played:
            stretch = self._ahead.popleft()
            if not stretch.segment.heard:
                stretch.segment.start()
            stretch.segment.played += stretch.source_samples
            stretch.segment.on_their_way -= 1
        if self._ahead and self._ahead[0].begin <= played and not self._ahead[0].segment.heard:
            self._ahead[0].segment.start()  # all before it has been played: its first sample is next

    def interrupt(self, held: int) -> None:
        """The transport is about to throw away ``held`` samples: count the part of the current frame that was heard."""
        played = self.presented - held
        if self._ahead and self._ahead[0].begin < played:
            stretch = self._ahead[0]
            part = (played - stretch.begin) / max(1, stretch.end - stretch.begin)
            stretch.segment.played += int(stretch.source_samples * min(1.0, part))
        self._ahead.clear()
