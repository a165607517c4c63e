"""Sessions share calls of the renderer: all who are due, nobody starves, nothing of before an interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest
from visavis.clock import FrameGrid
from visavis.interfaces.renderer import LoadedAvatar, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.drawing import Drawing
from visavis.testing.fakes import FakeAvatar, FakeRenderer

IDLE = RenderInput(None)
pytestmark = pytest.mark.anyio
IN_ORDER = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Tasks run in the order in which they were started, which trio leaves to chance."""


class Watched(FakeRenderer):
    """Remembers whom it drew, and does something in the middle of a call: what comes while a call runs."""

    def __init__(self, most: int = 16) -> None:
        super().__init__()
        self.max_batch = most
        self.calls: list[list[RenderSession]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        self.calls.append(list(sessions))
        self.meanwhile()
        return super().step(sessions, inputs)


async def together(batcher: Batcher, due: Sequence[tuple[LoadedAvatar, RenderSession]]) -> list[VideoFrame | None]:
    """One step of each, all due at the same time; what each got."""
    got: list[VideoFrame | None] = [None] * len(due)

    async def one(place: int) -> None:
        got[place] = await batcher.step(*due[place], IDLE)

    async with anyio.create_task_group() as tasks:
        for place in range(len(due)):
            tasks.start_soon(one, place)
    return got


async def test_all_who_are_due_share_a_call_and_it_is_counted() -> None:
    renderer, metrics = Watched(), MemoryMetrics()
    avatar, batcher = renderer.load(), Batcher(renderer, metrics)
    sessions = [avatar.open(seed=n) for n in range(6)]
    assert None not in await together(batcher, [(avatar, session) for session in sessions])
    (call,) = renderer.calls
    assert set(call) == set(sessions)
    assert metrics.total("visavis_steps_total") == 1
    assert metrics.total("visavis_steps_sessions_total") == 6
    assert metrics.total("visavis_steps_dropped_total") == 0


async def test_only_equal_keys_share_a_call() -> None:
    renderer = Watched()
    avatar, batcher = renderer.load(), Batcher(renderer)
    other = FakeAvatar(avatar.format, "other")
    due = [(avatar, avatar.open()), (other, other.open()), (avatar, avatar.open()), (other, other.open())]
    assert None not in await together(batcher, due)
    assert len(renderer.calls) == 2
    assert {frozenset(call) for call in renderer.calls} == {
        frozenset(session for _, session in due[n::2]) for n in (0, 1)
    }


async def test_nobody_starves() -> None:
    """Seven who want a step again as soon as they had one, of two keys, and two to a call: each has its turn."""
    renderer = Watched(most=2)
    avatar, batcher = renderer.load(), Batcher(renderer)
    other = FakeAvatar(avatar.format, "other")
    due: list[tuple[LoadedAvatar, RenderSession]] = [(avatar, avatar.open()) for _ in range(5)]
    due += [(other, other.open()) for _ in range(2)]

    async def hungry(avatar: LoadedAvatar, session: RenderSession) -> None:
        for _ in range(30):
            await batcher.step(avatar, session, IDLE)

    async with anyio.create_task_group() as tasks:
        for one in due:
            tasks.start_soon(hungry, *one)
    for _, session in due:
        turns = [number for number, call in enumerate(renderer.calls) if session in call]
        assert len(turns) == 30
        assert max(after - before for before, after in pairwise(turns)) <= len(due)


@IN_ORDER
async def test_who_falls_due_while_others_are_drawn_shares_the_next_call_with_them() -> None:
    """Three that always want another step, one of them half a step behind: not two by two for good."""
    renderer = Watched()
    avatar, batcher = renderer.load(), Batcher(renderer)
    first, second, late = (avatar.open(seed=n) for n in range(3))
    began = threading.Event()

    def behind() -> None:
        began.set()
        time.sleep(0.02)  # long enough for the late one to come

    async def hungry(session: RenderSession) -> None:
        for _ in range(20):
            await batcher.step(avatar, session, IDLE)

    async def hungry_and_late() -> None:
        await anyio.to_thread.run_sync(began.wait)
        await hungry(late)

    renderer.meanwhile = behind
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hungry, first)
        tasks.start_soon(hungry, second)
        tasks.start_soon(hungry_and_late)
    with_it = [set(call) for call in renderer.calls if late in call]
    assert with_it[:15] == [{first, second, late}] * 15


async def test_one_that_goes_away_spoils_no_call_that_it_makes_for_others() -> None:
    """Whoever waits longest calls for all: it may be cancelled meanwhile, and the others have their pictures."""
    renderer = Watched(most=2)
    avatar, batcher = renderer.load(), Batcher(renderer)
    other = FakeAvatar(avatar.format, "other")
    got: list[VideoFrame | None] = []

    async def draw(avatar: LoadedAvatar, session: RenderSession) -> None:
        got.append(await batcher.step(avatar, session, IDLE))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(draw, avatar, avatar.open(seed=number))
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(draw, other, other.open())
            await anyio.lowlevel.checkpoint()
            leaving.cancel_scope.cancel()
    assert len(got) >= 3
    assert None not in got


@IN_ORDER
async def test_what_waits_is_dropped_and_never_drawn() -> None:
    renderer, metrics = Watched(most=1), MemoryMetrics()
    avatar, batcher = renderer.load(), Batcher(renderer, metrics)
    first, second, third = (avatar.open(seed=n) for n in range(3))
    renderer.meanwhile = lambda: batcher.drop(second)
    got = await together(batcher, [(avatar, session) for session in (first, second, third)])
    assert [frame is None for frame in got] == [False, True, False]
    assert renderer.calls == [[first], [third]]
    assert metrics.total("visavis_steps_dropped_total") == 1
    renderer.meanwhile = lambda: None
    assert None not in await together(batcher, [(avatar, second)])  # it may ask again


async def test_what_a_call_has_taken_is_finished() -> None:
    renderer = Watched()
    avatar, batcher = renderer.load(), Batcher(renderer)
    sessions = [avatar.open(seed=n) for n in range(2)]
    renderer.meanwhile = lambda: [batcher.drop(session) for session in sessions]
    assert None not in await together(batcher, [(avatar, session) for session in sessions])


@IN_ORDER
async def test_an_interrupt_drops_its_share() -> None:
    """Sound of before the interrupt that waits behind another session's call is neither heard nor drawn."""
    renderer = Watched(most=1)
    avatar, batcher = renderer.load(), Batcher(renderer)
    drawing: Drawing[str] = Drawing(batcher, avatar, seed=0)
    other = avatar.open(seed=1)
    loud = np.full(avatar.format.hop, 0.5, np.float32)
    said: list[object] = []

    async def speak() -> None:
        said.append(await drawing.hear(loud, "old"))

    async with anyio.create_task_group() as tasks:
        renderer.meanwhile = drawing.interrupt
        tasks.start_soon(batcher.step, avatar, other, IDLE)
        tasks.start_soon(speak)
    renderer.meanwhile = lambda: None
    assert said == [None]
    assert renderer.calls == [[other]]
    assert not drawing.waiting
    assert await drawing.hear(loud, "new") is None  # primes the look-ahead anew
    drawn = await drawing.flush()
    assert drawn is not None
    assert drawn[0] == "new"


async def test_frames_of_one_rate_fall_due_together() -> None:
    rate = Fraction(25)
    first = FrameGrid.shared(rate)
    await anyio.sleep(0.013)
    second = FrameGrid.shared(rate)
    assert second.start >= first.start
    for grid in (first, second):  # to the last bit: in binary, 25 times 41,466.52 is not 1,036,663
        assert grid.start == float(round(grid.start * rate) / rate)
