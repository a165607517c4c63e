"""Does memory stay flat, however long the recording is?

    python bench/flat_memory.py --minutes 60

Renders a recording of that length with the tiny test avatar through the whole pipeline (file source, ONNX Runtime, file
transport) and reads the process's largest resident size on the way. Exits with 1 if it grew by more than ``--limit`` MB
after the first tenth. Needs ``visavis[standard,testing]``; POSIX.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import wave
from pathlib import Path

import anyio
import numpy as np
from visavis.config import make_deployment
from visavis.interfaces.session import SessionRequest, SessionStats
from visavis.registry import Registry
from visavis.supervisor import run_session
from visavis.testing import tiny_avatar

RATE = 8_000
FPS = 10


def megabytes() -> float:
    """The largest resident size so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def babble(path: Path, minutes: float) -> None:
    """Noise with a syllable's rhythm, written a second at a time."""
    rng = np.random.default_rng(0)
    rhythm = np.maximum(0, np.sin(2 * np.pi * 2.5 * np.arange(RATE) / RATE))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(round(minutes * 60)):
            file.writeframes((rng.normal(0, 3_000, RATE) * rhythm).clip(-32_768, 32_767).astype("<i2").tobytes())


def measure(minutes: float, folder: Path) -> dict[str, float]:
    """Render and return the figures."""
    tiny_avatar(folder / "tiny.hvia")
    babble(folder / "long.wav", minutes)
    deployment = make_deployment({"store": {"use": "filesystem", "root": str(folder)}}, Registry.discover())
    request = SessionRequest(
        avatar="tiny", source={"path": str(folder / "long.wav")}, transport={"path": str(folder / "long.mp4")}
    )
    marks: list[tuple[int, float]] = []

    def mark(stats: SessionStats) -> None:
        marks.append((stats.frames, megabytes()))

    async def render() -> SessionStats:
        return await run_session(deployment, request, on_progress=mark)

    started = time.monotonic()
    stats = anyio.run(render)
    wall = time.monotonic() - started
    expected = round(minutes * 60 * FPS)
    if stats.frames != expected:
        raise SystemExit(f"{stats.frames} frames instead of {expected}")
    early = next(size for frames, size in marks if frames >= expected / 10)
    return {
        "minutes": minutes,
        "frames": stats.frames,
        "wall_s": round(wall, 1),
        "times_real_time": round(minutes * 60 / wall, 1),
        "mb_after_a_tenth": round(early, 1),
        "mb_at_the_end": round(megabytes(), 1),
        "mb_grown": round(megabytes() - early, 1),
    }


def main() -> int:
    """Parse, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--limit", type=float, default=40.0, metavar="MB", help="how much it may grow")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(given.minutes, Path(folder))
    print(json.dumps(figures))
    return 0 if figures["mb_grown"] <= given.limit else 1


if __name__ == "__main__":
    sys.exit(main())
