"""The whole measurement: its floor, the ramp, and what sessions cost in which nobody speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from visavis.capacity.crowd import Crowd, Speech, gathered
from visavis.capacity.machine import Account, account
from visavis.capacity.ramp import Ramp
from visavis.capacity.step import Bounds, Step
from visavis.capacity.verdict import Verdict, verdict
from visavis.config import Deployment, Part
from visavis.errors import PluginError, SessionError
from visavis.interfaces.audience import Audience
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.session import SessionStats
from visavis.measuring import READY_FRAMES, ready_renderer
from visavis.metrics import MemoryMetrics
from visavis.supervisor import LocalLauncher, Supervisor, pictures, processors

WARM_UP: Final = 4.0
"""Seconds of talk before a step is measured: buffers, encoders and estimates of bandwidth have settled."""
IDLE_SECONDS: Final = 10.0
LEAST: Final = 0.001
"""Seconds: a session may end before anything was measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and how thoroughly."""

    avatar: str
    speech: Speech
    seconds: float = 20.0
    """How long a step is measured."""
    most: int = 64
    """Sessions that are tried at most."""
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One session that shows pictures drawn before, in this process: cores talking and idle."""

    talking: float
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found."""

    steps: list[Step]
    held: Step | None
    """The step of most sessions that was without trouble; None if one is too many."""
    burst: Step | None
    verdict: Verdict
    machine: int
    """The cores of this machine that may be used."""
    floor: Floor
    idle: float | None
    """Cores a session in which nobody speaks, with as many as are held."""
    memory_first: int | None
    """Bytes that the first session added: the avatar's weights, and itself."""
    memory_each: int | None
    """Bytes that each further session added; None where there was none."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        held = self.held
        return {
            "sessions": held.sessions if held else 0,
            "limit": {"stage": self.verdict.stage.value, "said": self.verdict.said},
            "admission": held.admitted if held else None,
            "machine_cores": self.machine,
            "idle_cores_each": self.idle,
            "memory_first": self.memory_first,
            "memory_each": self.memory_each,
            "floor": {"talking_cores": self.floor.talking, "idle_cores": self.floor.idle},
            "steps": [step.as_dict() for step in self.steps],
        }


Tell = Callable[[str, Step | None], None]
"""Hears what is being done, and of each step that was measured."""


async def measure_capacity(
    deployment: Deployment, plan: Plan, *, tell: Tell = lambda said, step: None, read: Account | None = None
) -> Findings:
    """Find how many sessions the deployment's launcher holds here.

    Raises PluginError for a transport without an audience or a launcher that is missing, and what its parts raise.
    """
    if deployment.launcher is None:
        raise PluginError("this deployment has no launcher", hint="add a section `launcher:`")
    read = read or account()
    audience = audience_of(deployment.transport)
    lifted = _lifted(deployment, plan)
    async with audience:
        tell("the floor: a session of ready pictures", None)
        floor = await _floor(lifted, plan, audience, read)
        metrics = MemoryMetrics()
        tell(f"starting the launcher {deployment.launcher.name}", None)
        async with deployment.launcher.make(lifted, metrics) as launcher:
            return await _climb(launcher, audience, plan, floor, _Meter(read, metrics), tell)


def audience_of(transport: Part) -> Audience:
    """The audience of a deployment's transport. Raises PluginError if it has none, and what its factory raises."""
    make = transport.record.audience
    if make is None:
        raise PluginError(
            f"the transport {transport.name!r} has no rooms in which sessions could be watched",
            hint='take one that has: `pip install "visavis[livekit]"`, and `transport: {use: livekit}`',
        )
    audience: Audience = make(transport.config)
    return audience


def _lifted(deployment: Deployment, plan: Plan) -> Deployment:
    """The deployment as it is, less the limits that would end the bench: a fixed number of sessions stays."""
    limits = deployment.limits
    most = plan.most if limits.max_sessions == "auto" else limits.max_sessions
    changed = {"max_sessions": most, "idle_timeout_s": None, "max_duration_s": None}
    return replace(deployment, limits=limits.model_copy(update=changed), prewarm=())


class _Meter:
    """Measures a crowd for a while."""

    def __init__(self, read: Account, metrics: MemoryMetrics) -> None:
        self._read, self._metrics = read, metrics

    def memory(self, crowd: Crowd) -> int:
        """Bytes that the server has for itself now."""
        return self._read(crowd.strangers).memory

    async def cores(self, crowd: Crowd, seconds: float) -> float:
        """What the server spends."""
        began, before = anyio.current_time(), self._read(crowd.strangers)
        await anyio.sleep(seconds)
        after, ended = self._read(crowd.strangers), anyio.current_time()
        return (after.server - before.server) / (ended - began)

    async def step(self, crowd: Crowd, seconds: float) -> Step:
        """All of it."""
        stats, told = await crowd.stats(), self._told()
        await crowd.begin()
        began, before = anyio.current_time(), self._read(crowd.strangers)
        with anyio.move_on_after(seconds):
            while not crowd.ended:  # noqa: ASYNC110 - it is looked for, not told
                await anyio.sleep(0.25)
        after, took = self._read(crowd.strangers), max(LEAST, anyio.current_time() - began)
        sight, now = await crowd.sight(), await crowd.stats()
        frames, late = _difference(stats, now)
        workers = max(1, round(self._metrics.gauges.get(self._metrics.key("visavis_workers"), 1)))
        spent, behind = (new - old for new, old in zip(self._told(), told, strict=True))
        return Step(
            sessions=len(crowd),
            seconds=round(took, 3),
            frames=frames,
            late=late,
            rate=_rate(now),
            fps=min((seen.fps for seen in sight.seats.values()), default=0.0),
            gap=max((seen.longest_gap for seen in sight.seats.values()), default=0.0),
            cores=(after.server - before.server) / took,
            audience_cores=(after.audience - before.audience) / took,
            machine_cores=(after.machine - before.machine) / took,
            machine_size=after.processors,
            memory=after.memory,
            drawing=spent / took / workers if self._known("visavis_step_seconds") else None,
            behind=behind / max(1, frames) if self._known("visavis_presenter_late_seconds") else None,
            workers=workers,
            admitted=await crowd.capacity(),
            stalled=sight.stalled,
            ended=crowd.ended,
        )

    def _known(self, name: str) -> bool:
        return self._metrics.key(name) in self._metrics.observed

    def _told(self) -> tuple[float, float]:
        """Seconds of the renderer's calls so far, and seconds by which presenters were late."""
        names = ("visavis_step_seconds", "visavis_presenter_late_seconds")
        spent, late = (self._metrics.observed.get(self._metrics.key(name), (0, 0.0, 0.0))[1] for name in names)
        return spent, late


def _difference(before: list[SessionStats], after: list[SessionStats]) -> tuple[int, int]:
    """Frames that fell due between two looks, and those of them that were late or dropped."""

    def late(stats: SessionStats) -> int:
        return max(stats.late_frames, stats.dropped_frames)

    pairs = list(zip(before, after, strict=True))
    return sum(b.frames - a.frames for a, b in pairs), sum(late(b) - late(a) for a, b in pairs)


def _rate(stats: list[SessionStats]) -> float:
    return max((round(s.frames / s.shown, 3) for s in stats if s.shown), default=0.0)


class _Talking:
    """The ramp's stage: a crowd that talks while it is measured."""

    def __init__(self, crowd: Crowd, meter: _Meter, seconds: float, tell: Tell) -> None:
        self._crowd, self._meter, self._seconds, self._tell = crowd, meter, seconds, tell

    async def fill(self, count: int) -> tuple[int, str]:
        """Have so many sessions."""
        self._tell(f"{count} sessions: starting", None)
        return await self._crowd.fill(count)

    async def measure(self) -> Step:
        """Let them talk."""
        self._tell(f"{len(self._crowd)} sessions: talking for {WARM_UP + self._seconds:.0f} s", None)
        self._crowd.talk()
        await anyio.sleep(WARM_UP)
        return await self._meter.step(self._crowd, self._seconds)


async def _climb(
    launcher: Launcher, audience: Audience, plan: Plan, floor: Floor, meter: _Meter, tell: Tell
) -> Findings:
    async with gathered(launcher, audience, plan.avatar, plan.speech) as crowd:
        empty = meter.memory(crowd)
        ramp = Ramp(
            _Talking(crowd, meter, plan.seconds, tell), plan.bounds, plan.most, tell=lambda step: tell("", step)
        )
        await ramp.climb()
        if not ramp.steps:
            raise SessionError(f"not one session was taken on: {ramp.refused}")
        idle = None
        if (held := ramp.held) is not None:
            tell(f"{held.sessions} sessions: silent for {IDLE_SECONDS:.0f} s", None)
            await crowd.hush()
            await crowd.fill(held.sessions)
            await anyio.sleep(WARM_UP)
            idle = round(await meter.cores(crowd, IDLE_SECONDS) / held.sessions, 4)
    first = min(ramp.steps, key=lambda step: step.sessions)
    last = max(ramp.steps, key=lambda step: step.sessions)
    more = last.sessions - first.sessions
    cores = processors()
    return Findings(
        steps=ramp.steps,
        held=ramp.held,
        burst=ramp.burst,
        verdict=verdict(ramp, cores),
        machine=cores,
        floor=floor,
        idle=idle,
        memory_first=first.memory - empty if first.sessions == 1 else None,
        memory_each=round((last.memory - first.memory) / more) if more else None,
    )


async def _floor(deployment: Deployment, plan: Plan, audience: Audience, read: Account) -> Floor:
    """One session of ready pictures in this process: what everything but the face costs."""
    async with Supervisor(deployment) as supervisor, supervisor.avatar(plan.avatar) as avatar:
        ready = ready_renderer(
            deployment.renderer, avatar.format, await pictures(avatar, supervisor.batcher, READY_FRAMES)
        )
    meter = _Meter(read, MemoryMetrics())
    async with (
        LocalLauncher(replace(deployment, renderer=ready)) as launcher,
        gathered(launcher, audience, plan.avatar, plan.speech) as crowd,
    ):
        await crowd.fill(1)
        await anyio.sleep(WARM_UP)
        seconds = min(IDLE_SECONDS, plan.seconds)
        idle = await meter.cores(crowd, seconds)
        crowd.talk()
        await anyio.sleep(WARM_UP)
        return Floor(talking=round(await meter.cores(crowd, seconds), 4), idle=round(idle, 4))
