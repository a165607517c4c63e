"""The ramp finds what a box holds, says what limits it, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest
import visavis.capacity.measuring as measuring
from capacity_fakes import Box, Starts, Watches, launcher_part, plan, transport_part
from visavis.capacity import Bounds, Findings, Step
from visavis.capacity.crowd import Crowd, gathered
from visavis.capacity.ramp import Ramp
from visavis.capacity.verdict import Stage, verdict
from visavis.config import Deployment, Limits
from visavis.errors import PluginError, SessionError
from visavis.metrics import MemoryMetrics

pytestmark = pytest.mark.anyio


pytestmark = pytest.mark.anyio


async def found(box: Box, *, metrics: MemoryMetrics | None = None, **given: Any) -> tuple[Findings, list[int]]:
    """Climb with fakes; returns what was found, and how many sessions each step had."""
    asked = plan(**given)
    steps: list[int] = []
    limits = Limits(max_sessions=asked.most)
    part = launcher_part(box)
    deployment = Deployment(*[part] * 3, transport=transport_part(box), launcher=part, limits=limits)  # type: ignore[misc]
    meter = measuring._Meter(box.read, metrics or MemoryMetrics())

    def tell(doing: str, step: Step | None) -> None:
        if step is not None:
            steps.append(step.sessions)

    floor = measuring.Floor(talking=0.1, idle=0.05)
    async with Watches(box) as audience, Starts(box, deployment, MemoryMetrics()) as launcher:
        result = await measuring._climb(launcher, audience, asked, floor, meter, tell)
        assert not box.sessions, "sessions are left behind"
        assert not box.seats, "rooms are left behind"
    return result, steps


@pytest.mark.parametrize(
    ("holds", "tried"), [(5, [1, 2, 4, 8, 6, 5]), (1, [1, 2]), (3, [1, 2, 4, 3]), (12, [1, 2, 4, 8, 16, 12, 14, 13])]
)
async def test_it_doubles_and_then_halves(holds: int, tried: list[int]) -> None:
    result, steps = await found(Box(holds=holds))
    assert steps == tried
    assert result.held is not None
    assert result.burst is not None
    assert (result.held.sessions, result.burst.sessions) == (holds, holds + 1)
    assert result.held.late == 0
    assert result.burst.late_share == pytest.approx(0.1, abs=0.01)


async def test_what_it_counts() -> None:
    result, _ = await found(Box(holds=2, cost=0.25))
    held = result.held
    assert held is not None
    assert held.frames == pytest.approx(2 * 25 * 10, abs=2)
    assert held.rate == 25
    assert held.fps == pytest.approx(25, abs=0.2)
    assert held.cores_each == pytest.approx(0.25, rel=0.01)
    assert held.admitted == 7
    assert held.drawing is None
    assert held.behind is None
    assert (result.memory_first, result.memory_each) == (2_000_000, 2_000_000)
    assert result.idle == pytest.approx(0.0, abs=1e-6)  # nobody talks then
    assert result.as_dict()["sessions"] == 2


async def test_one_may_be_too_many() -> None:
    result, steps = await found(Box(holds=0))
    assert steps == [1]
    assert result.held is None
    assert result.idle is None
    assert result.as_dict()["sessions"] == 0


async def test_most_is_the_end() -> None:
    result, steps = await found(Box(holds=100), most=6)
    assert steps == [1, 2, 4, 6]
    assert result.verdict.stage is Stage.NOTHING


async def test_admission_is_the_end() -> None:
    result, steps = await found(Box(holds=100, takes=5))
    assert steps == [1, 2, 4, 5]
    assert result.held is not None
    assert result.held.sessions == 5
    assert result.verdict.stage is Stage.ADMISSION
    result, steps = await found(Box(holds=100, takes=4))  # what was measured is not measured again
    assert steps == [1, 2, 4]
    with pytest.raises(SessionError, match="not one session was taken on: all are taken"):
        await found(Box(takes=0))


async def test_late_before_admission_refuses_is_late() -> None:
    result, steps = await found(Box(holds=4, takes=6))
    assert steps == [1, 2, 4, 6, 5]
    assert result.verdict.stage is not Stage.ADMISSION
    assert "10.0 % of the frames were late" in result.verdict.said


async def test_too_few_pictures_at_a_subscriber() -> None:
    result, _ = await found(Box(holds=100, loses_pictures_from=4))
    assert result.held is not None
    assert result.held.sessions == 3
    assert result.verdict.stage is Stage.TRANSPORT
    assert "got 20.0 of 25 pictures a second" in result.verdict.said


async def test_a_session_that_ends_is_trouble_and_stops_nobody() -> None:
    result, steps = await found(Box(holds=100, dies_with=4))
    assert steps == [1, 2, 4, 3]
    assert result.burst is not None
    assert "a session ended: the room is gone" in result.verdict.said


async def test_a_session_that_nobody_sees_is_trouble() -> None:
    result, _ = await found(Box(holds=100, unseen=True))
    assert result.held is None
    assert "got 0.0 of 25" in result.verdict.said


async def test_each_has_a_room_a_seed_and_a_place_in_the_recording_of_its_own() -> None:
    box = Box(holds=100)
    async with Watches(box) as audience, Starts(box, _fixed(3), MemoryMetrics()) as launcher:
        async with gathered(launcher, audience, "mira", plan().speech) as crowd:
            assert await crowd.fill(3) == (3, "")
            crowd.talk()
            await anyio.sleep(3)
            starts = [session.written[0] for session in box.sessions]
            talks = [len(session.written) for session in box.sessions]
            await crowd.hush()
            assert [session.interrupts for session in box.sessions] == [1, 1, 1]
            quiet = [len(session.written) for session in box.sessions]
            await anyio.sleep(2)
            assert [len(session.written) for session in box.sessions] == quiet
    assert starts == [0, 137, 274]
    assert all(25 <= count <= 40 for count in talks)  # without a pause, as fast as it is taken
    assert [request.seed for request in box.requests] == [0, 1, 2]
    assert all(dict(request.transport) == {"token": "secret"} for request in box.requests)
    assert not box.sessions
    assert not box.seats


async def test_nothing_is_left_when_it_is_cancelled() -> None:
    box = Box(holds=100)
    with anyio.move_on_after(17) as given_up:
        await found(box)
    assert given_up.cancelled_caught
    assert box.most_seats > 1
    assert not box.sessions
    assert not box.seats


async def test_no_seat_is_lost_when_a_start_fails() -> None:
    box = Box(takes=1)
    async with Watches(box) as audience, Starts(box, _fixed(3), MemoryMetrics()) as launcher:
        async with gathered(launcher, audience, "mira", plan().speech) as crowd:
            assert await crowd.fill(3) == (1, "all are taken")
            assert len(box.seats) == 1
            assert isinstance(crowd, Crowd)


def _fixed(most: int) -> Deployment:
    part = launcher_part(Box.__new__(Box))
    return Deployment(*[part] * 3, transport=part, launcher=part, limits=Limits(max_sessions=most))  # type: ignore[misc]


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time only as long as it takes to count something."""
    monkeypatch.setattr(measuring, "WARM_UP", 0.1)
    monkeypatch.setattr(measuring, "IDLE_SECONDS", 0.1)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_same_on_asyncio() -> None:
    result, steps = await found(Box(holds=3), seconds=1.0)
    assert steps == [1, 2, 4, 3]
    assert result.held is not None
    assert result.held.sessions == 3


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_is_left_when_it_is_cancelled_on_asyncio() -> None:
    box = Box(holds=100)
    with anyio.move_on_after(1.5) as given_up:
        await found(box, seconds=1.0)
    assert given_up.cancelled_caught
    assert not box.sessions
    assert not box.seats


# -- what limits

STEP = Step(
    sessions=4, seconds=10, frames=1000, late=50, rate=25, fps=25, gap=0.05, cores=1.0, audience_cores=0.2,
    machine_cores=1.3, machine_size=4, memory=0, drawing=0.5, behind=0.001,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"machine_cores": 3.7}, Stage.PROCESSOR),
        ({"machine_cores": 3.7, "audience_cores": 1.5}, Stage.AUDIENCE),
        ({"cores": 1.8}, Stage.PROCESSOR),  # of four cores this process may use two
        ({"drawing": 0.9}, Stage.RENDERER),
        ({"behind": 0.02}, Stage.LOOP),
        ({"drawing": 0.9, "behind": 0.02}, Stage.RENDERER),
        ({}, Stage.RENDERER),
        ({"late": 0, "fps": 20, "stalled": 0.5}, Stage.AUDIENCE),
        ({"late": 0, "fps": 20}, Stage.TRANSPORT),
        ({"late": 0, "fps": 20, "drawing": None, "behind": None}, Stage.TRANSPORT),
    ],
)
def test_what_limits_is_read_off_the_step_that_was_too_much(change: dict[str, Any], stage: Stage) -> None:
    ramp = Ramp(None, Bounds(), 8, steps=[replace(STEP, sessions=2, late=0), replace(STEP, **change)])  # type: ignore[arg-type]
    found = verdict(ramp, 2)
    assert found.stage is stage
    assert found.said.startswith("with 4 sessions ")
    assert ("the measurement is the limit" in found.said) is (stage is Stage.AUDIENCE)


def test_a_transport_without_rooms_says_what_is_needed() -> None:
    with pytest.raises(PluginError, match="the transport 'rooms' has no rooms") as refused:
        measuring.audience_of(transport_part(None))
    assert "livekit" in refused.value.hint


def test_only_a_fixed_number_of_sessions_stays_a_limit() -> None:
    part = launcher_part(Box.__new__(Box))
    parts = {"store": part, "source": part, "renderer": part, "transport": part, "launcher": part}
    auto = Deployment(**parts, limits=Limits(max_duration_s=60))
    lifted = measuring._lifted(auto, plan(most=9)).limits
    assert (lifted.max_sessions, lifted.idle_timeout_s, lifted.max_duration_s) == (9, None, None)
    fixed = replace(auto, limits=Limits(max_sessions=3))
    assert measuring._lifted(fixed, plan(most=9)).limits.max_sessions == 3
