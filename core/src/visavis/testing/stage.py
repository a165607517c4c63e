"""A speech floor for sources under test: it keeps what is said, and can be full, slow or interrupted."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from visavis.interfaces.session import PlaybackFinished
from visavis.media import AudioFormat, Pcm, as_pcm, silence


class Spoken:
    """One segment on the stage. Implements ``visavis.interfaces.session.SpeechStream``."""

    def __init__(self, id: str, format: AudioFormat, stage: Stage) -> None:
        self._id, self.format, self._stage = id, format, stage
        self.pieces: list[Pcm] = []
        self.ended = False
        self.after_end = 0
        """Samples that its writer wrote after it had ended it."""
        self.writing = 0
        self.most_writing = 0
        """The most writes that were under way at the same time."""
        self._done = anyio.Event()
        self._result: PlaybackFinished | None = None

    @property
    def id(self) -> str:
        """Unique on its stage."""
        return self._id

    @property
    def over(self) -> bool:
        """Whether it was finished, by its end or by an interrupt."""
        return self._result is not None

    @property
    def played(self) -> int:
        """Samples that arrived: they count as played at once."""
        return self.samples

    @property
    def samples(self) -> int:
        """Samples that arrived."""
        return sum(len(piece) for piece in self.pieces)

    def sound(self) -> Pcm:
        """All that arrived, ``[samples, channels]``."""
        return np.concatenate([silence(0, self.format.channels), *self.pieces])

    async def write(self, pcm: NDArray[np.generic]) -> None:
        """Take sound when there is room. Raises ValueError for malformed sound, as every floor does."""
        try:
            samples = as_pcm(np.asarray(pcm), self.format.channels)
        except ValueError as error:
            self._stage.refused.append(str(error))
            raise
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        self._stage.stir()
        try:
            await self._stage.wait_for_room(self)
        finally:
            self.writing -= 1
        if self._result is None:
            self.pieces.append(samples.copy())
            self._stage.took_one()
        elif not self._result.interrupted:  # after an interrupt nobody is to blame
            self.after_end += len(samples)
        self._stage.stir()

    async def end(self) -> None:
        """No more will come; all that came counts as played at once."""
        await anyio.lowlevel.checkpoint()
        self.ended = True
        self.finish(interrupted=False)

    def finish(self, *, interrupted: bool) -> None:
        """Only the first call counts."""
        if self._result is None:
            self._result = PlaybackFinished(self._id, self.samples, self.format.rate, interrupted)
            self._done.set()
        self._stage.stir()

    async def wait_started(self) -> bool:
        """Wait for its first sample; False if it ended unheard."""
        while not self.samples and not self.over:
            await self._stage.next_change()
        return self.samples > 0

    async def wait_finished(self) -> PlaybackFinished:
        """Wait for its end."""
        await self._done.wait()
        assert self._result is not None
        return self._result


class Stage:
    """A writer's seat. Implements ``visavis.interfaces.source.SpeechWriter``.

    ``enough`` seconds of sound are taken; then the stage is full until the source is stopped. ``room`` writes are taken
    until :meth:`make_room` is called; None for any number.
    """

    def __init__(self, *, enough: float = 60.0, room: int | None = None) -> None:
        self.segments: list[Spoken] = []
        self.refused: list[str] = []
        """Why sound was refused as malformed."""
        self._enough = enough
        self._room = room
        self._change = anyio.Event()

    # what a source does

    async def open(self, rate: int, channels: int = 1) -> Spoken:
        """Begin a segment; one that is still open is ended first. Raises ValueError for an impossible format."""
        try:
            wanted = AudioFormat(rate, channels)
        except ValueError as error:
            self.refused.append(str(error))
            raise
        await anyio.lowlevel.checkpoint()
        for segment in self.segments:
            segment.finish(interrupted=False)
        made = Spoken(str(len(self.segments) + 1), wanted, self)
        self.segments.append(made)
        self.stir()
        return made

    async def interrupt(self) -> None:
        """Finish all that is open, as the session does when its user cuts in."""
        for segment in self.segments:
            segment.finish(interrupted=True)
        await anyio.lowlevel.checkpoint()

    # what a check does

    @property
    def seconds(self) -> float:
        """Sound taken so far."""
        return sum(segment.samples / segment.format.rate for segment in self.segments)

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return sum(segment.samples for segment in self.segments)

    @property
    def writing(self) -> bool:
        """Whether a write is under way: it waits for room."""
        return any(segment.writing for segment in self.segments)

    @property
    def sated(self) -> bool:
        """Whether enough was taken."""
        return self.seconds >= self._enough

    def sound(self) -> list[tuple[AudioFormat, Pcm]]:
        """What was said: the sound of each segment that got any, in order."""
        return [(segment.format, segment.sound()) for segment in self.segments if segment.samples]

    def make_room(self) -> None:
        """From now on every write is taken."""
        self._room = None
        self.stir()

    async def wait_for_room(self, segment: Spoken) -> None:
        """Wait while the stage is full and the segment not over; always gives way to other tasks."""
        await anyio.lowlevel.checkpoint()
        while not segment.over and (self._room == 0 or self.sated):
            await self._change.wait()

    def took_one(self) -> None:
        """A write was taken."""
        if self._room:
            self._room -= 1

    def stir(self) -> None:
        """Wake whoever waits for a change."""
        event, self._change = self._change, anyio.Event()
        event.set()

    async def next_change(self) -> None:
        """Wait until something happens."""
        await self._change.wait()

    async def until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait for a condition while something happens at least every ``patience`` seconds; tells if it holds."""
        while not condition():
            with anyio.move_on_after(patience) as silence:
                await self.next_change()
            if silence.cancelled_caught:
                return condition()
        return True
