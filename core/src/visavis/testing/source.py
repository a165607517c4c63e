"""What every audio source must do, as checks. ``visavis.testing.SourceKit`` runs them under pytest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import numpy as np

from visavis.errors import VisavisError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.source import AudioSource
from visavis.media import Pcm
from visavis.testing.checks import ConformanceFailure, Suite, expect, expect_sentence
from visavis.testing.stage import Stage

SOURCE: Final[Suite[SourceCase]] = Suite("source")

LOUDEST: Final = 4.0
"""Decoders may overshoot 1.0 a little; samples that were never scaled to -1..1 go far beyond."""
PROMPT: Final = 1.0
"""Seconds in which a cancelled source must be gone."""


def make_context() -> SessionContext:
    """What a session would give: an id, an empty request, no resources."""
    return SessionContext("conformance", SessionRequest())


@dataclass
class SourceCase:
    """A source to be checked, and what it can do.

    ``make`` makes one that will say something short (at most a minute). Give what applies:
    """

    make: Callable[[], AudioSource]
    context: Callable[[], SessionContext] = make_context
    """What ``prepare`` and ``joined`` get: with resources (a room) if the source needs them."""
    drive: Callable[[AudioSource], Coroutine[Any, Any, None]] | None = None
    """The far end: runs beside ``run``, and sends what the source is to say."""
    ends: bool = True
    """``run`` returns by itself once all is said. False for a microphone or a room."""
    repeats: bool = True
    """Every source that ``make`` makes says the same."""
    says: Pcm | None = None
    """All that it says, float32 ``[samples, channels]``, compared within ``tolerance``."""
    tolerance: float = 1e-4
    wrong: Callable[[], AudioSource] | None = None
    """Makes one that cannot work: its file is missing, its stream malformed. May raise itself."""
    patience: float = 5.0
    """Seconds of silence after which nothing more is expected of it."""


@asynccontextmanager
async def running(case: SourceCase, source: AudioSource, stage: Stage) -> AsyncIterator[Callable[[], bool]]:
    """A prepared source's ``run`` and its far end, until the context ends. Gives: has ``run`` returned by itself?"""
    returned = False

    async def run() -> None:
        nonlocal returned
        await source.run(stage)
        returned = True
        stage.stir()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        if case.drive is not None:
            tasks.start_soon(case.drive, source)
        yield lambda: returned
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def prepared(case: SourceCase) -> AsyncIterator[AudioSource]:
    """A new source that is ready to run; closed afterwards."""
    source, context = case.make(), case.context()
    try:
        await source.prepare(context)
        await source.joined(context)
        yield source
    finally:
        await source.aclose()


async def perform(case: SourceCase, stage: Stage) -> bool:
    """A whole life on a stage, until all is said. Tells whether ``run`` returned by itself."""
    async with prepared(case) as source, running(case, source, stage) as returned:
        await stage.until(lambda: returned() or stage.sated, case.patience)
    return returned()


@SOURCE.check()
async def says_something(case: SourceCase) -> None:
    """It opens a segment and writes sound to it."""
    stage = Stage()
    await perform(case, stage)
    expect(stage.segments, "it opened no segment")
    expect(stage.samples or stage.refused, "it opened a segment but wrote no sound to it")


@SOURCE.check()
async def writes_valid_sound(case: SourceCase) -> None:
    """Formats and samples are such as ``visavis.media`` describes: a possible rate, -1..1, every channel."""
    stage = Stage()
    try:
        await perform(case, stage)
    except BaseException as error:
        if stage.refused:
            raise ConformanceFailure(f"what it wrote was refused: {stage.refused[0]}") from error
        raise
    expect(not stage.refused, f"what it wrote was refused: {stage.refused}")
    for segment in stage.segments:
        peak = max((float(np.abs(piece).max(initial=0.0)) for piece in segment.pieces), default=0.0)
        expect(peak <= LOUDEST, f"a sample of {peak:g}: float samples are in -1..1")


@SOURCE.check("says")
async def says_the_whole_sound(case: SourceCase) -> None:
    """Every sample that it was to say arrives, in order and unchanged."""
    assert case.says is not None
    stage = Stage()
    await perform(case, stage)
    sound = [pcm for _, pcm in stage.sound()]
    have = np.concatenate(sound) if sound else np.zeros((0, case.says.shape[1]), np.float32)
    expect(have.shape == case.says.shape, f"it said {have.shape} samples and channels, not {case.says.shape}")
    off = float(np.abs(have - case.says).max(initial=0.0))
    expect(off <= case.tolerance, f"a sample differs by {off:g} from what it was to say")


@SOURCE.check()
async def ends_every_segment(case: SourceCase) -> None:
    """Once it has said all, no segment is left open: an open one holds the floor."""
    stage = Stage()
    await perform(case, stage)
    if stage.sated:  # an endless one was stopped in the midst of its last segment
        return
    left = [segment.id for segment in stage.segments if not segment.over]
    expect(not left, f"segment {', '.join(left)} was opened and never ended")


@SOURCE.check()
async def adds_nothing_to_an_ended_segment(case: SourceCase) -> None:
    """What is written to a segment after its end (or after a newer one was opened) is lost."""
    stage = Stage()
    await perform(case, stage)
    for segment in stage.segments:
        expect(not segment.after_end, f"{segment.after_end} samples were written to segment {segment.id} after its end")


@SOURCE.check("ends")
async def returns_when_all_is_said(case: SourceCase) -> None:
    """``run`` returns by itself, which is how a session of finite sources comes to its end."""
    expect(await perform(case, Stage()), f"run had not returned {case.patience:g} s after the last thing it did")


@SOURCE.check()
async def waits_for_room(case: SourceCase) -> None:
    """While a write waits it starts no other, so that nothing piles up beyond the pipeline's bound."""
    stage = Stage(room=0)
    async with prepared(case) as source, running(case, source, stage) as returned:
        await stage.until(lambda: stage.writing or returned(), case.patience)
        await anyio.sleep(0.3)
        most = max((segment.most_writing for segment in stage.segments), default=0)
        expect(most <= 1, f"{most} writes were under way at the same time")
        expect(not returned() or not stage.writing, "run returned while a write of its own was still waiting")
        stage.make_room()
        await stage.until(lambda: returned() or stage.sated, case.patience)


@SOURCE.check()
async def stops_when_it_is_cancelled(case: SourceCase) -> None:
    """A cancelled ``run`` is gone at once, wherever it waits, and says nothing more."""
    stage = Stage(room=1)
    async with prepared(case) as source:
        async with running(case, source, stage) as returned:
            await stage.until(lambda: (stage.writing and stage.samples > 0) or returned(), case.patience)
            asked = anyio.current_time()
        took = anyio.current_time() - asked
        expect(took <= PROMPT, f"it took {took:.2f} s to go after it was cancelled")
        said = stage.samples
        stage.make_room()
        await anyio.sleep(0.2)
        expect(stage.samples == said, "it went on speaking after it was cancelled")


@SOURCE.check()
async def bears_an_interrupt(case: SourceCase) -> None:
    """The user cuts in while it writes: it takes that as no error, and does not say the same again."""
    whole, cut = Stage(), Stage(room=1)
    if case.ends and case.repeats:
        await perform(case, whole)
    async with prepared(case) as source, running(case, source, cut) as returned:
        await cut.until(lambda: (cut.writing and cut.samples > 0) or returned(), case.patience)
        await cut.interrupt()
        cut.make_room()
        # One that says it all again, and again, is stopped by the second condition.
        await cut.until(lambda: returned() or cut.sated or cut.samples > 2 * whole.samples > 0, case.patience)
    if case.ends and case.repeats:
        expect(
            cut.samples <= whole.samples,
            f"it said {cut.samples} samples when it was interrupted, but {whole.samples} when it was not",
        )


@SOURCE.check()
async def is_ready_before_it_runs(case: SourceCase) -> None:
    """``prepare`` and ``joined`` return by themselves: the session calls ``run`` only after both."""
    source, context = case.make(), case.context()
    with anyio.move_on_after(case.patience) as waiting:
        await source.prepare(context)
        await source.joined(context)
    expect(not waiting.cancelled_caught, f"prepare and joined had not returned after {case.patience:g} s")
    stage = Stage()
    async with running(case, source, stage) as returned:
        await stage.until(lambda: returned() or stage.sated, case.patience)
    await source.aclose()


@SOURCE.check()
async def closes_twice(case: SourceCase) -> None:
    """``aclose`` may be called again, as happens when a session fails while it closes."""
    source, context, stage = case.make(), case.context(), Stage()
    await source.prepare(context)
    await source.joined(context)
    async with running(case, source, stage) as returned:
        await stage.until(lambda: returned() or stage.sated, case.patience)
    await source.aclose()
    with anyio.move_on_after(case.patience) as waiting:
        await source.aclose()
    expect(not waiting.cancelled_caught, f"the second aclose had not returned after {case.patience:g} s")


@SOURCE.check()
async def closes_after_a_failed_start(case: SourceCase) -> None:
    """``aclose`` lets go whatever came before it: nothing, ``prepare``, or ``prepare`` and ``joined``."""
    for steps in range(3):
        source, context = case.make(), case.context()
        if steps > 0:
            await source.prepare(context)
        if steps > 1:
            await source.joined(context)
        with anyio.move_on_after(case.patience) as waiting:
            await source.aclose()
        came = ("nothing", "prepare", "prepare and joined")[steps]
        expect(not waiting.cancelled_caught, f"aclose after {came} had not returned after {case.patience:g} s")


@SOURCE.check("repeats")
async def shares_nothing_with_another(case: SourceCase) -> None:
    """Two sources of one class, in two sessions at the same time, each say what one says alone."""
    alone, left, right = Stage(), Stage(), Stage()
    await perform(case, alone)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(perform, case, left)
        tasks.start_soon(perform, case, right)
    for stage in (left, right):
        expect(_same(alone, stage, whole=case.ends), "beside another one it did not say what it says alone")


def _same(one: Stage, other: Stage, *, whole: bool) -> bool:
    """Whether the same was said; of endless sources only what both said is compared."""
    pairs = list(zip(one.sound(), other.sound(), strict=False))
    if whole and len(one.sound()) != len(other.sound()):
        return False
    for (format_a, a), (format_b, b) in pairs:
        count = min(len(a), len(b))
        if format_a != format_b or not np.allclose(a[:count], b[:count], atol=1e-4) or (whole and len(a) != len(b)):
            return False
    return True


@SOURCE.check("wrong")
async def refuses_with_a_sentence(case: SourceCase) -> None:
    """What it cannot say it refuses with a VisavisError that says what is wrong, in one sentence."""
    assert case.wrong is not None
    stage, source = Stage(), None
    try:
        source = case.wrong()
        context = case.context()
        await source.prepare(context)
        await source.joined(context)
        async with running(case, source, stage) as returned:
            await stage.until(returned, case.patience)
    except (VisavisError, Exception) as error:  # noqa: BLE001 - whatever it raised is what is judged
        cause = error
        while isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
        expect_sentence(cause, "asked to say what it cannot,")
    else:
        raise ConformanceFailure("asked to say what it cannot, it raised nothing")
    finally:
        if source is not None:
            await source.aclose()
