"""What worker processes cost: talking sessions on one core under the launcher `local` and under `process`, one worker.

    python bench/livekit/launchers.py [--seconds 20] [--sessions 2] [--pace 4]

As in cpu.py: the server and what it starts run on core 0 alone, and processor time is that of all of them. "the server
itself" is what the parent of the worker spends.
"""

from __future__ import annotations

from pathlib import Path

from cpu import apart, our_cost, recording
from measuring import Figures, arguments, paced, run
from subjects import LOCAL
from visavis.testing.livekit.server import LiveKitServer

LAUNCHERS = {"local": LOCAL, "process": "{use: process, workers: 1}"}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=20, subjects="")
    parser.add_argument("--sessions", type=int, default=2)
    paced(parser)
    asked = parser.parse_args()
    apart()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        pcm, rate = recording()
        figures = {
            name: await our_cost(
                livekit, folder / name, pcm, rate, asked.sessions, asked.seconds, pace=asked.pace, launcher=launcher
            )
            for name, launcher in LAUNCHERS.items()
        }
        ours = figures["process"]
        ours["ratio to local"] = round(ours["cores a session"] / figures["local"]["cores a session"], 3)
        return {f"{name}, {asked.sessions} talking": found for name, found in figures.items()}

    run(measure, asked.json)


if __name__ == "__main__":
    main()
