"""What a talking avatar costs: Mira, one to four sessions in one server on one core; the floor beside.

    python bench/livekit/cpu.py [--seconds 60] [--sessions 1,2,3,4] [--pace 4] [--together]

The server (and the floor) run on core 0 alone, livekit-server, viewers and clients on the others. Every session is
spoken to without a pause: half a minute at a time, at a pace as ``sync.py`` tells (``--pace inf``: as fast as the line
takes it, which takes seconds and a good part of the core). Each session's next half minute comes at another time;
``--together`` sends all at the same time. A picture is late that was not ready at the presenter's deadline, so that it
was dropped or the last one repeated; the share is over all sessions of the run. The floor publishes Mira's own
pictures, drawn before.
"""

from __future__ import annotations

import os
import secrets
import time
import wave
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import psutil
import visavis
from measuring import PACE, Figures, Room, arguments, paced, run
from numpy.typing import NDArray
from subjects import AGENT, AVATAR, LOCAL, MIRA, AvatarServer, Subject, serving
from visavis.testing.livekit import reading
from visavis.testing.livekit.sender import Sender, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

SPEECH = Path(__file__).resolve().parent.parent / "speech"
WARM = 3.0


def recording() -> tuple[NDArray[np.int16], int]:
    """Half a minute of speech, int16 ``[n]``, and its rate."""
    parts, rate = [], 0
    for name in ("synth-slt.wav", "synth-rms.wav", "synth-awb.wav"):
        with wave.open(str(SPEECH / name)) as file:
            rate = file.getframerate()
            parts.append(np.frombuffer(file.readframes(file.getnframes()), np.int16))
    pcm = np.concatenate(parts)
    return np.resize(pcm, 30 * rate), rate


async def ready_pictures(folder: Path, pcm: NDArray[np.int16], rate: int) -> Path:
    """Ten seconds of Mira's pictures as an npy file."""
    pictures = [frame.video.data async for frame in visavis.speak("mira", pcm[: 10 * rate], rate) if frame.video]
    path = folder / "ready.npy"
    np.save(path, np.stack(pictures))
    return path


async def talk(
    sender: Sender, pcm: NDArray[np.int16], rate: int, until: float, pace: float, first: float = 1.0
) -> None:
    """Speak without a pause: the next utterance is sent before the last has ended; of the first only that share."""
    said, part = time.monotonic(), pcm[: round(first * len(pcm))]
    while said < until:
        await sender.say(part, rate, pace=pace)
        said += len(part) / rate
        await anyio.sleep(max(0.0, said - 2.0 - time.monotonic()))
        part = pcm


async def floor_cost(
    livekit: LiveKitServer, folder: Path, pcm: NDArray[np.int16], rate: int, seconds: float, pace: float
) -> Figures:
    """Cores of the floor, talking and idle."""
    ready = await ready_pictures(folder, pcm, rate)
    async with Room("floor", livekit, folder, rate=rate, ready=ready, prefix=PIN) as room:
        idle = await cores(room.subject, min(10.0, seconds))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, room.sender, pcm, rate, time.monotonic() + seconds + 3, pace)
            await anyio.sleep(WARM)
            talking = await cores(room.subject, seconds)
            tasks.cancel_scope.cancel()
    return {"talking, cores a session": round(talking, 3), "idle, cores": round(idle, 3)}


PIN = ("taskset", "-c", "0")


async def cores(subject: Subject, seconds: float) -> float:
    """Processor seconds a second over that time."""
    begin, used = time.monotonic(), subject.cpu()
    await anyio.sleep(seconds)
    return (subject.cpu() - used) / (time.monotonic() - begin)


async def frames(server: AvatarServer, sessions: list[str]) -> tuple[int, int]:
    """Pictures that fell due so far in all sessions, and those of them that were late."""
    stats = [(await server.session(number))["stats"] for number in sessions]
    return sum(s["frames"] for s in stats), sum(max(s["late_frames"], s["dropped_frames"]) for s in stats)


async def our_cost(
    livekit: LiveKitServer,
    folder: Path,
    pcm: NDArray[np.int16],
    rate: int,
    count: int,
    seconds: float,
    *,
    pace: float = PACE,
    together: bool = False,
    launcher: str = LOCAL,
) -> Figures:
    """Cores a session and late pictures of ``count`` sessions; of one also when idle. Of worker processes also what
    their parent takes, which hands no media on: requests, figures, log records."""
    rooms = [f"cpu-{secrets.token_hex(4)}" for _ in range(count)]
    async with AsyncExitStack() as stack:
        served = serving(livekit, folder / f"{count}", renderer=MIRA, prefix=PIN, launcher=launcher)
        server = await stack.enter_async_context(served)
        subject = Subject("visavis", server.pid)
        viewer = await stack.enter_async_context(watching(livekit, *rooms))
        senders = [
            await stack.enter_async_context(speaking_to(livekit, room, AVATAR, identity=AGENT)) for room in rooms
        ]
        sessions = [await server.start(room) for room in rooms]
        for sender in senders:
            await sender.avatar_seen()
        await anyio.sleep(WARM)
        idle = await cores(subject, min(10.0, seconds)) if count == 1 else None
        async with anyio.create_task_group() as tasks:
            for number, sender in enumerate(senders):
                said, until = np.roll(pcm, -number * 3 * rate), time.monotonic() + seconds + 10
                tasks.start_soon(talk, sender, said, rate, until, pace, 1.0 if together else (number + 1) / count)
            await anyio.sleep(WARM)
            before, begin, own = await frames(server, sessions), time.monotonic(), subject.own_cpu()
            talking = await cores(subject, seconds)
            after, end, own = await frames(server, sessions), time.monotonic(), subject.own_cpu() - own
            tasks.cancel_scope.cancel()
        seen = await viewer.stop()
    due, late = after[0] - before[0], after[1] - before[1]
    found: Figures = {
        "cores a session": round(talking / count, 3),
        "cores": round(talking, 3),
        "late pictures, %": round(100 * late / max(1, due), 2),
        "pictures": due,
        "fps at the viewer": [
            round(reading.gaps(take.pictures.between(begin, end), stalls=seen.stalls).fps, 2)
            for take in seen.takes
            if take.identity == AVATAR
        ],
    }
    if launcher != LOCAL:
        found["the server itself, cores"] = round(own / (end - begin), 4)
    return found if idle is None else {**found, "idle, cores": round(idle, 3)}


def apart() -> None:
    """Keep this process, and what it starts, off the first core."""
    cpus = psutil.cpu_count() or 1
    if cpus > 1:
        psutil.Process(os.getpid()).cpu_affinity(list(range(1, cpus)))


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=60, subjects="")
    parser.add_argument("--sessions", default="1,2,3,4")
    paced(parser)
    parser.add_argument("--together", action="store_true", help="all sessions' speech arrives at the same time")
    asked = parser.parse_args()
    apart()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        pcm, rate = recording()
        floor = await floor_cost(livekit, folder, pcm, rate, min(30.0, asked.seconds), asked.pace)
        figures: Figures = {"floor, one session on core 0": floor}
        base: dict[str, Any] = floor
        for count in map(int, asked.sessions.split(",")):
            ours = await our_cost(
                livekit, folder, pcm, rate, count, asked.seconds, pace=asked.pace, together=asked.together
            )
            ours["ratio to the floor"] = round(ours["cores a session"] / base["talking, cores a session"], 2)
            if "idle, cores" in ours:
                ours["idle, ratio to the floor"] = round(ours["idle, cores"] / base["idle, cores"], 2)
            figures[f"visavis, {count} talking on core 0"] = ours
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
