"""The agent's output: every segment finishes once, in order, whatever becomes of who plays it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import numpy as np
import pytest
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent
from visavis_source_agentsession import route as route_module
from visavis_source_agentsession.route import Route

pytestmark = pytest.mark.anyio
RATE = 1000


def frame(number: int, seconds: float = 0.1, rate: int = RATE) -> rtc.AudioFrame:
    count = round(seconds * rate)
    return rtc.AudioFrame(np.full(count, number, np.int16).tobytes(), rate, 1, count)


@dataclass(eq=False)
class Heard:
    numbers: list[int] = field(default_factory=list)
    flushed: int = 0
    cleared: int = 0


class Sink(AudioOutput):
    """Keeps what it is given; is told by the test when it has played it."""

    def __init__(self, *, rate: int | None = None, slow: bool = False) -> None:
        super().__init__(label="sink", capabilities=AudioOutputCapabilities(pause=False), sample_rate=rate)
        self.heard = Heard()
        self.slow, self.fails = slow, False
        self.samples = 0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        if self.fails:
            raise OSError("the wire is cut")
        if self.slow:
            await anyio.sleep_forever()
        await super().capture_frame(frame)
        self.heard.numbers.append(int(np.frombuffer(frame.data, np.int16)[0]))
        self.samples += frame.samples_per_channel

    def flush(self) -> None:
        super().flush()
        self.heard.flushed += 1

    def clear_buffer(self) -> None:
        self.heard.cleared += 1

    def begin(self) -> None:
        self.on_playback_started(created_at=1.0)

    def end(self, position: float, *, interrupted: bool = False) -> None:
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


@asynccontextmanager
async def routed() -> AsyncIterator[tuple[Route, list[PlaybackFinishedEvent]]]:
    route = Route(sample_rate=None)
    finished: list[PlaybackFinishedEvent] = []
    route.on("playback_finished", finished.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(route.run)
        yield route, finished
        tasks.cancel_scope.cancel()


async def say(route: Route, *numbers: int) -> None:
    for number in numbers:
        await route.capture_frame(frame(number))
    route.flush()
    await settle()


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_what_is_said_waits_until_it_is_known_who_plays_it() -> None:
    async with routed() as (route, finished), anyio.create_task_group() as tasks:
        tasks.start_soon(say, route, 1, 2)
        await settle()
        sink = Sink()
        route.lead_to(sink)
        await settle()
        assert sink.heard == Heard([1, 2], flushed=1) or sink.heard.numbers == [1, 2]
        sink.begin()
        sink.end(0.2)
        assert [(e.playback_position, e.interrupted) for e in finished] == [(0.2, False)]
    assert (await route.wait_for_playout()).playback_position == 0.2


async def test_without_anybody_to_play_it_a_segment_finishes_unheard() -> None:
    async with routed() as (route, finished):
        route.lead_to(None)
        await say(route, 1, 2)
        await say(route, 3)
        assert [(e.playback_position, e.interrupted) for e in finished] == [(0.0, True)] * 2


async def test_the_rest_of_an_utterance_goes_on_elsewhere() -> None:
    async with routed() as (route, finished):
        avatar, voice = Sink(), Sink()
        started: list[object] = []
        route.on("playback_started", started.append)
        route.lead_to(avatar)
        await say(route, *range(10))
        avatar.begin()
        since = anyio.current_time()
        route.lead_to(voice)
        route.lose(avatar, heard_until=since + 0.35)  # the fourth frame was being heard
        await settle()
        assert voice.heard.numbers == [3, 4, 5, 6, 7, 8, 9]
        assert voice.heard.flushed == 1
        voice.begin()
        voice.end(0.7)
        assert len(started) == 1
        assert [(round(e.playback_position, 6), e.interrupted) for e in finished] == [(1.0, False)]
        avatar.end(1.0)  # a dead sink that still speaks is not heard
        assert len(finished) == 1


async def test_it_waits_for_a_change_and_does_not_look_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    step = Route._step

    async def counted(route: Route) -> bool:
        nonlocal looks
        looks += 1
        return await step(route)

    monkeypatch.setattr(Route, "_step", counted)
    async with routed() as (route, _):
        with anyio.move_on_after(0.05):
            await route.capture_frame(frame(1))  # nobody plays it yet
        assert looks < 5
        route.lead_to(Sink())
        await say(route, 2)
        await anyio.sleep(0.05)
        assert looks < 20


async def test_what_was_not_begun_is_said_from_its_start() -> None:
    async with routed() as (route, finished):
        avatar, voice = Sink(), Sink()
        route.lead_to(avatar)
        await say(route, 1, 2, 3)
        route.lead_to(voice)
        route.lose(avatar, heard_until=anyio.current_time() + 9)
        await settle()
        assert voice.heard.numbers == [1, 2, 3]
        assert finished == []


async def test_a_short_rest_is_let_go() -> None:
    async with routed() as (route, finished):
        avatar, voice = Sink(), Sink()
        route.lead_to(avatar)
        await say(route, *range(10))
        avatar.begin()
        route.lead_to(voice)
        route.lose(avatar, heard_until=anyio.current_time() + 0.9)
        await settle()
        assert voice.heard.numbers == []
        assert [(round(e.playback_position, 6), e.interrupted) for e in finished] == [(1.0, False)]


async def test_without_voice_a_lost_utterance_finishes_where_it_was() -> None:
    async with routed() as (route, finished):
        avatar = Sink()
        route.lead_to(avatar)
        await say(route, *range(10))
        avatar.begin()
        route.lead_to(None)
        route.lose(avatar, heard_until=anyio.current_time() + 0.4)
        assert finished[0].interrupted
        assert finished[0].playback_position == pytest.approx(0.4, abs=0.05)


async def test_a_sink_that_fails_is_replaced_in_mid_utterance() -> None:
    async with routed() as (route, finished):
        avatar, voice = Sink(), Sink()
        broken: list[Exception] = []

        def on_broken(sink: AudioOutput, error: Exception) -> bool:
            broken.append(error)
            return sink is avatar

        route.on_broken = on_broken
        route.lead_to(avatar)
        await route.capture_frame(frame(1))
        await settle()
        avatar.fails = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say, route, 2, 3)
            await settle()
            assert len(broken) == 1
            route.lead_to(voice)
            route.lose(avatar, heard_until=anyio.current_time())
        assert voice.heard.numbers == [1, 2, 3]
        voice.end(0.3)
        assert len(finished) == 1


async def test_the_voice_itself_may_fail_and_nothing_hangs() -> None:
    async with routed() as (route, finished):
        voice = Sink()
        voice.fails = True
        route.on_broken = lambda sink, error: False
        route.lead_to(voice)
        await say(route, 1, 2)
        assert [e.interrupted for e in finished] == [True]


async def test_an_interruption_is_passed_on_once_and_in_order() -> None:
    async with routed() as (route, finished):
        sink = Sink()
        route.lead_to(sink)
        await say(route, 1, 2)
        sink.begin()
        await say(route, 3)
        route.clear_buffer()
        route.clear_buffer()
        await settle()
        assert sink.heard.cleared == 1
        sink.end(0.05, interrupted=True)
        sink.end(0.0, interrupted=True)
        assert [round(e.playback_position, 2) for e in finished] == [0.05, 0.0]
        await say(route, 4)
        sink.end(0.1)
        assert finished[-1].playback_position == 0.1


async def test_an_interruption_while_a_sink_is_full_stops_the_wait() -> None:
    async with routed() as (route, finished):
        sink = Sink(slow=True)
        route.lead_to(sink)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(route.capture_frame, frame(1))
            await settle()
            route.flush()
            route.clear_buffer()
        await settle()
        assert [(e.playback_position, e.interrupted) for e in finished] == [(0.0, True)]


async def test_a_cancelled_capture_leaves_nothing_behind() -> None:
    async with routed() as (route, finished):
        with anyio.move_on_after(0.02) as patience:
            await route.capture_frame(frame(1, 100.0))  # nobody has said who plays it
        assert patience.cancelled_caught
        route.flush()
        route.clear_buffer()
        await settle()
        assert len(finished) == 1
        sink = Sink()
        route.lead_to(sink)
        await say(route, 2)
        assert sink.heard.numbers == [2]


async def test_a_sink_that_reports_too_much_is_not_believed() -> None:
    async with routed() as (route, finished):
        sink = Sink()
        route.lead_to(sink)
        await say(route, *range(50))
        sink.begin()
        route.clear_buffer()
        await settle()
        sink.end(5.0, interrupted=True)
        assert finished[0].playback_position < 1.0


async def test_a_report_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "OVERDUE_SECONDS", 0.05)
    monkeypatch.setattr(route_module, "CHECK_SECONDS", 0.02)
    async with routed() as (route, finished):
        sink = Sink()
        route.lead_to(sink)
        await say(route, 1)
        sink.begin()
        await anyio.sleep(0.05)
        assert finished == []
        with anyio.fail_after(5):
            await route.wait_for_playout()
        assert [(round(e.playback_position, 2), e.interrupted) for e in finished] == [(0.1, False)]


async def test_each_sink_gets_its_own_rate() -> None:
    async with routed() as (route, _):
        sink = Sink(rate=8000)
        route.lead_to(sink)
        assert route.sample_rate == 8000
        for _ in range(10):
            await route.capture_frame(frame(7, 0.1, 16_000))
        route.flush()
        await settle()
        assert sink.samples == pytest.approx(8000, abs=100)


@pytest.mark.parametrize("seed", range(40))
async def test_every_segment_finishes_once_whatever_happens(seed: int) -> None:
    """Random orders of saying, interrupting, losing, coming back, and of reports that come late or never."""
    dice = random.Random(seed)
    async with routed() as (route, finished):
        sinks = [Sink()]
        route.on_broken = lambda sink, error: False
        route.lead_to(sinks[0])
        said = 0
        for _ in range(60):
            match dice.randrange(8):
                case 0 | 1:
                    with anyio.move_on_after(0.001):
                        await route.capture_frame(frame(dice.randrange(100), dice.choice([0.01, 0.1, 1.0])))
                    said = max(said, route.captured_playout_segments)
                case 2:
                    route.flush()
                case 3:
                    route.clear_buffer()
                case 4 | 5:
                    sink = dice.choice(sinks)
                    if sink._pending_playback_count:
                        sink.begin()
                        if dice.random() < 0.7:
                            sink.end(dice.random(), interrupted=dice.random() < 0.5)
                case 6:
                    lost = sinks[-1]
                    sinks.append(Sink())
                    route.lead_to(sinks[-1] if dice.random() < 0.8 else None)
                    if dice.random() < 0.8:
                        route.lose(lost, heard_until=anyio.current_time() + dice.random())
                case _:
                    await settle()
        route.flush()
        route.clear_buffer()
        await settle()
        route.lead_to(None)
        for sink in sinks:
            route.lose(sink, heard_until=anyio.current_time())
        await settle()
        assert len(finished) == route.captured_playout_segments == said
        with anyio.fail_after(5):
            await route.wait_for_playout()
