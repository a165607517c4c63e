"""A session end to end with fakes: what is said is what is played, once, in order."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
import numpy as np
import pytest
from visavis import workers
from visavis.component import NoOptions
from visavis.errors import SessionError
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.interfaces.session import PlaybackFinished, SessionContext, SessionLimits, SessionRequest
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat, VideoFrame
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.floor import FloorPolicy
from visavis.session import Session
from visavis.testing.fakes import FakeRenderer, RecorderTransport

pytestmark = pytest.mark.anyio


class Said(AudioSource):
    def __init__(self, say: Callable[[SpeechWriter], Awaitable[None]]) -> None:
        self.say, self.closes = say, 0

    async def run(self, speech: SpeechWriter) -> None:
        await self.say(speech)

    async def aclose(self) -> None:
        self.closes += 1


def session(
    *sources: AudioSource,
    pacing: Pacing = Pacing.ASAP,
    audio: AudioFormat | None = None,
    policy: FloorPolicy = FloorPolicy.QUEUE,
    look_ahead: int = 1,
) -> tuple[Session, RecorderTransport, FakeRenderer]:
    renderer = FakeRenderer(look_ahead=look_ahead)
    transport = RecorderTransport(pacing, audio)
    context = SessionContext("s1", SessionRequest(avatar="fake"))
    made = Session(context, renderer.load(), Batcher(renderer), transport, NoOptions(), sources, policy=policy)
    return made, transport, renderer


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
@pytest.mark.parametrize("sizes", [[23_456], [160] * 200, [1, 999, 4001, 7, 18_448]])
async def test_a_recording_comes_out_whole(sizes: list[int], look_ahead: int) -> None:
    total = sum(sizes)
    pcm = noise(total)

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(16_000)
        at = 0
        for size in sizes:
            await segment.write(pcm[at : at + size])
            at += size
        await segment.end()
        result = await segment.wait_finished()
        assert (result.samples, result.interrupted) == (total, False)

    made, transport, _ = session(Said(say), look_ahead=look_ahead)
    await made.run()
    out = transport.made[0]
    assert np.array_equal(out.sound(), pcm)
    assert len(out.frames) == -(-total // 1600)
    assert sum(f.span.samples for f in out.frames if f.span) == total
    levels = [f.video.data[0, 0] for f in out.frames if f.video]
    wanted = [int(16 + 200 * np.sqrt(np.mean(_slot(pcm, i) ** 2))) for i in range(len(out.frames))]
    assert levels == wanted  # each picture belongs to its own sound
    assert [int(f.video.data[16, 0]) for f in out.frames if f.video] == list(range(len(out.frames)))


def _slot(pcm: np.ndarray, index: int) -> np.ndarray:
    part = pcm[index * 1600 : (index + 1) * 1600, 0]
    return np.concatenate([part, np.zeros(1600 - len(part), np.float32)])


async def test_two_segments_keep_their_order_and_the_gap_is_filled() -> None:
    results: list[PlaybackFinished] = []

    async def say(speech: SpeechWriter) -> None:
        for seed in (1, 2):
            segment = await speech.open(16_000)
            await segment.write(noise(2000, seed=seed))
            await segment.end()
            results.append(await segment.wait_finished())

    made, transport, _ = session(Said(say))
    await made.run()
    sound = transport.made[0].sound()[:, 0]
    assert np.array_equal(sound[:2000], noise(2000, seed=1)[:, 0])
    assert not sound[2000:3200].any()
    assert np.array_equal(sound[3200:], noise(2000, seed=2)[:, 0])
    assert [(r.segment, r.samples) for r in results] == [("1", 2000), ("2", 2000)]


async def test_an_empty_segment_finishes_too() -> None:
    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(16_000)
        await segment.end()
        assert (await segment.wait_finished()).samples == 0
        assert await segment.wait_started() is False

    made, transport, _ = session(Said(say))
    await made.run()
    assert transport.made[0].frames == []


async def test_real_time_idles_speaks_and_idles_again(anyio_backend_name: str) -> None:
    times: list[float] = []

    async def say(speech: SpeechWriter) -> None:
        await anyio.sleep(1.0)
        segment = await speech.open(24_000)
        times.append(anyio.current_time())
        await segment.write(noise(24_000))
        await segment.end()
        assert await segment.wait_started()
        times.append(anyio.current_time())
        result = await segment.wait_finished()
        times.append(anyio.current_time())
        assert result.samples == 24_000
        assert not result.interrupted
        await anyio.sleep(0.5)

    made, transport, _ = session(Said(say), pacing=Pacing.REALTIME)
    with anyio.fail_after(10):
        await made.run()
    out = transport.made[0]
    spoken = [i for i, f in enumerate(out.frames) if f.span]
    assert spoken == list(range(spoken[0], spoken[0] + 10))  # one stretch of ten frames
    assert len(out.sound()) == len(out.frames) * 4800  # silence before and after: the sound never stops
    if anyio_backend_name == "trio":  # a clock that nobody disturbs
        assert np.diff(out.times).max() < 0.19
        assert times[1] - times[0] < 0.25  # at 10 pictures a second: no idle frame stands before speech
        assert 0.95 < times[2] - times[1] < 1.25


@pytest.mark.parametrize("after", [0.0, 0.25, 0.75])
async def test_interrupt_finishes_once_with_what_was_heard(after: float, anyio_backend_name: str) -> None:
    results: list[PlaybackFinished] = []

    async def say(speech: SpeechWriter) -> None:
        first = await speech.open(16_000)
        await first.write(noise(8_000))
        if after:
            await first.wait_started()
            await anyio.sleep(after)
        await speech.interrupt()
        await first.write(noise(8_000))  # a late sender: discarded
        results.append(await first.wait_finished())
        await speech.interrupt()
        second = await speech.open(16_000)
        await second.write(noise(1_600, seed=3))
        await second.end()
        results.append(await second.wait_finished())

    made, transport, _renderer = session(Said(say), pacing=Pacing.REALTIME, audio=AudioFormat(16_000))
    await made.run()
    cut, natural = results
    out = transport.made[0]
    assert (natural.samples, natural.interrupted) == (1_600, False)
    if after < 0.5:
        assert cut.interrupted
        assert abs(cut.position - after) < 0.12 or anyio_backend_name != "trio"
        assert cut.samples < 8_000
        presented = sum(f.span.samples for f in out.frames if f.span and f.span.segment == "1")
        # the clock moves between the two readings, hence not equal to the sample
        assert abs(cut.samples - (presented - out.flushed_samples)) < 64 or not presented
    else:
        assert cut.interrupted
        assert cut.samples == 8_000
    assert np.diff(out.times).max() < 0.25 or anyio_backend_name != "trio"


async def test_replace_and_refuse_and_queue() -> None:
    for policy, heard in ((FloorPolicy.QUEUE, 2), (FloorPolicy.REPLACE, 1)):
        results: list[PlaybackFinished] = []

        async def first(speech: SpeechWriter, results: list[PlaybackFinished] = results) -> None:
            segment = await speech.open(16_000)
            await segment.write(noise(8_000))
            await anyio.sleep(0.3)
            await segment.end()
            results.append(await segment.wait_finished())

        async def second(speech: SpeechWriter, results: list[PlaybackFinished] = results) -> None:
            await anyio.sleep(0.1)
            segment = await speech.open(16_000)
            await segment.write(noise(1_600))
            await segment.end()
            results.append(await segment.wait_finished())

        made, _, _ = session(Said(first), Said(second), pacing=Pacing.REALTIME, policy=policy)
        await made.run()
        assert sorted(r.segment for r in results) == ["1", "2"]
        assert sum(not r.interrupted for r in results) == heard


async def test_a_failing_source_ends_the_session_with_its_cause() -> None:
    results: list[PlaybackFinished] = []

    async def bad(speech: SpeechWriter) -> None:
        segment = await speech.open(16_000)
        await segment.write(noise(800))
        raise OSError("the line is dead")

    source = Said(bad)
    made, transport, _ = session(source)
    with pytest.raises(OSError, match="the line is dead"):
        await made.run()
    assert source.closes == 1
    assert isinstance(transport.made[0].error, OSError)
    with pytest.raises(SessionError, match="the line is dead"):
        await made.wait()
    assert results == []


async def test_the_handle_speaks_and_closes() -> None:
    made, transport, _ = session(pacing=Pacing.REALTIME)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        stream = await made.speak(8_000)
        await stream.write(noise(4_000))
        await stream.end()
        assert (await stream.wait_finished()).samples == 4_000
        open_one = await made.speak(8_000)
        await open_one.write(noise(80))
        await made.close()
        assert (await open_one.wait_finished()).interrupted
        await made.wait()
    assert (await made.stats()).state == "closed"
    assert transport.made[0].closes == 1
    assert transport.made[0].error is None


async def test_a_silent_sender_is_ended_and_the_tail_is_not_held_back() -> None:
    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(16_000)
        await segment.write(noise(4_800))
        await anyio.sleep(1.5)
        assert segment.played == 4_800  # the last slices were drawn although nothing more came
        result = await segment.wait_finished()
        assert result.samples == 4_800

    made, _, _ = session(Said(say), pacing=Pacing.REALTIME, audio=AudioFormat(16_000), look_ahead=2)
    with anyio.fail_after(20):
        await made.run()


class SlowRenderer(FakeRenderer):
    """Takes one and a half frame times for a picture."""

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        if any(i.draw for i in inputs):
            time.sleep(0.15)  # a blocking engine, in its own thread
        return super().step(sessions, inputs)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # threads and a real clock: this is about being late
async def test_a_slow_renderer_costs_pictures_but_no_sound(anyio_backend: str) -> None:
    pcm = noise(40_000)

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(16_000)
        await segment.write(pcm)
        await segment.end()
        assert (await segment.wait_finished()).samples == 40_000

    renderer, transport = SlowRenderer(), RecorderTransport(Pacing.REALTIME, AudioFormat(16_000))
    context = SessionContext("slow", SessionRequest())
    made = Session(context, renderer.load(), Batcher(renderer), transport, NoOptions(), [Said(say)])
    token = workers._inline.set(False)
    try:
        with anyio.fail_after(30):
            await made.run()
    finally:
        workers._inline.reset(token)
    out = transport.made[0]
    spoken = np.concatenate([f.audio for f in out.frames if f.span])
    assert np.array_equal(spoken[:40_000], pcm)
    stats = await made.stats()
    assert 0 < stats.dropped_frames < stats.frames
    assert sum(f.video is None for f in out.frames) == stats.dropped_frames


async def test_a_session_in_which_nobody_speaks_is_closed() -> None:
    renderer, transport = FakeRenderer(), RecorderTransport(Pacing.REALTIME)
    context = SessionContext("idle", SessionRequest())
    made = Session(
        context,
        renderer.load(),
        Batcher(renderer),
        transport,
        NoOptions(),
        [],
        limits=SessionLimits(idle_timeout_s=1.0),
    )
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        await anyio.sleep(0.7)
        stream = await made.speak(16_000)
        await stream.write(noise(8_000))
        await stream.end()
        await stream.wait_finished()
        spoken = anyio.current_time()
        await made.wait()
    assert made.reason == "nobody spoke for 1 s"
    assert anyio.current_time() - spoken > 0.8  # counted from the speech, not from the start
    assert anyio.current_time() - began > 2.0
