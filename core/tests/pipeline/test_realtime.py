"""Real time: sound goes out in time whatever the renderer does, idle pictures never stand before speech."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
import numpy as np
import pytest
from visavis.component import NoOptions
from visavis.errors import AvatarError, FloorRefused, RendererError, SessionError
from visavis.interfaces.renderer import LoadedAvatar, RenderInput, RenderSession
from visavis.interfaces.session import PlaybackFinished, SessionContext, SessionLimits, SessionRequest
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat, VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.rendering import Rendering
from visavis.session import Lend, Loan, Session
from visavis.testing.fakes import FakeAvatar, FakeRenderer, Recorder, RecorderTransport

pytestmark = pytest.mark.anyio

RATE = 16_000
FRAME = 640


class Paced(Batcher):
    """A renderer whose steps take as long as ``takes`` says, on whatever clock the loop has."""

    def __init__(self, renderer: FakeRenderer, takes: Callable[[RenderInput], float]) -> None:
        super().__init__(renderer)
        self.takes = takes

    async def step(self, avatar: LoadedAvatar, session: RenderSession, input: RenderInput) -> VideoFrame | None:
        drawn = await super().step(avatar, session, input)
        if (seconds := self.takes(input)) > 0:
            await anyio.sleep(seconds)
        return drawn


class Said(AudioSource):
    def __init__(self, say: Callable[[SpeechWriter], Awaitable[None]]) -> None:
        self.say = say

    async def run(self, speech: SpeechWriter) -> None:
        await self.say(speech)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, 1)).astype(np.float32)


def made(
    *sources: AudioSource,
    takes: Callable[[RenderInput], float] = lambda _: 0.0,
    look_ahead: int = 2,
    limits: SessionLimits | None = None,
    lend: Lend | None = None,
    metrics: MemoryMetrics | None = None,
) -> tuple[Session, RecorderTransport]:
    renderer = FakeRenderer(fps=25, look_ahead=look_ahead)
    transport = RecorderTransport(Pacing.REALTIME, AudioFormat(RATE))
    context = SessionContext("s", SessionRequest(avatar="fake"), metrics or MemoryMetrics())
    session = Session(
        context,
        renderer.load(),
        Paced(renderer, takes),
        transport,
        NoOptions(),
        sources,
        limits=limits,
        lend=lend,
    )
    return session, transport


def spoken(out: Recorder) -> np.ndarray:
    return np.concatenate([f.audio for f in out.frames if f.span] or [np.zeros((0, 1), np.float32)])


def indices(out: Recorder) -> list[int]:
    return [i for i, f in enumerate(out.frames) if f.span]


async def test_sound_does_not_wait_for_a_renderer_that_stands_still(anyio_backend_name: str) -> None:
    pcm = noise(40 * FRAME)
    stuck = {"for": 0.0}

    def takes(given: RenderInput) -> float:
        seconds, stuck["for"] = stuck["for"], 0.0
        return seconds

    async def say(speech: SpeechWriter) -> None:
        await anyio.sleep(0.2)
        segment = await speech.open(RATE)
        await segment.write(pcm[: 20 * FRAME])
        stuck["for"] = 0.6
        await segment.write(pcm[20 * FRAME :])
        await segment.end()
        assert (await segment.wait_finished()).samples == len(pcm)

    session, transport = made(Said(say), takes=takes)
    await session.run()
    out = transport.made[0]
    at = indices(out)
    assert at == list(range(at[0], at[0] + 40))  # no pause inside the utterance
    assert np.array_equal(spoken(out), pcm)
    stats = await session.stats()
    without = [i for i in at if out.frames[i].video is None]
    assert stats.late_frames == stats.dropped_frames == sum(f.video is None for f in out.frames)
    if anyio_backend_name == "trio":  # a clock that nobody disturbs
        assert 5 <= len(without) <= 15  # as long as it stood still, less what was drawn ahead
        assert out.frames[at[-1]].video is not None  # and it has caught up


async def test_pictures_belong_to_their_sound_after_the_renderer_was_late(anyio_backend_name: str) -> None:
    pcm = np.concatenate([np.full((FRAME, 1), 0.02 * (i % 40), np.float32) for i in range(60)])
    turns = {"n": 0}

    def takes(given: RenderInput) -> float:
        turns["n"] += given.pcm is not None
        return 0.15 if turns["n"] in (20, 35) else 0.0

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(pcm)
        await segment.end()
        await segment.wait_finished()

    session, transport = made(Said(say), takes=takes)
    await session.run()
    shown = [(f.audio[0, 0], f.video) for f in transport.made[0].frames if f.span and f.video is not None]
    assert len(shown) > 40 or anyio_backend_name != "trio"
    for level, video in shown:
        assert abs(int(video.data[0, 0]) - int(16 + 200 * float(level))) <= 1


async def test_a_renderer_that_never_answers_costs_no_sound() -> None:
    pcm = noise(150 * FRAME)

    def takes(given: RenderInput) -> float:
        return 100.0 if given.pcm is not None else 0.0

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(pcm)
        await segment.end()
        assert (await segment.wait_finished()).samples == len(pcm)

    session, transport = made(Said(say), takes=takes)
    with anyio.fail_after(20):
        await session.run()
    assert np.array_equal(spoken(transport.made[0]), pcm)


async def test_an_idle_picture_never_stands_before_speech(anyio_backend_name: str) -> None:
    """Speech that is drawn before a deadline is presented at it, although an idle picture was ready."""
    presented: list[int] = []

    async def say(speech: SpeechWriter) -> None:
        for turn in range(5):
            await anyio.sleep(0.2 + 0.007 * turn)
            out = transport.made[0]
            segment = await speech.open(RATE)
            before = len(out.frames)
            await segment.write(noise(10 * FRAME, seed=turn))
            await segment.end()
            await segment.wait_finished()
            presented.append(indices(out)[10 * turn] - before)

    session, transport = made(Said(say))
    await session.run()
    assert (
        max(presented) <= 1 or anyio_backend_name != "trio"
    )  # one frame may be handed over just now; no idle one follows


async def test_speech_that_is_there_first_does_not_wait_for_an_idle_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, written = Rendering.run, anyio.Event()

    async def once_written(self: Rendering) -> None:
        await written.wait()
        await draw(self)

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(noise(5 * FRAME))
        written.set()
        await segment.end()
        await segment.wait_finished()

    monkeypatch.setattr(Rendering, "run", once_written)
    monkeypatch.setattr("visavis.pipeline.pipeline.FIRST_PICTURE", 3600.0)
    session, transport = made(Said(say))
    with anyio.fail_after(60):
        await session.run()
    first = transport.made[0].frames[0]
    assert first.span is not None
    assert first.video is not None


async def test_a_sender_that_pauses_is_not_fed_silence_while_it_has_sound_left() -> None:
    heard: list[float] = []

    class Listens(FakeRenderer):
        def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
            heard.extend(float(np.abs(i.pcm).max()) for i in inputs if i.pcm is not None)
            return super().step(sessions, inputs)

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(noise(20 * FRAME))
        await anyio.sleep(1.5)  # all is written; it is not ended yet
        await segment.end()
        await segment.wait_finished()

    renderer = Listens(fps=25, look_ahead=2)
    transport = RecorderTransport(Pacing.REALTIME, AudioFormat(RATE))
    context = SessionContext("s", SessionRequest())
    session = Session(context, renderer.load(), Batcher(renderer), transport, NoOptions(), [Said(say)])
    await session.run()
    assert all(level > 0 for level in heard[:20])  # no silence stands between the slices
    assert heard.count(0.0) == 2  # the look-ahead at the end, once


@pytest.mark.parametrize("when", ["unwritten", "unheard", "first", "last", "twice", "stalled", "late"])
async def test_interrupts_at_every_moment(when: str, anyio_backend_name: str) -> None:
    results: list[PlaybackFinished] = []

    async def say(speech: SpeechWriter) -> None:
        await anyio.sleep(0.1)
        first = await speech.open(RATE)
        if when != "unwritten":
            await first.write(noise(12 * FRAME))
        if when == "last":
            await first.end()
        if when in ("first", "twice", "last", "late"):
            await first.wait_started()
        if when == "last":
            assert session._pipeline is not None
            while first.played < 11 * FRAME:  # type: ignore[attr-defined]
                await session._pipeline.floor.change.wait()
        if when == "stalled":
            await anyio.sleep(1.0)
        async with anyio.create_task_group() as tasks:
            for _ in range(2 if when == "twice" else 1):
                tasks.start_soon(speech.interrupt)
        assert first.over  # type: ignore[attr-defined]  # finished when interrupt returns
        await first.write(noise(9))
        results.append(await first.wait_finished())
        second = await speech.open(RATE)
        await second.write(noise(5 * FRAME, seed=2))
        await second.end()
        results.append(await second.wait_finished())

    session, transport = made(Said(say), takes=lambda _: 0.03 if when == "late" else 0.0)
    finished: list[str] = []
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        assert session._pipeline is not None
        tell = session._pipeline.floor.on_finished
        assert tell is not None

        def note(result: PlaybackFinished) -> None:
            finished.append(result.segment)
            tell(result)

        session._pipeline.floor.on_finished = note
    cut, natural = results
    assert finished == ["1", "2"]
    assert (natural.samples, natural.interrupted) == (5 * FRAME, False)
    if when == "last" and not cut.interrupted:  # on a real clock it may have come to its end just before
        assert (anyio_backend_name, cut.samples) == ("asyncio", 12 * FRAME)
    else:
        assert cut.interrupted
        wanted = {"unwritten": 0, "unheard": 0, "stalled": 12 * FRAME}
        least = 11 * FRAME if when == "last" else 0
        assert cut.samples == wanted[when] if when in wanted else least <= cut.samples <= 12 * FRAME
    out = transport.made[0]
    after = [f for f in out.frames if f.span and f.span.segment == "2"]
    assert np.array_equal(np.concatenate([f.audio for f in after]), noise(5 * FRAME, seed=2))
    if anyio_backend_name == "trio":  # the clock goes on: one frame each 40 ms, however often somebody cuts in
        assert len(out.frames) == pytest.approx((out.times[-1] - out.times[0]) * 25 + 1, abs=3)


async def test_an_interrupt_tells_the_renderer_how_many_pictures_were_not_shown(anyio_backend_name: str) -> None:
    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(noise(30 * FRAME))
        await segment.wait_started()
        await anyio.sleep(0.3)
        await speech.interrupt()
        await anyio.sleep(0.3)

    session, transport = made(Said(say))
    avatar = session._loan.avatar
    assert isinstance(avatar, FakeAvatar)
    await session.run()
    (face,) = avatar.sessions
    assert face.rewound > 0
    if anyio_backend_name == "trio":  # on a real clock a picture may come too late to be shown, too
        numbers = [(f.epoch, int(f.video.data[16, 0])) for f in transport.made[0].frames if f.video is not None]
        last = max(number for epoch, number in numbers if epoch == 0)
        first = min(number for epoch, number in numbers if epoch == 1)
        assert face.rewound == first - last - 1


async def test_a_segment_left_open_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = MemoryMetrics()

    async def say(speech: SpeechWriter) -> None:
        segment = await speech.open(RATE)
        await segment.write(noise(5 * FRAME))
        await anyio.sleep(5)
        await segment.end()
        await segment.wait_finished()

    session, _ = made(Said(say), metrics=metrics)
    with caplog.at_level(logging.WARNING, "visavis.pipeline"):
        await session.run()
    assert metrics.total("visavis_segments_overdue_total") == 1
    assert [r.message for r in caplog.records if "over its own duration" in r.message]
    assert metrics.total("visavis_frames_total") == (await session.stats()).frames


# -- how it ends


async def test_the_maximum_duration_is_announced_and_lets_the_segment_finish() -> None:
    session, transport = made(limits=SessionLimits(max_duration_s=2.0, idle_timeout_s=60))
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        assert session.limits.max_duration_s == 2.0
        await anyio.sleep(1.5)
        segment = await session.speak(RATE)
        tasks.start_soon(segment.write, noise(30 * FRAME))
        await anyio.sleep(1.0)
        with pytest.raises(FloorRefused, match="maximum duration"):
            await session.speak(RATE)
        await segment.end()
        result = await segment.wait_finished()
        assert (result.samples, result.interrupted) == (30 * FRAME, False)
        await session.wait()
    out = transport.made[0]
    assert out.announced[0] == {
        "state": "ending",
        "ends_in_s": "2",
        "reason": "its maximum duration of 2 s is reached",
    }
    assert out.announced[-1] == {"state": "closing", "reason": "its maximum duration of 2 s is reached"}
    assert out.context is not None
    assert out.context.reason == session.reason == (await session.stats()).reason


async def test_a_far_end_that_cannot_be_told_does_not_keep_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visavis.session.FAREWELL_SECONDS", 0.1)
    calls: list[dict[str, str]] = []

    async def hangs(self: Recorder, **facts: str) -> None:
        calls.append(facts)
        if facts["state"] == "ending":
            raise ValueError("no")
        await anyio.sleep_forever()

    monkeypatch.setattr(Recorder, "announce", hangs)
    session, transport = made(limits=SessionLimits(max_duration_s=0.3))
    with anyio.fail_after(20):
        await session.run()
    assert [facts["state"] for facts in calls] == ["ending", "closing"]
    assert transport.made[0].closes == 1


async def test_a_segment_that_never_ends_does_not_keep_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visavis.session.FINISHING_SECONDS", 0.5)
    session, _ = made()
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        segment = await session.speak(RATE)
        await segment.write(noise(FRAME))
        await session.close("enough", finish=True)
        assert (await segment.wait_finished()).interrupted
        await session.wait()
    assert session.reason == "enough"


async def test_presence_holds_off_the_idle_timeout() -> None:
    session, _ = made(limits=SessionLimits(idle_timeout_s=0.5))
    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        await tasks.start(session.run)
        for _ in range(4):
            await anyio.sleep(0.3)
            session.context.sign_of_life()
        await session.wait()
        assert anyio.current_time() - began > 1.6
    assert session.reason == "nobody spoke for 0.5 s"


async def test_a_failure_says_why_before_the_parts_are_closed() -> None:
    async def fails(speech: SpeechWriter) -> None:
        raise RendererError("the device is gone", hint="look")

    async def leaks(speech: SpeechWriter) -> None:
        raise ValueError("token=secret")

    for say, reason in ((fails, "the device is gone"), (leaks, "it failed: ValueError")):
        session, transport = made(Said(say))
        with pytest.raises((RendererError, ValueError)):
            await session.run()
        assert session.reason == reason
        assert transport.made[0].announced == [{"state": "closing", "reason": reason}]
        with pytest.raises(SessionError):
            await session.wait()


# -- swap


def lender(avatars: dict[str, LoadedAvatar], lent: list[str], given_back: list[str]) -> Lend:
    async def lend(name: str) -> Loan:
        if name not in avatars:
            raise AvatarError(f"there is no avatar {name}")
        await anyio.sleep(0.05)
        lent.append(name)
        return Loan(avatars[name], lambda: given_back.append(name))

    return lend


async def test_swap_keeps_tracks_and_speech() -> None:
    pcm = noise(50 * FRAME)
    other, large = FakeRenderer(fps=25, look_ahead=0).load(), FakeRenderer(fps=10).load()
    given_back: list[str] = []
    session, transport = made(lend=lender({"other": other, "large": large}, [], given_back))
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        segment = await session.speak(RATE)
        tasks.start_soon(segment.write, pcm)
        await anyio.sleep(0.8)
        with pytest.raises(AvatarError, match="there is no avatar"):
            await session.swap("nobody")
        with pytest.raises(AvatarError, match="16x16 at 10 pictures a second, but this session shows 16x16 at 25"):
            await session.swap("large")
        assert given_back == ["large"]
        first = session._loan.avatar
        await session.swap("other")
        assert isinstance(first, FakeAvatar)
        assert first.sessions[0].closed
        assert (await session.stats()).avatar == "other"
        await anyio.sleep(1.0)
        await segment.end()
        assert (await segment.wait_finished()).samples == len(pcm)
        await session.close()
    session.release()
    assert given_back == ["large", "other"]
    out = transport.made[0]
    at = indices(out)
    assert at == list(range(at[0], at[0] + 50))
    assert np.array_equal(spoken(out), pcm)
    assert other.sessions[0].drawn > 10
    assert other.sessions[0].closed


async def test_a_swap_that_is_cancelled_leaves_one_of_the_two() -> None:
    for delay in (0.0, 0.04, 0.05, 0.055, 0.06, 0.1):
        lent: list[str] = []
        given_back: list[str] = []
        other = FakeRenderer(fps=25).load()
        session, _ = made(lend=lender({"other": other}, lent, given_back), takes=lambda _: 0.01)
        async with anyio.create_task_group() as tasks:
            await tasks.start(session.run)
            with anyio.move_on_after(delay):
                await session.swap("other")
            shows = (await session.stats()).avatar
            assert session._loan.avatar is other if shows == "other" else given_back == lent
            await anyio.sleep(0.2)
            await session.close()
        session.release()
        assert given_back == lent
        assert all(s.closed for s in other.sessions)
