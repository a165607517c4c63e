"""Whatever happens in whatever order: every segment that began finishes exactly once, in order."""

from __future__ import annotations

from fractions import Fraction

import anyio
import numpy as np
import pytest
import trio.testing
from anyio.abc import TaskStatus
from hypothesis import given, settings
from hypothesis import strategies as st
from visavis import workers
from visavis.component import NoOptions
from visavis.errors import FloorRefused, SessionError
from visavis.interfaces.renderer import LoadedAvatar, RenderInput, RenderSession
from visavis.interfaces.session import PlaybackFinished, SessionContext, SessionRequest, SpeechStream
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat, VideoFrame, frames_covering, samples_before, samples_of_frame
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.slicer import FrameCounter, Slicer
from visavis.session import Loan, Session, single
from visavis.testing.fakes import FakeRenderer, RecorderTransport

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 1)),
        st.tuples(st.just("write"), st.integers(1, 9_000)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("sleep"), st.integers(1, 900)),
        st.tuples(st.just("interrupt"), st.just(0)),
        st.tuples(st.just("interrupt twice"), st.just(0)),
        st.tuples(st.just("stall"), st.integers(9_000, 13_000)),
        st.tuples(st.just("swap"), st.just(0)),
        st.tuples(st.just("render late"), st.integers(1, 700)),
        st.tuples(st.just("finish"), st.just(0)),
        st.tuples(st.just("leave"), st.just(0)),
        st.tuples(st.just("die"), st.just(0)),
    ),
    max_size=16,
)


class Late(Batcher):
    """A renderer that is late when it is told to be."""

    late = 0.0

    async def step(self, avatar: LoadedAvatar, session: RenderSession, input: RenderInput) -> VideoFrame | None:
        late, self.late = self.late, 0.0
        await anyio.sleep(late)
        return await super().step(avatar, session, input)


class Dies(AudioSource):
    """Fails when it is told to."""

    def __init__(self) -> None:
        self.now = anyio.Event()

    async def run(self, speech: SpeechWriter) -> None:
        await self.now.wait()
        raise OSError("the line is dead")


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, pacing=st.sampled_from(list(Pacing)))
def test_every_begun_segment_finishes_exactly_once(steps: list[tuple[str, int]], pacing: Pacing) -> None:
    begun: list[str] = []
    finished: list[PlaybackFinished] = []
    streams: list[SpeechStream] = []

    async def lend(name: str) -> Loan:
        return Loan(FakeRenderer().load(), lambda: None)

    async def main() -> None:
        renderer, source = FakeRenderer(), Dies()
        transport, batcher = RecorderTransport(pacing), Late(renderer)
        context = SessionContext("p", SessionRequest())
        session = Session(context, renderer.load(), batcher, transport, NoOptions(), [source], lend=lend)
        async with anyio.create_task_group() as tasks:

            async def run(*, task_status: TaskStatus[None]) -> None:
                try:
                    await session.run(task_status=task_status)
                except OSError:
                    # The first reason stands.
                    assert session.reason in ("it failed: OSError", "enough", "the far end is gone")

            await tasks.start(run)
            assert session._pipeline is not None
            tell = session._pipeline.floor.on_finished
            assert tell is not None

            def note(result: PlaybackFinished) -> None:
                finished.append(result)
                tell(result)

            session._pipeline.floor.on_finished = note
            try:
                for what, number in steps:
                    try:
                        await step(session, batcher, what, number)
                    except BaseExceptionGroup as group:
                        raise single(group) from None
                    if what == "leave":
                        transport.made[0].far_end_gone.set()
                    elif what == "die":
                        source.now.set()
                await anyio.sleep(0.3)
            except (FloorRefused, SessionError):
                # Nobody may speak, cut in or change the avatar once the end has begun: what was begun still finishes.
                assert {"finish", "leave", "die"} & {what for what, _ in steps}
            await session.close()
            await session._ended.wait()
            results = [await stream.wait_finished() for stream in streams]
            assert results == finished

    async def step(session: Session, batcher: Late, what: str, number: int) -> None:
        if what == "open":
            streams.append(await session.speak(16_000))
            begun.append(streams[-1].id)
        elif what == "write" and streams:
            await streams[-1].write(np.full(number, 0.1, np.float32))
        elif what == "end" and streams:
            await streams[-1].end()
        elif what in ("sleep", "stall"):
            await anyio.sleep(number / 1000)
        elif what.startswith("interrupt"):
            async with anyio.create_task_group() as tasks:
                for _ in range(1 + what.endswith("twice")):
                    tasks.start_soon(session.interrupt)
        elif what == "swap":
            with anyio.move_on_after(5):
                await session.swap("other")
        elif what == "render late":
            batcher.late = number / 1000
        elif what == "finish":
            await session.close("enough", finish=True)

    with workers.inline():
        anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})
    assert [f.segment for f in finished] == begun
    for result in finished:
        assert result.samples >= 0


@given(
    st.integers(4_000, 96_000),
    st.fractions(min_value=1, max_value=60, max_denominator=1001),
    st.integers(0, 5_000),
)
def test_slots_add_up(rate: int, fps: Fraction, frames: int) -> None:
    total = sum(samples_of_frame(i, rate, fps) for i in range(frames % 50))
    assert total == samples_before(frames % 50, rate, fps)
    samples = frames * 7
    covering = frames_covering(samples, rate, fps)
    assert samples_before(covering, rate, fps) >= samples
    assert covering == 0 or samples_before(covering - 1, rate, fps) < samples


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
    st.integers(1, 3),
    st.integers(1, 30_000),
    st.lists(st.integers(1, 4_000), min_size=1, max_size=5),
)
def test_slices_do_not_depend_on_the_writes(rate: int, channels: int, total: int, sizes: list[int]) -> None:
    pcm = np.random.default_rng(total).uniform(-1, 1, (total, channels)).astype(np.float32)

    def cut(sizes: list[int]) -> tuple[np.ndarray, np.ndarray, int]:
        source = AudioFormat(rate, channels)
        slicer = Slicer(source, source, 16_000, 1_600)
        counter = FrameCounter(rate, Fraction(10))
        audio, ear, spanned, at, turn = [], [], 0, 0, 0
        while not slicer.exhausted:
            if at < total:
                size = sizes[turn % len(sizes)]
                slicer.feed(pcm[at : at + size])
                at, turn = at + size, turn + 1
            else:
                slicer.end()
            while slicer.ready(counter.peek()):
                piece = slicer.take(counter.next())
                audio.append(piece.audio)
                ear.append(piece.ear)
                spanned += piece.source_samples
        return np.concatenate(audio), np.concatenate(ear), spanned

    audio, ear, spanned = cut(sizes)
    whole, whole_ear, _ = cut([total])
    assert np.array_equal(audio, pcm)
    assert np.array_equal(whole, pcm)
    assert np.array_equal(ear, whole_ear)
    assert spanned == total


@pytest.mark.anyio
async def test_sessions_that_fall_due_together_share_a_step() -> None:
    renderer = FakeRenderer()
    avatar, batcher = renderer.load(), Batcher(renderer)
    sessions = [avatar.open() for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(batcher.step, avatar, session, RenderInput(None))
    assert sum(renderer.batches) == 5
    assert len(renderer.batches) <= 2
