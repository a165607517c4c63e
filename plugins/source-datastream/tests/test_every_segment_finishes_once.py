"""Whatever order things happen in, every stream gets exactly one finish, and its sender hears of all in order."""

from __future__ import annotations

import re
from typing import Any

import anyio
import numpy as np
import pytest
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from visavis_source_datastream import DataStreamOptions

RATE = 16_000
SENDERS = ("one", "other")

sender = st.sampled_from(SENDERS)
recent = st.integers(0, 2)  # which of its streams: the latest, the one before, ...
seconds = st.sampled_from([0.0, 0.01, 0.04, 0.2, 0.7])
step = st.one_of(
    st.tuples(st.just("open"), sender),
    st.tuples(st.just("chunk"), sender, recent, st.sampled_from([1, 2, 641, 6_400, 20_001])),
    st.tuples(st.just("chunk"), sender, recent, st.sampled_from([1, 2, 641, 6_400, 20_001])),
    st.tuples(st.just("close"), sender, recent),
    st.tuples(st.just("clear"), sender),
    st.tuples(st.just("twice"), sender),
    st.tuples(st.just("break"), sender, recent),
    st.tuples(st.just("leave"), sender, seconds),
    st.tuples(st.just("interrupt"), sender),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("stall")),
)


class Play:
    """One run of steps in a scene."""

    def __init__(self, scene: Any, room: Any, tasks: Any, early: bool) -> None:
        self.scene, self.room, self.tasks, self.early = scene, room, tasks, early
        self.senders = {name: room.join(name) for name in SENDERS}
        self.streams: dict[str, list[Any]] = {name: [] for name in SENDERS}
        self.written: dict[str, list[int]] = {name: [] for name in SENDERS}
        self.away: set[str] = set()

    async def do(self, what: str, *given: Any) -> None:
        await getattr(self, f"do_{what}")(*given)

    async def do_open(self, name: str) -> None:
        self.streams[name].append(self.senders[name].stream(RATE))
        self.written[name].append(0)

    async def do_chunk(self, name: str, back: int, size: int) -> None:
        if len(self.streams[name]) > back:
            self.written[name][-1 - back] += size
            self.streams[name][-1 - back].write(np.full(size, 60, np.uint8).tobytes())

    async def do_close(self, name: str, back: int) -> None:
        if len(self.streams[name]) > back:
            self.streams[name][-1 - back].end()

    async def do_break(self, name: str, back: int) -> None:
        if len(self.streams[name]) > back:
            self.streams[name][-1 - back].abort()

    async def do_clear(self, name: str) -> None:
        await self.senders[name].clear()

    async def do_twice(self, name: str) -> None:
        self.tasks.start_soon(self.senders[name].clear)
        self.tasks.start_soon(self.senders[name].clear)

    async def do_leave(self, name: str, away: float) -> None:
        self.away.add(name)
        self.senders[name].leave()
        await anyio.sleep(away)
        self.senders[name].come()

    async def do_interrupt(self, name: str) -> None:
        await self.scene.session.interrupt()

    async def do_wait(self, time: float) -> None:
        await anyio.sleep(time)

    async def do_stall(self) -> None:
        await anyio.sleep(10.5)

    async def all_told(self) -> None:
        while any(  # noqa: ASYNC110 - what is waited for happens in several places
            len(self.senders[name].finishes) < len(self.streams[name]) for name in SENDERS
        ):
            await anyio.sleep(0.5)

    def judge(self) -> None:
        for name in SENDERS:
            told = self.senders[name].told
            word = "".join({"started": "s", "finished": "f", "error": ""}[what] for what, _ in told)
            assert re.fullmatch("(s?f)*", word), f"{name} was told {word}"
            ends = self.senders[name].finishes
            opened = len(self.streams[name])
            missed = self.early and name in self.away  # it was not there when it was told, and then all was over
            assert opened == len(ends) or (missed and opened > len(ends)), f"{name} opened {opened} and was told {told}"
            for end, written in zip(ends, self.written[name], strict=not missed):
                assert missed or 0 <= end["playback_position"] <= written // 2 / RATE + 1e-9


async def play(make_room: Any, open_scene: Any, steps: list[Any], options: DataStreamOptions, early: bool) -> None:
    room = make_room()
    async with open_scene(room, options) as scene:
        async with anyio.create_task_group() as tasks:
            performance = Play(scene, room, tasks, early)
            for what, *given in steps:
                await performance.do(what, *given)
        if not early:
            with anyio.move_on_after(120):
                await performance.all_told()
            await anyio.sleep(1)  # for what would come too often
    try:
        performance.judge()
    except AssertionError as error:
        raise AssertionError(f"after {steps}, early={early}") from error


@pytest.mark.parametrize("policy", ["queue", "replace", "refuse"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=25), early=st.booleans())
def test_every_segment_finishes_once(make_room: Any, open_scene: Any, policy: Any, steps: Any, early: bool) -> None:
    """``early``: the session ends with what is under way."""
    options = DataStreamOptions(policy=policy, max_streams=1_000, max_streams_total=1_000)
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(play, make_room, open_scene, steps, options, early, backend="trio", backend_options={"clock": clock})
