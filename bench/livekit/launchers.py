"""What worker processes cost: talking sessions on one core under the launcher `local` and under `process`, one worker.

    python bench/livekit/launchers.py [--seconds 20] [--sessions 2] [--json FILE]

The server and what it starts run on core 0 alone; processor time is that of all of them. "the server itself" is what
the parent of the worker spends: it takes requests, figures and log records, and no media.
"""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import numpy as np
import psutil
from cpu import PIN, WARM, apart, frames, recording, talk
from measuring import Figures, arguments, run
from subjects import AGENT, AVATAR, LOCAL, MIRA, serving
from visavis.testing.livekit.sender import speaking_to
from visavis.testing.livekit.server import LiveKitServer

PROCESS = "{use: process, workers: 1}"


def spent(pid: int) -> tuple[float, float]:
    """Processor seconds so far: of the process, and of those that it has started."""
    parent = psutil.Process(pid)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    own, *others = (float(used.user + used.system) for used in times)
    return own, sum(others)


async def cost(livekit: LiveKitServer, folder: Path, launcher: str, count: int, seconds: float) -> Figures:
    """Cores and late pictures of ``count`` sessions that talk without a pause."""
    pcm, rate = recording()
    rooms = [f"launchers-{secrets.token_hex(4)}" for _ in range(count)]
    async with AsyncExitStack() as stack:
        made = serving(livekit, folder, renderer=MIRA, prefix=PIN, launcher=launcher)
        server = await stack.enter_async_context(made)
        senders = [
            await stack.enter_async_context(speaking_to(livekit, room, AVATAR, identity=AGENT)) for room in rooms
        ]
        sessions = [await server.start(room) for room in rooms]
        for sender in senders:
            await sender.avatar_seen()
        async with anyio.create_task_group() as tasks:
            for number, sender in enumerate(senders):
                tasks.start_soon(talk, sender, np.roll(pcm, -number * 3 * rate), rate, time.monotonic() + seconds + 10)
            await anyio.sleep(WARM)
            before, used, begin = await frames(server, sessions), spent(server.pid), time.monotonic()
            await anyio.sleep(seconds)
            after, now, end = await frames(server, sessions), spent(server.pid), time.monotonic()
            tasks.cancel_scope.cancel()
    own, others = ((new - old) / (end - begin) for new, old in zip(now, used, strict=True))
    return {
        "cores a session": round((own + others) / count, 4),
        "the server itself, cores": round(own, 4),
        "late pictures, %": round(100 * (after[1] - before[1]) / max(1, after[0] - before[0]), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=20, subjects="")
    parser.add_argument("--sessions", type=int, default=2)
    asked = parser.parse_args()
    apart()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        local = await cost(livekit, folder / "local", LOCAL, asked.sessions, asked.seconds)
        process = await cost(livekit, folder / "process", PROCESS, asked.sessions, asked.seconds)
        process["ratio to local"] = round(process["cores a session"] / local["cores a session"], 3)
        return {f"local, {asked.sessions} talking": local, f"process, {asked.sessions} talking": process}

    run(measure, asked.json)


if __name__ == "__main__":
    main()
