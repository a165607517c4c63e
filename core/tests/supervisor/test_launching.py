"""The launcher takes on what it can, loses no slot however a start fails, and forgets what has ended."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from visavis import workers
from visavis.component import ComponentConfig, NoOptions
from visavis.config import Deployment, Limits, Part
from visavis.errors import AtCapacity, AvatarNotFound, ConfigError, SessionError, TransportError, VisavisError
from visavis.interfaces.avatar import AvatarEntry, AvatarStore
from visavis.interfaces.session import SessionContext, SessionLimits, SessionRequest
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat, VideoFormat
from visavis.metrics import MemoryMetrics
from visavis.pipeline.cost import StepCost
from visavis.pipeline.tally import Tally
from visavis.plugins import AudioSourcePlugin, AvatarStorePlugin, Kind, RendererPlugin, TransportPlugin
from visavis.registry import Origin
from visavis.supervisor import LocalLauncher
from visavis.supervisor.admission import Admission
from visavis.testing.fakes import FakeAvatar, FakeRenderer, Recorder, RecorderTransport

STAGES = ["store", "load", "make", "prepare", "source prepare", "open", "joined", "publish", "run", "present", "aclose"]


class Trouble:
    """Where the next session fails or takes its time."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.slow: dict[str, float] = {}

    async def at(self, stage: str) -> None:
        if (seconds := self.slow.get(stage)) is not None:
            await anyio.sleep(seconds)
        self.now(stage)

    def now(self, stage: str) -> None:
        if stage in self.fails:
            raise TransportError(f"trouble at {stage}")


class Options(ComponentConfig):
    room: str = "r"
    """A room."""


class Stage:
    """A deployment of fakes that fail where they are told to."""

    def __init__(self, **limits: Any) -> None:
        self.trouble = Trouble()
        self.transport = Rooms(self.trouble)
        self.sources: list[Talks] = []
        self.opened: list[str] = []
        renderer = Loads(self.trouble)
        records: dict[Kind, Any] = {
            Kind.STORE: AvatarStorePlugin(name="s", summary="", factory=lambda config: Shelf(self)),
            Kind.SOURCE: AudioSourcePlugin(name="a", summary="", session=Options, factory=self._source),
            Kind.RENDERER: RendererPlugin(name="r", summary="", factory=lambda config: renderer),
            Kind.TRANSPORT: TransportPlugin(
                name="t", summary="", session=Options, factory=lambda config: self.transport
            ),
        }
        parts = {k.value: Part(k, v.name, v, NoOptions(), Origin("d", "1", "e")) for k, v in records.items()}
        prewarm = limits.pop("prewarm", ())
        self.deployment = Deployment(**parts, limits=Limits(**limits), prewarm=prewarm)

    def _source(self, config: object, options: object) -> AudioSource:
        self.trouble.now("make")
        self.sources.append(Talks(self.trouble))
        return self.sources[-1]


class Shelf(AvatarStore):
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def list(self) -> list[AvatarEntry]:
        return []

    async def open(self, avatar_id: str) -> Any:
        self.stage.opened.append(avatar_id)
        await self.stage.trouble.at("store")
        if avatar_id == "nobody":
            raise AvatarNotFound("there is no avatar nobody")

        @contextmanager
        def opened() -> Any:
            yield SimpleNamespace(manifest=SimpleNamespace(engine="graphs/1"), digest=avatar_id)

        return opened()


class Loads(FakeRenderer):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(fps=25)
        self.trouble = trouble

    def load(self, avatar: Any = None) -> FakeAvatar:
        self.trouble.now("load")
        return FakeAvatar(self._render)


class Talks(AudioSource):
    def __init__(self, trouble: Trouble) -> None:
        self.trouble, self.closes = trouble, 0
        self.steps: list[str] = []

    async def prepare(self, context: SessionContext) -> None:
        await self.trouble.at("source prepare")

    async def joined(self, context: SessionContext) -> None:
        await self.trouble.at("joined")

    async def run(self, speech: SpeechWriter) -> None:
        await self.trouble.at("run")
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closes += 1
        await self.trouble.at("aclose")


class Room(Recorder):
    trouble: Trouble

    async def open(self, context: SessionContext) -> None:
        await super().open(context)
        await self.trouble.at("open")

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        await self.trouble.at("publish")
        await super().publish(video, audio)

    async def present(self, frame: Any) -> None:
        self.trouble.now("present")
        await super().present(frame)


class Rooms(RecorderTransport):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(Pacing.REALTIME, AudioFormat(16_000))
        self.trouble = trouble

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> Recorder:
        await self.trouble.at("prepare")
        made = Room(Pacing.REALTIME, AudioFormat(16_000))
        made.trouble = self.trouble
        self.made.append(made)
        return made


async def settled(launcher: LocalLauncher, running: int = 0) -> None:
    """Wait until so many sessions run."""
    with anyio.fail_after(20):
        while len(await launcher.sessions()) != running:  # noqa: ASYNC110 - a count is polled, no event tells of it
            await anyio.sleep(0.01)


def nothing_left(stage: Stage, launcher: LocalLauncher) -> None:
    assert all(v.users == 0 for v in launcher.supervisor._avatars.values())
    assert all(source.closes for source in stage.sources)
    assert all(room.closes for room in stage.transport.made)
    for loaded in launcher.supervisor._avatars.values():
        assert isinstance(loaded.avatar, FakeAvatar)
        assert all(session.closed for session in loaded.avatar.sessions)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "fail", "cancel", "fail and cancel"]),
        st.sampled_from(STAGES),
        st.floats(0.0, 0.5),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, backend=st.sampled_from(["trio", "trio", "trio", "asyncio"]))
def test_no_slot_is_lost_however_a_start_fails(events: list[tuple[str, str, float]], backend: str) -> None:
    async def one(stage: Stage, launcher: LocalLauncher, what: str, where: str, seconds: float) -> None:
        stage.trouble.fails = {where} if "fail" in what else set()
        stage.trouble.slow = {where: 0.02 if backend == "asyncio" else 0.25}
        with anyio.move_on_after(seconds / (10 if backend == "asyncio" else 1) if "cancel" in what else 100):
            try:
                handle = await launcher.start(SessionRequest(avatar=f"a-{where}"))
            except VisavisError:
                assert "fail" in what
            else:
                try:
                    await anyio.sleep(0.02)
                finally:
                    await handle.close("the test ends")
        stage.trouble.slow = {}
        await settled(launcher)
        capacity = await launcher.capacity()
        assert (capacity.running, capacity.starting, capacity.problem) == (0, 0, None)
        nothing_left(stage, launcher)

    async def main() -> None:
        stage = Stage(max_sessions=2)
        async with LocalLauncher(stage.deployment) as launcher:
            for event in events:
                await one(stage, launcher, *event)
            stage.trouble.fails = set()
            handles = [await launcher.start(SessionRequest()) for _ in range(2)]
            with pytest.raises(AtCapacity, match="all 2 sessions are taken") as caught:
                await launcher.start(SessionRequest())
            assert caught.value.retry_after > 0
            await handles[0].close("enough")
            await handles[0].wait()
            await settled(launcher, 1)
            await launcher.start(SessionRequest())

    options = {"clock": trio.testing.MockClock(autojump_threshold=0)} if backend == "trio" else {}
    with workers.inline():
        anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.anyio
async def test_a_thousand_sessions_leave_nothing() -> None:
    stage = Stage(max_sessions=3)
    ids: set[str] = set()
    async with LocalLauncher(stage.deployment) as launcher:
        for n in range(1000):
            stage.trouble.fails = {"open"} if n % 5 == 4 else set()
            if n % 5 == 4:
                with pytest.raises(TransportError):
                    await launcher.start(SessionRequest())
                continue
            handle = await launcher.start(SessionRequest())
            ids.add(handle.id)
            await handle.close()
            await handle.wait()
            stage.sources.clear()
            stage.transport.made.clear()
        await settled(launcher)
        assert not launcher._sessions
        assert not launcher._starts
        assert len(ids) == 800
        assert all(len(one) >= 16 for one in ids)  # hexadecimal: 64 bits or more
        loaded = next(iter(launcher.supervisor._avatars.values()))
        assert loaded.users == 0


@pytest.mark.anyio
async def test_options_are_checked_before_anything_is_loaded() -> None:
    stage = Stage()
    async with LocalLauncher(stage.deployment) as launcher:
        for section in ("transport", "source", "renderer"):
            with pytest.raises(ConfigError):
                await launcher.start(SessionRequest(**{section: {"nope": 1}}))  # type: ignore[arg-type]
        assert stage.opened == []
        with pytest.raises(AvatarNotFound):
            await launcher.start(SessionRequest(avatar="nobody"))
        assert stage.transport.made == []


@pytest.mark.anyio
async def test_full_means_nothing_is_joined() -> None:
    stage, metrics = Stage(max_sessions=1), MemoryMetrics()
    async with LocalLauncher(stage.deployment, metrics=metrics) as launcher:
        stage.trouble.slow = {"open": 0.2}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.start, SessionRequest())
            await anyio.sleep(0.1)
            capacity = await launcher.capacity()
            assert (capacity.running, capacity.starting, capacity.most) == (0, 1, 1)
            with pytest.raises(AtCapacity):
                await launcher.start(SessionRequest())
        assert len(stage.transport.made) == 1
        assert metrics.total("visavis_sessions_refused_total") == 1
        assert metrics.gauges[metrics.key("visavis_sessions")] == 1


@pytest.mark.anyio
async def test_leaving_ends_what_runs_and_what_is_starting() -> None:
    stage = Stage()
    caught: list[VisavisError] = []

    async def starting(launcher: LocalLauncher) -> None:
        try:
            await launcher.start(SessionRequest())
        except VisavisError as error:
            caught.append(error)

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            async with LocalLauncher(stage.deployment) as launcher:
                handle = await launcher.start(SessionRequest())
                stage.trouble.slow = {"open": 60.0}
                tasks.start_soon(starting, launcher)
                await anyio.sleep(0.1)
            with pytest.raises(SessionError):
                await launcher.start(SessionRequest())
    await handle.wait()
    assert (await handle.stats()).reason == "the server stops"
    assert len(caught) == 1
    nothing_left(stage, launcher)


@pytest.mark.anyio
async def test_resources_stand_in_the_context_from_the_start() -> None:
    stage = Stage()
    seen: list[object] = []

    class Looks(Talks):
        async def prepare(self, context: SessionContext) -> None:
            seen.append(context.resource(list))

    async with LocalLauncher(stage.deployment) as launcher:
        given = ["a room"]
        stage._source = lambda config, options: Looks(stage.trouble)  # type: ignore[method-assign]
        record = stage.deployment.source.record
        object.__setattr__(record, "factory", lambda config, options: Looks(stage.trouble))
        async with launcher.supervisor.session(SessionRequest(), resources={list: given}) as session:
            async with anyio.create_task_group() as tasks:
                await tasks.start(session.run)
                await session.close()
    assert seen == [given]


@pytest.mark.anyio
async def test_limits_are_the_smaller_ones_and_swap_loads_through_the_supervisor() -> None:
    stage = Stage(idle_timeout_s=None, max_duration_s=100, prewarm=("mira", "nobody"))
    async with LocalLauncher(stage.deployment) as launcher:
        assert stage.opened == ["mira", "nobody"]  # the one that is not there stops nobody
        handle = await launcher.start(SessionRequest(limits=SessionLimits(idle_timeout_s=7, max_duration_s=200)))
        assert handle.limits == SessionLimits(idle_timeout_s=7, max_duration_s=100)

        def users() -> dict[str, int]:
            return {k: v.users for k, v in launcher.supervisor._avatars.items()}

        assert users() == {"mira": 2}
        await handle.swap("leo")
        assert users() == {"mira": 1, "leo": 1}
        with pytest.raises(AvatarNotFound):
            await handle.swap("nobody")
        assert (await handle.stats()).avatar == "leo"
        await handle.close()
        await handle.wait()
        await settled(launcher)
        assert users() == {"mira": 1, "leo": 0}


# -- admission


def cost(busy: float, used: float | None = None) -> StepCost:
    made = StepCost()
    for _ in range(9):
        made.busy.note(busy, 1, 0)
        made.used.note(busy if used is None else used, 1, 0)
    return made


def test_auto_reckons_with_what_was_measured() -> None:
    tally = Tally()
    assert Admission("auto", StepCost(), tally, cores=4).most is None
    assert Admission("auto", cost(0.0045), tally, cores=1).most == 3  # 0.9 / (25 * 4.5 ms + 0.12)
    assert Admission("auto", cost(0.0045), tally, cores=2).most == 7  # the renderer draws for one after the other
    assert Admission("auto", cost(0.0045), tally, cores=16).most == 7
    assert Admission("auto", cost(0.2), tally, cores=16).most == 1
    assert Admission(5, cost(0.2), tally, cores=1).most == 5
    assert Admission(5, cost(0.0045), tally, cores=2).capacity(0, 0, 0.0).reckoned == 7  # beside the fixed number
    # A call of 4 ms that waits for a device uses little of the processor: 0.9 / (25 * 1 ms + 0.12)
    assert Admission("auto", cost(0.004, 0.001), tally, cores=1).most == 6
    full = Admission("auto", cost(0.0045), tally, cores=1).capacity(2, 1, 0.0)
    assert (full.problem, full.most) == ("all 3 sessions are taken", 3)


def test_a_call_for_several_counts_as_what_it_saves() -> None:
    batched = StepCost()
    for _ in range(9):
        batched.busy.note(0.010, 4, 0)
        batched.used.note(0.010, 4, 0)
    assert batched.busy.talking == pytest.approx(0.0025)
    assert Admission("auto", batched, Tally(), cores=4).most == 12  # four calls of one would allow 3
    mixed = StepCost()
    mixed.busy.note(0.003, 0, 3)
    mixed.busy.note(0.008, 1, 3)  # the idle ones in it are not the talking one's
    assert (mixed.busy.idle, mixed.busy.talking) == (pytest.approx(0.001), pytest.approx(0.005))


def test_late_frames_close_the_door_for_a_while() -> None:
    tally = Tally()
    admission, fixed = Admission("auto", cost(0.001), tally, cores=2), Admission(50, cost(0.001), tally)
    for n in range(250):
        tally.add(n / 25, late=n % 8 == 0)
    assert tally.recent(9.9) == (250, 32)
    said = admission.capacity(1, 0, 9.9)
    assert said.problem == "12.8 % of the frames of the last ten seconds were late"
    assert said.retry_after > 5
    assert fixed.capacity(1, 0, 9.9).problem is None
    assert admission.capacity(0, 0, 9.9).problem is None  # whose frames would be late?
    for n in range(250, 500):
        tally.add(n / 25, late=False)
    assert tally.recent(19.9) == (250, 0)
    assert admission.capacity(1, 0, 19.9).problem is None
    assert tally.recent(100.0) == (0, 0)


@pytest.mark.anyio
async def test_auto_knows_the_cost_before_the_second_session() -> None:
    stage = Stage()
    async with LocalLauncher(stage.deployment) as launcher:
        assert (await launcher.capacity()).most is None
        await launcher.start(SessionRequest())
        assert (await launcher.capacity()).most is not None
