"""One segment on its way to whoever plays it: what was said so far, and how much of it has been heard."""

from __future__ import annotations

from dataclasses import dataclass, field

from livekit import rtc
from livekit.agents.voice.io import AudioOutput

KEPT_SECONDS = 180.0
"""How much of an utterance is kept to be said again, should the avatar be lost in the middle of it."""
TAIL_SECONDS = 0.25
"""What is left of an utterance when the avatar is lost is not worth saying again if it is shorter."""


@dataclass(eq=False)
class Utterance:
    """Frames are appended by the agent, delivered one by one to ``sink``, and kept until the segment is finished."""

    frames: list[rtc.AudioFrame] = field(default_factory=list)
    cursor: int = 0
    """How many of ``frames`` have been delivered to the present sink."""
    flushed: bool = False
    """The agent has said all of it."""
    cut: bool = False
    """It was interrupted: what has not been delivered never will be."""
    stopped: bool = False
    """The sink knows of the interruption."""
    closed: bool = False
    """The sink knows that no more will come."""
    sink: AudioOutput | None = None
    begun: bool = False
    """The sink took some of it, so it will report its end."""
    started_at: float | None = None
    """When the present sink began to be heard, on the event loop's clock."""
    due: float | None = None
    """When the present sink should be through with it, if that is known."""
    announced: bool = False
    """The agent knows that it is being heard."""
    before: float = 0.0
    """Seconds from its start to where the present sink began."""
    result: tuple[float, bool] | None = None
    """Seconds heard, and whether it was interrupted."""
    turn: int = 0
    """Counts how often it was handed to another sink."""
    dropped: float = 0.0
    """Seconds that are no longer kept, at the front."""
    kept: float = 0.0
    """Seconds that are kept, in ``frames``."""
    delivered: float = 0.0
    """Seconds from its start to what the present sink has not been given yet."""

    def add(self, frame: rtc.AudioFrame) -> None:
        """More of it was said."""
        self.frames.append(frame)
        self.kept += frame.duration
        while self.cursor > 1 and self.kept > KEPT_SECONDS:
            gone = self.frames.pop(0).duration
            self.kept, self.dropped = self.kept - gone, self.dropped + gone
            self.cursor -= 1

    def advance(self) -> None:
        """The next frame has been delivered."""
        self.delivered += self.frames[self.cursor].duration
        self.cursor += 1

    @property
    def said(self) -> float:
        """Seconds said so far."""
        return self.dropped + self.kept

    @property
    def ahead(self) -> float:
        """Seconds that the sink has not been given yet."""
        return self.said - self.delivered

    @property
    def waiting(self) -> bool:
        """Whether the sink has something to be told."""
        if self.result is not None or self.closed:
            return False
        return self.cursor < len(self.frames) or (self.flushed and not self.closed)

    def heard(self, now: float) -> float:
        """Seconds heard until ``now`` (the event loop's clock), as far as can be known from here."""
        if self.started_at is None:
            return self.before
        return min(self.delivered, self.before + max(0.0, now - self.started_at))

    def rewind(self, position: float) -> None:
        """Make ready to be said by another sink, from ``position`` seconds on. What is left may be too little."""
        if self.flushed and self.said - position <= TAIL_SECONDS:
            self.result = (self.said, False)
            return
        at, cursor = self.dropped, 0
        while cursor < len(self.frames) and at + self.frames[cursor].duration <= position:
            at += self.frames[cursor].duration
            cursor += 1
        self.before = self.delivered = at
        self.cursor = cursor
        self.sink = self.started_at = self.due = None
        self.begun = self.closed = False
        self.turn += 1
