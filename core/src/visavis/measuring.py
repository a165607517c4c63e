"""How fast the whole path is, and what limits it: one run, beside the floor of the same run.

The floor is the same pipeline with the same sound, encoder and file, but with pictures that were drawn before: what is
above it is what a face costs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visavis.component import NoOptions
from visavis.config import Deployment, Part
from visavis.hvia import Hvia
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderFormat, RenderInput, RenderSession
from visavis.interfaces.session import SessionRequest
from visavis.media import VideoFrame
from visavis.metrics import MemoryMetrics
from visavis.plugins import Kind, RendererPlugin
from visavis.supervisor import run_session

STAGES = ("motion", "face", "compose", "encode")
READY_FRAMES = 50
"""Pictures that the floor shows in turn: enough to move, few enough to keep (20 MB at 512x512)."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One run: media seconds, wall and processor seconds, and milliseconds a frame of each stage."""

    frames: int
    media: float
    wall: float
    cpu: float
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def realtime(self) -> float:
        """How many times faster than real time, by the processor's time: what one core could do alone."""
        return self.media / self.cpu

    @property
    def frame_ms(self) -> float:
        """Processor milliseconds a frame."""
        return 1000 * self.cpu / self.frames


async def measure(deployment: Deployment, request: SessionRequest) -> tuple[Speed, Speed]:
    """Run a request, then its floor. Returns both.

    The request's output file stays; the floor writes a file beside it, which is removed.
    """
    keep = _Keeping(deployment.renderer)
    whole = await _run(replace(deployment, renderer=keep.part), request)
    assert keep.format is not None
    floor_path = Path(str(request.transport["path"]))
    floor_path = floor_path.with_name(f"floor-{floor_path.name}")
    ready = ready_renderer(deployment.renderer, keep.format, keep.frames)
    try:
        floor = await _run(
            replace(deployment, renderer=ready),
            request.model_copy(update={"transport": {**request.transport, "path": str(floor_path)}}),
        )
    finally:
        floor_path.unlink(missing_ok=True)
    return whole, floor


async def _run(deployment: Deployment, request: SessionRequest) -> Speed:
    metrics = MemoryMetrics()
    wall, cpu = time.perf_counter(), time.process_time()
    stats = await run_session(deployment, request, metrics=metrics)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stages = {s: _per_frame(metrics, "visavis_render_seconds", stats.frames, stage=s) for s in STAGES[:3]}
    stages["encode"] = _per_frame(metrics, "visavis_encode_seconds", stats.frames)
    return Speed(stats.frames, stats.spoken, wall, cpu, stages)


def _per_frame(metrics: MemoryMetrics, name: str, frames: int, **labels: str) -> float:
    _, total, _ = metrics.observed.get(metrics.key(name, **labels), (0, 0.0, 0.0))
    return 1000 * total / frames if frames else 0.0


class _Keeping:
    """A renderer part that keeps its first pictures."""

    def __init__(self, inner: Part) -> None:
        self.frames: list[VideoFrame] = []
        self.format: RenderFormat | None = None
        self.part = replace(inner, record=replace(inner.record, factory=self._make))
        self._inner = inner

    def _make(self, config: Any) -> Renderer:
        renderer = self._inner.make()
        assert isinstance(renderer, Renderer)
        load, step = renderer.load, renderer.step

        def keeping_load(avatar: Hvia) -> LoadedAvatar:
            loaded = load(avatar)
            self.format = loaded.format
            return loaded

        def keeping_step(sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
            frames = step(sessions, inputs)
            if len(self.frames) < READY_FRAMES:
                self.frames.extend(f for f in frames if f is not None)
            return frames

        renderer.load = keeping_load  # type: ignore[method-assign]  # this instance only: the part under measurement
        renderer.step = keeping_step  # type: ignore[method-assign]
        return renderer


class _ReadySession(RenderSession):
    def reset(self) -> None:
        """Nothing is heard."""

    def close(self) -> None:
        """Nothing is held."""


class _ReadyAvatar(LoadedAvatar):
    def __init__(self, format: RenderFormat) -> None:
        self._format = format

    @property
    def format(self) -> RenderFormat:
        return self._format

    @property
    def batch_key(self) -> Hashable:
        return "ready"

    def open(self, *, seed: int = 0) -> RenderSession:
        return _ReadySession()

    def close(self) -> None:
        """Nothing is held."""


class ReadyRenderer(Renderer):
    """Shows pictures that were drawn before."""

    max_batch = 16

    def __init__(self, format: RenderFormat, frames: Sequence[VideoFrame]) -> None:
        self._format, self._frames = format, itertools.cycle(frames)

    def load(self, avatar: Hvia) -> LoadedAvatar:
        return _ReadyAvatar(self._format)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        return [next(self._frames) if given.draw else None for given in inputs]


def ready_renderer(part: Part, format: RenderFormat, frames: Sequence[VideoFrame]) -> Part:
    """A renderer that shows ``frames`` in turn, in the place of ``part``: what is left is what all else costs."""
    record = RendererPlugin(
        name="ready-frames",
        summary="Pictures that were drawn before.",
        factory=lambda config: ReadyRenderer(format, frames),
    )
    return Part(Kind.RENDERER, record.name, record, NoOptions(), part.origin)
