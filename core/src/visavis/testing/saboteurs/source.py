"""A correct source, and sources that break one promise each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np

from visavis.errors import BadInput
from visavis.interfaces.session import SessionContext, SpeechStream
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.media import Pcm
from visavis.testing import source as checks
from visavis.testing.fakes import TalkingSource
from visavis.testing.source import SOURCE, SourceCase


def utterances() -> list[Pcm]:
    """Half a second and a third of a second of noise."""
    random = np.random.default_rng(1)
    return [random.uniform(-0.5, 0.5, (samples, 1)).astype(np.float32) for samples in (8_000, 5_000)]


def correct(folder: Path, made: Callable[[list[Pcm]], AudioSource] = TalkingSource) -> SourceCase:
    """A source that keeps every promise; or another one that says the same."""
    sound = utterances()
    return SourceCase(
        make=lambda: made(sound),
        says=np.concatenate(sound),
        wrong=lambda: made([]),
        patience=3.0,
    )


class _Mute(TalkingSource):
    """Opens and ends its segments, and writes no sound."""

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        await segment.write(pcm[:0])


@SOURCE.breaks(checks.says_something)
def mute(folder: Path) -> SourceCase:
    """It has no sound to compare, either."""
    return replace(correct(folder, _Mute), says=None)


class _Unscaled(TalkingSource):
    """Writes the values of 16 bit samples as they are, as float."""

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        await super().say(segment, pcm * np.float32(32_767))


@SOURCE.breaks(checks.writes_valid_sound)
def unscaled(folder: Path) -> SourceCase:
    """Whoever forgot to scale forgot it in the expectation as well."""
    case = correct(folder, _Unscaled)
    assert case.says is not None
    return replace(case, says=case.says * np.float32(32_767))


class _Clipped(TalkingSource):
    """Loses the last, short piece of an utterance."""

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        await super().say(segment, pcm[: len(pcm) - 500])


@SOURCE.breaks(checks.says_the_whole_sound)
def clipped(folder: Path) -> SourceCase:
    """The end of each utterance is missing."""
    return correct(folder, _Clipped)


class _LeavesOpen(TalkingSource):
    """Relies on somebody else to end its last segment."""

    async def run(self, speech: SpeechWriter) -> None:
        for pcm in self.utterances:
            await self.say(await speech.open(self.rate, pcm.shape[1]), pcm)


@SOURCE.breaks(checks.ends_every_segment)
def leaves_open(folder: Path) -> SourceCase:
    """The floor stays taken."""
    return correct(folder, _LeavesOpen)


class _Afterthought(TalkingSource):
    """Writes a little silence behind a segment's end."""

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        await super().say(segment, pcm)
        await segment.end()
        await segment.write(np.zeros((160, pcm.shape[1]), np.float32))


@SOURCE.breaks(checks.adds_nothing_to_an_ended_segment)
def afterthought(folder: Path) -> SourceCase:
    """What comes after the end is lost."""
    return correct(folder, _Afterthought)


class _Lingers(TalkingSource):
    """Does not know that all is said."""

    async def run(self, speech: SpeechWriter) -> None:
        await super().run(speech)
        await anyio.sleep_forever()


@SOURCE.breaks(checks.returns_when_all_is_said)
def lingers(folder: Path) -> SourceCase:
    """The session would never end."""
    return correct(folder, _Lingers)


class _Pushes(TalkingSource):
    """Starts a task for every piece, and so never waits for room."""

    async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
        step = self.rate // 10
        async with anyio.create_task_group() as tasks:
            for at in range(0, len(pcm), step):
                tasks.start_soon(segment.write, pcm[at : at + step])


@SOURCE.breaks(checks.waits_for_room)
def pushes(folder: Path) -> SourceCase:
    """Its tasks may even overtake one another, which is not what is judged here: it says pieces of silence."""
    case = correct(folder)
    quiet = [np.zeros_like(pcm) for pcm in utterances()]
    return replace(case, make=lambda: _Pushes(quiet), says=np.concatenate(quiet))


class _Clings(TalkingSource):
    """Takes its time to tidy up when it is cancelled."""

    async def run(self, speech: SpeechWriter) -> None:
        try:
            await super().run(speech)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2 * checks.PROMPT)
            raise


@SOURCE.breaks(checks.stops_when_it_is_cancelled)
def clings(folder: Path) -> SourceCase:
    """A session that ends would have to wait for it."""
    return correct(folder, _Clings)


class _Insists(TalkingSource):
    """Takes an interrupt for a failure, and says the utterance again."""

    async def run(self, speech: SpeechWriter) -> None:
        for pcm in self.utterances:
            interrupted = True
            while interrupted:
                segment = await speech.open(self.rate, pcm.shape[1])
                await self.say(segment, pcm)
                await segment.end()
                interrupted = (await segment.wait_finished()).interrupted


@SOURCE.breaks(checks.bears_an_interrupt)
def insists(folder: Path) -> SourceCase:
    """One cannot cut in on it."""
    return correct(folder, _Insists)


class _WaitsForItself(TalkingSource):
    """Waits in ``joined`` for what only ``run`` brings about, for longer than anyone should have to."""

    def __init__(self, utterances: list[Pcm]) -> None:
        super().__init__(utterances)
        self.runs = anyio.Event()

    async def joined(self, context: SessionContext) -> None:
        with anyio.move_on_after(5.0):
            await self.runs.wait()

    async def run(self, speech: SpeechWriter) -> None:
        self.runs.set()
        await super().run(speech)


@SOURCE.breaks(checks.is_ready_before_it_runs)
def waits_for_itself(folder: Path) -> SourceCase:
    """The session stands still before it begins."""
    return correct(folder, _WaitsForItself)


class _ClosesOnce(TalkingSource):
    """Takes a lock when it closes, and never gives it back."""

    def __init__(self, utterances: list[Pcm]) -> None:
        super().__init__(utterances)
        self.lock = anyio.Semaphore(1)

    async def aclose(self) -> None:
        await self.lock.acquire()


@SOURCE.breaks(checks.closes_twice)
def closes_once(folder: Path) -> SourceCase:
    """The second call waits for ever."""
    return correct(folder, _ClosesOnce)


class _WaitsForItsRun(TalkingSource):
    """Waits, when it closes, for the end of a ``run`` that may never have begun."""

    def __init__(self, utterances: list[Pcm]) -> None:
        super().__init__(utterances)
        self.ran = anyio.Event()

    async def run(self, speech: SpeechWriter) -> None:
        try:
            await super().run(speech)
        finally:
            self.ran.set()

    async def aclose(self) -> None:
        await self.ran.wait()


@SOURCE.breaks(checks.closes_after_a_failed_start)
def waits_for_its_run(folder: Path) -> SourceCase:
    """A session that failed to start would never end."""
    return correct(folder, _WaitsForItsRun)


@SOURCE.breaks(checks.shares_nothing_with_another)
def shares_a_cursor(folder: Path) -> SourceCase:
    """Where it is in its sound is kept on the class."""

    class Shares(TalkingSource):
        at = 0

        async def say(self, segment: SpeechStream, pcm: Pcm) -> None:
            step = self.rate // 10
            Shares.at = 0
            while Shares.at < len(pcm):
                piece = pcm[Shares.at : Shares.at + step]
                Shares.at += step
                await segment.write(piece)

    return correct(folder, Shares)


class _SaysNothingWrong(TalkingSource):
    """Takes whatever it is given, and says nothing if that is nothing."""

    def __init__(self, utterances: list[Pcm]) -> None:
        super().__init__(utterances or [np.zeros((1, 1), np.float32)])


@SOURCE.breaks(checks.refuses_with_a_sentence)
def says_nothing_wrong(folder: Path) -> SourceCase:
    """Nobody learns why it is silent."""
    return correct(folder, _SaysNothingWrong)


@SOURCE.breaks(checks.refuses_with_a_sentence)
def speaks_in_codes(folder: Path) -> SourceCase:
    """It refuses, with an error that is no sentence."""

    def make(utterances: list[Pcm]) -> AudioSource:
        if not utterances:
            raise BadInput("E1007")
        return TalkingSource(utterances)

    return correct(folder, make)
