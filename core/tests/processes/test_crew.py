"""Workers that die, hang, leak and cannot start: sessions go on elsewhere, and no place is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import numpy as np
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from visavis import workers
from visavis.config import Deployment
from visavis.errors import AtCapacity, SessionError, TransportError, VisavisError
from visavis.interfaces.session import SessionHandle, SessionLimits, SessionRequest
from visavis.metrics import MemoryMetrics
from visavis.processes import launcher as launching
from visavis.processes.launcher import ProcessLauncher
from visavis.processes.options import ProcessOptions
from visavis.remote.launcher import MOST_DEATHS
from visavis.testing.crew import Crew, Member
from visavis.testing.saboteurs import launcher as fakes

pytestmark = pytest.mark.anyio

RATE = 16_000


class Rig:
    """A launcher of workers that are tasks."""

    def __init__(self, *, rejoins: bool = True, most: int | str = 50, **options: Any) -> None:
        self.rooms = fakes.Rooms()
        made = fakes.deployment(self.rooms)
        record = replace(made.transport.record, rejoins=rejoins)
        limits = made.limits.model_copy(update={"max_sessions": most})
        self.deployment: Deployment = replace(made, transport=replace(made.transport, record=record), limits=limits)
        self.crew = Crew(self.deployment)
        self.metrics = MemoryMetrics()
        chosen = ProcessOptions(**{"workers": 2, "hang_s": 2.0, **options})
        self.launcher = ProcessLauncher(chosen, self.deployment, metrics=self.metrics, hire=self.crew.hire)

    async def start(self, **more: Any) -> SessionHandle:
        return await self.launcher.start(SessionRequest(avatar="ada", **more))

    def where(self, handle: SessionHandle) -> Member:
        """The worker in which a session runs."""
        return next(m for m in self.crew.alive if handle.id in m.launcher._sessions)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - a count is polled, no event tells of it
            await anyio.sleep(0.02)


async def speak(handle: SessionHandle, seconds: float) -> Any:
    stream = await handle.speak(RATE)
    await stream.write(np.full(int(seconds * RATE), 0.1, np.float32))
    return stream


async def test_sessions_are_spread_and_a_dead_worker_takes_only_its_own_along() -> None:
    rig = Rig()
    async with rig.launcher:
        handles = [await rig.start() for _ in range(4)]
        assert sorted(len(m.launcher._sessions) for m in rig.crew.alive) == [2, 2]
        lost = [h for h in handles if rig.where(h) is rig.where(handles[0])]
        others = [h for h in handles if h not in lost]
        segments = [(await speak(h, 0.4)) for h in others]
        cut = await speak(lost[0], 0.4)
        assert await cut.wait_started()
        rig.where(handles[0]).kill()
        finish = await cut.wait_finished()
        assert finish.interrupted
        assert 0 <= finish.samples < 0.4 * RATE
        await until(lambda: rig.metrics.total("visavis_sessions_begun_again_total") == 2)
        for segment in segments:  # the others have noticed nothing
            await segment.end()
            assert (await segment.wait_finished()).samples == int(0.4 * RATE)
        for handle in lost:  # the same handle, the same id, and it speaks again
            assert rig.where(handle)
            stream = await speak(handle, 0.2)
            await stream.end()
            assert not (await stream.wait_finished()).interrupted
        await until(lambda: len(rig.launcher.workers) == 2)
        assert rig.metrics.total("visavis_workers_lost_total") == 1
        assert {h.id for h in await rig.launcher.sessions()} == {h.id for h in handles}
    for handle in handles:
        await handle.wait()
        assert (await handle.stats()).reason == "the server stops"


async def test_figures_go_on_counting_and_time_goes_on_running_after_a_worker_died() -> None:
    rig = Rig()
    async with rig.launcher:
        handle = await rig.start(limits=SessionLimits(max_duration_s=100))
        stream = await speak(handle, 0.3)
        await stream.end()
        await stream.wait_finished()
        await anyio.sleep(0.2)
        before = await handle.stats()
        assert before.segments == 1
        rig.where(handle).kill()
        await until(lambda: rig.metrics.total("visavis_sessions_begun_again_total") == 1)
        stats = await handle.stats()
        assert stats.segments == 1
        assert stats.frames >= before.frames
        assert handle.limits.max_duration_s is not None
        assert handle.limits.max_duration_s < 100


async def test_what_cannot_be_continued_is_reported_with_the_reason() -> None:
    rig = Rig(rejoins=False)
    async with rig.launcher:
        handle = await rig.start()
        rig.where(handle).kill()
        with pytest.raises(SessionError, match="its worker is gone: the other process is gone; what the transport"):
            await handle.wait()
        stats = await handle.stats()
        assert stats.state == "closed"
        assert "worker is gone" in stats.reason
        with pytest.raises(SessionError):
            await handle.speak(RATE)
        assert await rig.launcher.sessions() == []


async def test_a_session_that_kills_its_workers_is_given_up() -> None:
    rig = Rig()
    async with rig.launcher:
        handle = await rig.start()
        for _ in range(MOST_DEATHS):
            await until(lambda: any(handle.id in m.launcher._sessions for m in rig.crew.alive))
            rig.where(handle).kill()
            await anyio.sleep(0.1)
        with pytest.raises(SessionError, match=f"{MOST_DEATHS} workers have died"):
            await handle.wait()


async def test_one_who_closes_a_session_that_has_no_place_is_obeyed() -> None:
    rig = Rig(workers=1)
    async with rig.launcher:
        handle = await rig.start()
        rig.crew.fails = [SessionError("no memory")]
        rig.where(handle).kill()
        await until(lambda: rig.launcher.workers == [])
        assert (await rig.launcher.capacity()).problem == "no worker is ready"
        with pytest.raises(AtCapacity):
            await rig.start()
        await handle.close("enough")
        await handle.wait()
        assert (await handle.stats()).reason == "enough"
        await until(lambda: len(rig.launcher.workers) == 1)  # the second attempt succeeds
        assert rig.crew.alive[0].launcher._sessions == {}


@pytest.mark.parametrize("how", ["loop", "renderer"])
async def test_a_worker_that_hangs_is_replaced(how: str) -> None:
    rig = Rig()
    async with rig.launcher:
        handle, other = await rig.start(), await rig.start()
        hanging, fine = rig.where(handle), rig.where(other)
        assert hanging is not fine
        if how == "loop":
            hanging.wire.freeze()
        else:
            hanging.launcher.supervisor.batcher._began = anyio.current_time() - 10
            hanging.launcher.supervisor.batcher._calling = True
        await until(lambda: rig.metrics.total("visavis_sessions_begun_again_total") == 1)
        assert hanging.killed
        assert not fine.killed
        stream = await speak(handle, 0.2)
        await stream.end()
        assert not (await stream.wait_finished()).interrupted


@pytest.mark.parametrize("wear", ["sessions", "memory"])
async def test_a_worn_worker_is_replaced_when_it_is_idle_and_nobody_is_refused(wear: str) -> None:
    rig = Rig(workers=1, recycle_sessions=3, recycle_growth_mb=100)
    async with rig.launcher:
        (old,) = rig.crew.alive
        kept = await rig.start()
        if wear == "memory":
            old.weight = 101_000_000
        while len(rig.crew.members) == 1:
            handle = await rig.start()
            await handle.close()
            await handle.wait()
            await anyio.sleep(0.2)
        await until(lambda: len(rig.launcher.workers) == 2 and not rig.launcher.workers[0].taking)
        newcomer = await rig.start()
        assert rig.where(newcomer) is rig.crew.members[1]
        assert rig.where(kept) is old  # it stays where it is until it is over
        stream = await speak(kept, 0.2)
        await stream.end()
        assert not (await stream.wait_finished()).interrupted
        await kept.close()
        await until(lambda: [w.name for w in rig.launcher.workers] == ["0.2"])
        assert rig.metrics.total("visavis_workers_recycled_total") == 1
        assert rig.metrics.total("visavis_workers_lost_total") == 0
        assert not newcomer.over  # type: ignore[attr-defined]


async def test_a_launcher_whose_workers_cannot_start_says_why() -> None:
    rig = Rig()
    rig.crew.fails = [TransportError("there is no network", hint="plug it in")]
    with pytest.raises(TransportError, match="there is no network"):
        async with rig.launcher:
            pytest.fail("it was entered")


async def test_full_is_full_over_all_workers() -> None:
    rig = Rig(most=3)
    async with rig.launcher:
        handles = [await rig.start() for _ in range(3)]
        with pytest.raises(AtCapacity, match="all 3 sessions are taken"):
            await rig.start()
        await handles[0].close()
        await handles[0].wait()
        await rig.start()
    rig = Rig(most="auto", sessions_per_worker=1)
    async with rig.launcher:
        await rig.start()
        assert (await rig.launcher.capacity()).most == 2
        await rig.start()
        with pytest.raises(AtCapacity, match="all 2 sessions are taken"):
            await rig.start()


async def test_all_workers_rehearse_and_their_successors_are_warm() -> None:
    rig = Rig()
    async with rig.launcher:
        assert len(await rig.launcher.rehearse("bob", 5)) == 5
        assert all("bob" in m.launcher.supervisor._avatars for m in rig.crew.alive)
        rig.crew.alive[0].kill()
        await until(lambda: len(rig.crew.members) == 3 and len(rig.launcher.workers) == 2)
        assert "bob" in rig.crew.members[-1].launcher.supervisor._avatars


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "closed room", "cancel", "kill", "kill later", "nobody"]),
        st.floats(0.0, 0.5),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, backend=st.sampled_from(["trio", "trio", "trio", "asyncio"]))
def test_no_place_is_lost_however_a_start_fails(events: list[tuple[str, float]], backend: str) -> None:
    async def one(rig: Rig, what: str, seconds: float) -> None:
        room = {"closed room": "closed", "cancel": "slow", "kill": "slow"}.get(what, "open")
        request = SessionRequest(avatar="nobody" if what == "nobody" else "ada", transport={"room": room})
        with anyio.move_on_after(seconds if what == "cancel" else 100):
            try:
                handle = await rig.launcher.start(request)
            except VisavisError:
                assert what in ("closed room", "kill", "nobody")
                return
            if what == "kill later":
                await anyio.sleep(seconds / 5)
                rig.where(handle).kill()
            await handle.close("the test ends")

    async def killer(rig: Rig, seconds: float) -> None:
        await anyio.sleep(seconds)
        for member in rig.crew.alive[:1]:
            member.kill()

    async def main() -> None:
        rig = Rig(most=2, rejoins=False)
        async with rig.launcher:
            for what, seconds in events:
                async with anyio.create_task_group() as tasks:
                    if what == "kill":
                        tasks.start_soon(killer, rig, seconds / 5)
                    await one(rig, what, seconds)
                await settled(rig)
            first, _ = [await rig.start() for _ in range(2)]
            with pytest.raises(AtCapacity, match="all 2 sessions are taken"):
                await rig.start()
            await first.close()
            await first.wait()
            await rig.start()

    options = {"clock": trio.testing.MockClock(autojump_threshold=0)} if backend == "trio" else {}
    with workers.inline():
        anyio.run(main, backend=backend, backend_options=options)


async def settled(rig: Rig) -> None:
    """Wait until both workers are there, and nothing runs nor starts, neither here nor there."""
    with anyio.fail_after(40):
        while True:
            full = await rig.launcher.capacity()
            there = [s for member in rig.crew.alive for s in member.launcher._sessions]
            starts = [s for member in rig.crew.alive for s in member.launcher._starts]
            empty = (full.running, full.starting, full.problem, there, starts) == (0, 0, None, [], [])
            if empty and len(rig.launcher.workers) == len(rig.crew.alive) == 2:
                return
            await anyio.sleep(0.02)


def test_workers_are_spread_over_gpus() -> None:
    rig = Rig(workers="auto", gpus=[0, 3])
    assert rig.launcher.wanted == 2
    assert [rig.launcher._environment(seat) for seat in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": each} for each in ("0", "3", "0")
    ]
    assert Rig(workers="auto").launcher.wanted >= launching.LEAST_WORKERS
