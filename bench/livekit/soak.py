"""A hundred sessions one after another in one process, and eight at once: nothing is left, nothing is mixed up.

    python bench/livekit/soak.py [--sessions 100] [--at-once 8] [--json FILE]

One process runs the sessions (the tiny avatar; ``soak_child.py`` is the launcher without HTTP around it, so that its
tasks and handlers can be counted). Each session is joined, says 0.4 s, is heard and ends. Counts are compared with
those after the third session; the slope of memory is that after the twentieth. Then eight talk at once, each with a
tone and a colour of its own: the subscriber of each room must get its own alone.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from measuring import Figures, arguments, run
from subjects import AGENT, AVATAR, HERE
from visavis.testing import tiny_avatar
from visavis.testing.livekit import reading
from visavis.testing.livekit.sender import speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.spawning import Spawned, spawned
from visavis.testing.livekit.viewer import watching
from visavis.testing.tiny import yuv_of

RATE = 24_000
COUNTS = ("threads", "file handles", "rpc handlers", "tasks", "rooms")
COLOURS = [
    (220, 60, 60),
    (60, 200, 60),
    (70, 90, 230),
    (220, 210, 60),
    (220, 70, 210),
    (60, 210, 210),
    (230, 140, 40),
    (150, 150, 150),
]


async def one_session(livekit: LiveKitServer, child: Spawned, number: int) -> dict[str, Any]:
    """Start, speak, be heard, end; returns what the process holds afterwards."""
    room = f"soak-{secrets.token_hex(4)}"
    async with speaking_to(livekit, room, AVATAR, identity=AGENT) as sender:
        await child.say(f"start {room} {livekit.token(AVATAR, room, agent=True, on_behalf_of=AGENT)} tiny")
        await sender.avatar_seen()
        said = await sender.say(reading.steady(0.4, RATE), RATE)
        await said.wait_finished()
        await child.say(f"stop {room}")
        await child.until("stopped", where=lambda row: row["room"] == room)
    await child.say(f"count {number}")
    counted = await child.until("counted", where=lambda row: row["number"] == str(number))
    return dict(counted)


async def one_after_another(livekit: LiveKitServer, child: Spawned, count: int) -> Figures:
    """The counts of so many sessions."""
    rows = [await one_session(livekit, child, number) for number in range(count)]
    third, last = rows[min(2, count - 1)], rows[-1]
    figures: Figures = {
        f"{what}: after 3, {count}, most": f"{third[what]}, {last[what]}, {max(r[what] for r in rows[3:] or rows)}"
        for what in COUNTS
    }
    late = rows[20:] if count > 30 else rows[count // 2 :]
    slope = np.polyfit([int(r["number"]) for r in late], [r["rss"] / 1e6 for r in late], 1)[0]
    figures[f"RSS slope after session {late[0]['number']}, MB a session (at most 0.2)"] = round(float(slope), 3)
    figures["RSS at the end, MB"] = round(rows[-1]["rss"] / 1e6, 1)
    return figures


async def at_once(livekit: LiveKitServer, child: Spawned, count: int) -> Figures:
    """Cross-talk between so many: the loudest foreign tone against the own, and the nearest colour."""
    rooms = [f"many-{secrets.token_hex(4)}" for _ in range(count)]
    tones = [400.0 + 150.0 * number for number in range(count)]
    async with AsyncExitStack() as stack:
        viewer = await stack.enter_async_context(watching(livekit, *rooms))
        senders = [
            await stack.enter_async_context(speaking_to(livekit, room, AVATAR, identity=AGENT)) for room in rooms
        ]
        for number, room in enumerate(rooms):
            token = livekit.token(AVATAR, room, agent=True, on_behalf_of=AGENT)
            await child.say(f"start {room} {token} tiny{number}")
        for sender in senders:
            await sender.avatar_seen(60)
        await anyio.sleep(2)
        said = [await s.say(reading.steady(4, RATE, tone=t), RATE) for s, t in zip(senders, tones, strict=True)]
        for utterance in said:
            await utterance.wait_finished()
        await anyio.sleep(0.5)
        seen = await viewer.stop()
        for room in rooms:
            await child.say(f"stop {room}")
    right_tone, right_colour, foreign = 0, 0, 0.0
    yuv = [yuv_of(colour)[1:] for colour in COLOURS]
    seen_colours = []
    for number, (room, utterance) in enumerate(zip(rooms, said, strict=True)):
        take = seen.of(AVATAR, room)
        assert utterance.first_write is not None
        span = reading.heard(take.sound, utterance.first_write, np.inf)
        if span is None:
            continue
        strengths = reading.strength(take.sound, span.begin + 0.5, span.end - 0.5, tones)
        right_tone += int(np.argmax(strengths) == number)
        foreign = max(foreign, float(np.delete(strengths, number).max() / strengths[number]))
        colour = reading.colour(take.pictures)
        seen_colours.append(colour)
    # The face covers a part of the picture: each colour is compared with those that the others showed.
    for number, colour in enumerate(seen_colours):
        shown = np.array(colour) - 128
        wanted = np.array([np.array(c) - 128 for c in yuv[:count]], np.float64)
        angles = [
            float(shown @ w / (np.linalg.norm(shown) * np.linalg.norm(w) + 1e-9)) if np.linalg.norm(w) > 5 else 0.0
            for w in wanted
        ]
        grey = float(np.linalg.norm(shown)) < 4
        nearest = int(np.argmin([np.linalg.norm(w) for w in wanted])) if grey else int(np.argmax(angles))
        right_colour += int(nearest == number)
    return {
        "own tone the loudest": f"{right_tone}/{count}",
        "loudest foreign tone, part of the own": round(foreign, 5),
        "own colour the nearest": f"{right_colour}/{count}",
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=0, subjects="")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=8)
    asked = parser.parse_args()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        avatars = folder / "avatars"
        (folder / "avatars").mkdir()
        tiny_avatar(avatars / "tiny.hvia")
        for number, colour in enumerate(COLOURS[: asked.at_once]):
            tiny_avatar(avatars / f"tiny{number}.hvia", colour=colour)
        about = {"url": livekit.url, "avatars": str(avatars)}
        figures: Figures = {}
        async with spawned(Spawned, str(HERE / "soak_child.py"), about) as child:
            if asked.sessions:
                figures |= await one_after_another(livekit, child, asked.sessions)
            if asked.at_once:
                figures |= await at_once(livekit, child, asked.at_once)
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
