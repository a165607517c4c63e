"""The floor: the plain SDK publishing ready 512x512 pictures and continuous sound.

python bench/livekit/floor.py [--seconds 60] [--rate 24000] [--json FILE]
"""

from __future__ import annotations

from pathlib import Path

from measuring import Figures, arguments, run, talk_beeps
from visavis.testing.livekit.server import LiveKitServer


def main(name: str = "floor") -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=60, subjects="")
    parser.add_argument("--rate", type=int, default=24_000)
    asked = parser.parse_args()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        return {name: await talk_beeps(name, livekit, folder, seconds=asked.seconds, rate=asked.rate)}

    run(measure, asked.json)


if __name__ == "__main__":
    main()
