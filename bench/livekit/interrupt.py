"""What an interruption does: how soon the client is told, sound and lips end, and how true the position is.

    python bench/livekit/interrupt.py [--interruptions 20] [--pace 4] [--subjects peer,visavis]

Each round: a tone of six seconds is pushed (at a pace, as ``sync.py`` tells), interrupted after a changing time, and
followed by one of 0.8 s that is heard out. ``position error`` is what was told less what the subscriber heard of that
segment; the following segment's position must be exact. A ``playback_started`` between an interruption and the next
utterance is spurious. The floor cannot be interrupted. Sound that has been sent is heard out of the viewer's jitter
buffer: the silence without that wait is when the sending ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import anyio
import numpy as np
from measuring import Figures, Room, Talk, arguments, paced, run, spread
from subjects import AVATAR
from visavis.testing.livekit import reading
from visavis.testing.livekit.recording import Recording
from visavis.testing.livekit.sender import Utterance
from visavis.testing.livekit.server import LiveKitServer

RATE = 24_000
AFTER = 0.8


@dataclass
class Cut:
    """One interruption: when it was asked for, and the utterances before and after it."""

    at: float
    cut: Utterance
    after: Utterance
    spurious: int


async def rounds(talk: Talk, count: int, pace: float) -> list[Cut]:
    """So many interruptions of speech that is sent at that pace."""
    waits = np.random.default_rng(7).uniform(0.6, 2.5, count)
    found = []
    for wait in waits:
        cut = await talk.sender.say(reading.steady(6.0, RATE), RATE, pace=pace)
        await talk.viewer.until("sound", of=AVATAR, after=cut.first_write)
        await anyio.sleep(float(wait))
        at = time.monotonic()
        await talk.sender.interrupt()
        await anyio.sleep(0.4)
        await talk.silent(cut)
        spurious = sum(t > at for t in talk.sender.started)
        after = await talk.sender.say(reading.steady(AFTER, RATE), RATE)
        await talk.silent(after)
        found.append(Cut(at, cut, after, spurious))
    return found


def cut_figures(seen: Recording, cuts: list[Cut]) -> Figures:
    """What a viewer says of them."""
    take = seen.of(AVATAR)
    shuts = reading.mouth_shuts(take.pictures)
    told, silent, lips, errors, following = [], [], [], [], []
    for cut in cuts:
        finish, after = cut.cut.finish, cut.after.finish
        assert finish is not None
        assert after is not None
        assert cut.cut.first_write is not None
        assert cut.after.first_write is not None
        told.append(1000 * (finish.t - cut.at))
        span = reading.heard(take.sound, cut.cut.first_write, cut.after.first_write)
        if span is not None:
            silent.append((cut.at, span.end))
            errors.append(1000 * (finish.position - span.seconds))
        shut = shuts[(shuts > cut.at) & (shuts < cut.after.first_write)]
        if len(shut):
            lips.append(1000 * (shut[-1] - cut.at))
        following.append(1000 * (after.position - AFTER))
    asked, ends = np.array(silent, np.float64).reshape(-1, 2).T
    silence = 1000 * (ends - asked)
    sent = silence - reading.waited(seen, AVATAR, ends)
    return {
        "interrupt -> finish, ms": spread(told),
        "interrupt -> silence at the viewer, ms": spread(silence, 0),
        "the same without the wait in its jitter buffer, ms": spread(sent[~np.isnan(sent)], 0),
        "interrupt -> lips shut at the viewer, ms": spread(lips, 0),
        "position error, ms": spread(errors),
        "next segment's position error, ms": spread(following, 2),
        "spurious playback_started": sum(cut.spurious for cut in cuts),
        "flagged interrupted": f"{sum(bool(c.cut.finish and c.cut.finish.interrupted) for c in cuts)}/{len(cuts)}",
        "largest gap, ms": round(1000 * reading.gaps(take.pictures, stalls=seen.stalls).largest),
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=0, subjects="peer,visavis")
    parser.add_argument("--interruptions", type=int, default=20)
    paced(parser)
    asked = parser.parse_args()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        figures: Figures = {}
        for name in asked.subjects.split(","):
            async with Room(name, livekit, folder) as talk:
                cuts = await rounds(talk, asked.interruptions, asked.pace)
                seen = await talk.viewer.stop()
            figures[name] = cut_figures(seen, cuts)
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
