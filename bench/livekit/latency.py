"""How long from the first pushed sample to the first heard one, and from the start request to the first picture?

    python bench/livekit/latency.py [--utterances 20] [--starts 5] [--subjects floor,peer,visavis]

Utterances of 0.6 s with pauses of changing length, by ``lk.audio_stream`` to each subject alike: the floor plays what
comes with its next picture, which is ready. visavis looks as far ahead as Mira (3 frames, 120 ms), the rest is ours.
For the starts a warm server is asked for a session with Mira while a viewer stands in the room; the moment the avatar's
video is published an utterance is pushed, which must be heard whole.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import anyio
import numpy as np
from measuring import Figures, Room, arguments, lengths, run, spread
from subjects import AGENT, AVATAR, MIRA, AvatarServer, serving
from visavis.testing.livekit import reading
from visavis.testing.livekit.sender import Utterance, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

RATE = 24_000
LOOK_AHEAD_MS = 120.0


async def utterances(name: str, livekit: LiveKitServer, folder: Path, count: int) -> Figures:
    """Latency of so many utterances."""
    said: list[Utterance] = []
    pauses = np.random.default_rng(5).uniform(0.4, 0.9, count)
    async with Room(name, livekit, folder) as talk:
        for pause in pauses:
            said.append(await talk.sender.say(reading.steady(0.6, RATE), RATE))
            await talk.silent(said[-1])
            await anyio.sleep(float(pause))
        seen = await talk.viewer.stop()
    take = seen.of(AVATAR)
    found, started = [], []
    for utterance, following in zip(said, [*said[1:], None], strict=True):
        assert utterance.first_write is not None
        until = following.first_write if following is not None and following.first_write else np.inf
        span = reading.heard(take.sound, utterance.first_write, until)
        if span is not None:
            found.append(1000 * (span.begin - utterance.first_write))
            told = [t for t in talk.sender.started if utterance.first_write <= t < until]
            started += [1000 * (t - span.begin) for t in told[:1]]
    squeeze = lengths(take, said, 0.6)
    return {
        "first write -> first heard, ms": spread(found, 0),
        "playback_started after the first heard, ms": spread(started, 0),
        "heard of sent": f"{len(found)}/{count}",
        "squeeze of the first, ms": round(squeeze[0], 1),
        "squeeze of the others, ms": spread([abs(s) for s in squeeze[1:]]),
    }


async def starts(livekit: LiveKitServer, folder: Path, count: int) -> Figures:
    """First picture after the request, and whether the earliest utterance is heard whole."""
    pictures, heard = [], []
    async with serving(livekit, folder / "mira", renderer=MIRA) as server:
        await one_start(livekit, server)  # warms the caches of a fresh process
        for _ in range(count):
            picture, length = await one_start(livekit, server)
            pictures.append(1000 * picture)
            heard.append(1000 * length)
    return {
        "start request -> first picture, ms": spread(pictures, 0),
        "heard of 1000 ms pushed when first seen, ms": spread(heard, 0),
    }


async def one_start(livekit: LiveKitServer, server: AvatarServer) -> tuple[float, float]:
    """Seconds from the request to the first picture, and seconds heard of a second that was pushed when it was seen."""
    room = f"start-{secrets.token_hex(4)}"
    async with watching(livekit, room) as viewer, speaking_to(livekit, room, AVATAR, identity=AGENT) as sender:
        said: list[Utterance] = []

        async def speak() -> None:
            await sender.avatar_seen()
            said.append(await sender.say(reading.steady(1.0, RATE), RATE))

        asked = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            number = await server.start(room)
        picture = await viewer.until("picture", of=AVATAR)
        await said[0].wait_finished()
        await anyio.sleep(0.5)
        seen = await viewer.stop()
        await server.stop(number)
    span = reading.heard(seen.of(AVATAR).sound, asked, np.inf)
    return picture["t"] - asked, span.seconds if span is not None else 0.0


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=0)
    parser.add_argument("--utterances", type=int, default=20)
    parser.add_argument("--starts", type=int, default=5)
    asked = parser.parse_args()
    row = "first write -> first heard, ms"

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        figures: Figures = {}
        for name in asked.subjects.split(","):
            figures[name] = await utterances(name, livekit, folder, asked.utterances)
        if {"floor", "visavis"} <= set(figures):
            above = figures["visavis"][row]["median"] - figures["floor"][row]["median"]
            figures["above the floor, ms (at most look-ahead + 60)"] = f"{above:g} of {LOOK_AHEAD_MS + 60:g}"
        if asked.starts and "visavis" in figures:
            figures |= await starts(livekit, folder, asked.starts)
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
