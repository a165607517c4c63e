"""What an idle picture costs beside a talking one: the renderer alone, and a whole session without a network.

    python bench/idle_cost.py [--avatar mira] [--seconds 30] [--json FILE]

One thread. Times are the processor's, so that a busy neighbour does not count. "drawn anew" is the share of pictures
for which the face graph ran; the others reuse the region of an earlier picture. The floor of a session is the same
pipeline with pictures that were drawn before.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import anyio
import numpy as np
from visavis.component import NoOptions
from visavis.config import default_deployment
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderInput
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.transport import Pacing
from visavis.measuring import ReadyRenderer
from visavis.media import AudioFormat, PairedFrame
from visavis.metrics import MemoryMetrics
from visavis.pipeline.batcher import Batcher
from visavis.registry import Registry
from visavis.session import Session
from visavis.supervisor import Supervisor
from visavis.testing.fakes import Recorder, RecorderTransport


class Sink(Recorder):
    """Takes frames in real time and keeps none."""

    async def present(self, frame: PairedFrame) -> None:
        """Forget it."""


class SinkTransport(RecorderTransport):
    """Makes sinks."""

    async def prepare(self, context: SessionContext, options: Any) -> Recorder:
        """A sink at 24 kHz."""
        return Sink(Pacing.REALTIME, AudioFormat(24_000))


def babble(seconds: float, rate: int) -> np.ndarray:
    """Noise with a syllable's rhythm."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0.0, 0.2, len(t))
    return (noise * np.maximum(0.0, np.sin(2 * np.pi * 2.5 * t))).clip(-1, 1).astype(np.float32)


def steps(renderer: Renderer, avatar: LoadedAvatar, seconds: float, *, talks: bool) -> dict[str, float]:
    """The renderer alone: milliseconds a picture, and how often the face graph ran."""
    metrics = MemoryMetrics()
    renderer.metrics = metrics
    form, count = avatar.format, int(seconds * avatar.format.video.fps)
    pcm = babble(seconds, form.sample_rate)
    session = avatar.open(seed=1)
    began = time.thread_time()
    for n in range(count):
        sound = pcm[n * form.hop : (n + 1) * form.hop] if talks else None
        renderer.step([session], [RenderInput(sound)])
    spent = time.thread_time() - began
    session.close()
    drawn = metrics.observed.get(metrics.key("visavis_render_seconds", stage="face"), (0, 0.0, 0.0))[0]
    return {"ms": 1000 * spent / count, "drawn anew": drawn / count}


async def whole(renderer: Renderer, avatar: LoadedAvatar, seconds: float, *, talks: bool) -> float:
    """A session in real time without a network: milliseconds of processor time a second."""
    context = SessionContext("bench", SessionRequest())
    session = Session(context, avatar, Batcher(renderer), SinkTransport(), NoOptions(), [])
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        await anyio.sleep(0.5)
        began, cpu = time.perf_counter(), time.process_time()
        if talks:
            stream = await session.speak(24_000)
            await stream.write(babble(seconds, 24_000))
            await stream.end()
            await stream.wait_finished()
        else:
            await anyio.sleep(seconds)
        spent = 1000 * (time.process_time() - cpu) / (time.perf_counter() - began)
        await session.close()
    return spent


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    async with Supervisor(default_deployment(Registry.discover())) as supervisor:
        async with supervisor.avatar(arguments.avatar) as avatar:
            renderer = supervisor.renderer
            idle = steps(renderer, avatar, arguments.seconds, talks=False)
            talking = steps(renderer, avatar, arguments.seconds, talks=True)
            session = avatar.open()
            ready = [f for _ in range(25) if (f := renderer.step([session], [RenderInput(None)])[0]) is not None]
            session.close()
            floor = ReadyRenderer(avatar.format, ready)
            shown = floor.load(None)  # type: ignore[arg-type]  # it takes any file
            part = min(10.0, arguments.seconds)
            return {
                "idle picture": idle,
                "talking picture": talking,
                "idle / talking": idle["ms"] / talking["ms"],
                "ms a second": {
                    "pipeline alone, idle": await whole(floor, shown, part, talks=False),
                    "pipeline alone, talking": await whole(floor, shown, part, talks=True),
                    "session, idle": await whole(renderer, avatar, part, talks=False),
                    "session, talking": await whole(renderer, avatar, part, talks=True),
                },
            }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", default="mira")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = anyio.run(run, arguments)
    for name in ("idle picture", "talking picture"):
        row = figures[name]
        print(f"{name:28} {row['ms']:7.2f} ms    drawn anew {100 * row['drawn anew']:5.1f} %")
    print(f"{'idle / talking':28} {figures['idle / talking']:7.2f}")
    for name, spent in figures["ms a second"].items():
        print(f"{name:28} {spent:7.1f} ms of processor time a second")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
