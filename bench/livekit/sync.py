"""Do lips and voice stay together? Flash and beep through the whole path, read at a subscriber.

    python bench/livekit/sync.py [--seconds 60] [--rates 24000] [--chunk-ms 100] [--pace 4] [--subjects floor,visavis]
    python bench/livekit/sync.py --rates 8000,16000,44100,48000 --chunk-ms 37 --subjects floor,visavis
    python bench/livekit/sync.py --seconds 600 --subjects floor,visavis      # drift over ten minutes
    python bench/livekit/sync.py --beside                                    # all at once, each in a room of its own
    python bench/livekit/sync.py --beside --subjects floor,floor:again,visavis --rounds 10   # what can a run tell?
    python bench/livekit/sync.py --beside --subjects floor,visavis,visavis:audio_dtx=false --rounds 10   # an option

A renderer that flashes takes the place of the face (``visavis.testing.livekit.flash``): it paints the one picture white
whose own slice of sound holds the beginning of a beep, and hears as far ahead as Mira does. An offset is positive where
the picture is late; judge it against the floor's of the same run. A squeeze is by how much an utterance was heard
shorter than it was sent. On a machine that others use too, ``--beside`` gives all subjects the same minute; what the
receiver's jitter buffer holds is part of each offset, and grows where processes wait for the processor, for one viewer
more than for another: the offset without it is what the sender and the way have done. ``floor:again`` is a second floor
in a room of its own: by how much it differs from the first is what a run on this machine cannot tell.
``--chunk-ms`` is the length of one write: an odd one leaves odd remainders.

``--pace`` is at how many times its own pace speech is sent. The default, 4, might be that of a voice that is made while
it speaks; whoever has ready sound sends it as fast as the line takes it. ``--pace inf`` does that: ten seconds at once
keep every process of the room busy for most of a second, viewers too (the SDK sends a stream's pieces to all of a
room), and on two cores their jitter buffers then tell more of that second than of who speaks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from measuring import Figures, Turns, arguments, is_subject, paced, run, short, spread, talk_beeps
from visavis.testing.livekit.server import LiveKitServer

MEDIANS = "median offset less the floor's, ms (within 20)"
SENT = "the same without the jitter buffers' waits, ms"
WAIT = "sound waits in the viewer's jitter buffer, ms"
RANGE = "95 % of the offsets (within the floor's -45..+15)"


def judged(figures: Figures) -> Figures:
    """Each subject against the floor of the same run; a second floor, too: it tells what a run can tell."""
    return {
        f"{name}, {row}": found
        for name in figures
        if _is_judged(name) and "floor" in figures
        for row, found in _against(figures[name], figures["floor"]).items()
    }


def _is_judged(name: str) -> bool:
    return is_subject(name) and name not in ("floor", "peer")


def _against(ours: Figures, floor: Figures) -> Figures:
    a, b = ours["offset, ms"], floor["offset, ms"]
    low, high = b["p2.5"] - 45, b["p97.5"] + 15
    sent = "offset without that wait, ms"
    return {
        MEDIANS: round(a["median"] - b["median"], 1),
        SENT: round(ours[sent]["median"] - floor[sent]["median"], 1),
        RANGE: f"{a['p2.5']:g}..{a['p97.5']:g} in {low:g}..{high:g}"
        + (" yes" if low <= a["p2.5"] and a["p97.5"] <= high else " NO"),
    }


def over_rounds(rounds: list[Figures]) -> Figures:
    """How often each of the lines was kept, by whom."""
    found: Figures = {}
    for name in filter(is_subject, rounds[0]):
        own = [each[name] for each in rounds]
        squeezes = [each["squeeze of the others, ms"] for each in own]
        found |= {
            f"{name}, wait in the jitter buffer, ms": spread([each[WAIT]["median"] for each in own]),
            f"{name}, squeeze of the later utterances, ms": spread([s["median"] for s in squeezes if s["n"]]),
            f"{name}, rounds without a later squeeze over 20 ms": sum(s["n"] > 0 and s["most"] <= 20 for s in squeezes),
            f"{name}, rounds without a gap over 120 ms": sum(not each["gaps over 120 ms"] for each in own),
        }
        if not _is_judged(name) or f"{name}, {MEDIANS}" not in rounds[0]:
            continue
        medians = [each[f"{name}, {MEDIANS}"] for each in rounds]
        found |= {
            f"{name}, {MEDIANS}": spread(medians),
            f"{name}, {SENT}": spread([each[f"{name}, {SENT}"] for each in rounds]),
            f"{name}, rounds whose median is within 20 ms of the floor's": sum(abs(m) <= 20 for m in medians),
            f"{name}, rounds whose 95 % are within": sum(each[f"{name}, {RANGE}"].endswith("yes") for each in rounds),
        }
    return {**found, "rounds": len(rounds)}


async def within(limit: anyio.Semaphore, work: Callable[[str], Awaitable[None]], name: str) -> None:
    """Do it when its turn comes."""
    async with limit:
        await work(name)


def main() -> None:
    """Measure and print, a table a rate."""
    parser = arguments(__doc__, seconds=60)
    parser.add_argument("--rates", default="24000")
    parser.add_argument("--chunk-ms", type=float, default=100.0)
    paced(parser)
    parser.add_argument("--beside", action="store_true", help="all subjects at once")
    parser.add_argument("--rounds", type=int, default=1, help="measure so many times, and count what was kept")
    asked = parser.parse_args()
    names = asked.subjects.split(",")
    everything: dict[str, Figures] = {}

    for rate in map(int, asked.rates.split(",")):

        async def measure(livekit: LiveKitServer, folder: Path, rate: int = rate) -> Figures:
            figures: Figures = {}
            together = len(names) if asked.beside else 1
            turns, limit = Turns(together), anyio.Semaphore(together)

            async def one(name: str) -> None:
                figures[name] = await talk_beeps(
                    name,
                    livekit,
                    folder,
                    seconds=asked.seconds,
                    rate=rate,
                    chunk_ms=asked.chunk_ms,
                    pace=asked.pace,
                    turns=turns,
                )

            async with anyio.create_task_group() as tasks:
                for name in names:
                    tasks.start_soon(within, limit, one, name)
            figures = {name: figures[name] for name in names}
            return figures | judged(figures)

        rounds: list[Figures] = []
        for _ in range(asked.rounds):
            print(f"--- {rate} Hz, writes of {asked.chunk_ms:g} ms")
            sys.stdout.flush()
            rounds.append(run(measure, None))
        everything[str(rate)] = rounds[0] if len(rounds) == 1 else {f"round {n}": r for n, r in enumerate(rounds, 1)}
        if len(rounds) > 1:
            counted = over_rounds(rounds)
            print(f"--- {rate} Hz, all rounds")
            print("\n".join(f"{name:80} {short(value)}" for name, value in counted.items()))
            everything[str(rate)] |= counted
    if asked.json:
        asked.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
