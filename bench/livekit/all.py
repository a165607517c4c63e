"""All benches of the room, short versions one after the other, as tables for RESULTS.md.

    python bench/livekit/all.py [--scale 1.0] [--out FILE] [--only sync,latency]

About twenty minutes at scale 1. A figure without its floor says little: each table has it beside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import is_subject, short

HERE = Path(__file__).resolve().parent


def commands(scale: float) -> dict[str, list[str]]:
    """What is run: a name, and the script with its arguments."""

    def of(seconds: float) -> str:
        return str(round(scale * seconds))

    count = str(max(3, round(20 * scale)))
    return {
        "sync": ["sync.py", "--beside", "--seconds", of(60)],
        "rates": [
            *("sync.py", "--beside", "--seconds", of(30), "--rates", "8000,16000,44100,48000"),
            *("--chunk-ms", "37.3", "--subjects", "floor,visavis"),
        ],
        "latency": ["latency.py", "--utterances", count],
        "interrupt": ["interrupt.py", "--interruptions", count],
        "cpu": ["cpu.py", "--seconds", of(30), "--sessions", "1,2,4"],
        "soak": ["soak.py", "--sessions", str(max(6, round(40 * scale)))],
    }


def table(figures: Mapping[str, Any]) -> list[str]:
    """Figures as a table in Markdown."""
    subjects = [name for name in figures if is_subject(name)]
    lines = []
    if subjects:
        lines += [f"| | {' | '.join(subjects)} |", "|---" * (len(subjects) + 1) + "|"]
        for row in dict.fromkeys(row for name in subjects for row in figures[name]):
            cells = (short(figures[name].get(row, "")) for name in subjects)
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines.append("")
    others = [(name, value) for name, value in figures.items() if name not in subjects]
    if others:
        lines += ["| | |", "|---|---|", *(f"| {name} | {short(value)} |" for name, value in others), ""]
    return lines


def section(name: str, command: Sequence[str], figures: Mapping[str, Any]) -> list[str]:
    """A command and its tables."""
    lines = [f"`python bench/livekit/{' '.join(command)}`", ""]
    if name in ("sync", "rates"):
        for rate, found in figures.items():
            lines += [f"{rate} Hz:", "", *table(found)]
        return lines
    return lines + table(figures)


def main() -> int:
    """Run all, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths and counts")
    parser.add_argument("--out", type=Path, help="write the tables there")
    parser.add_argument("--only", help="names, with commas between")
    asked = parser.parse_args()
    lines: list[str] = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(asked.scale).items():
            if asked.only and name not in asked.only.split(","):
                continue
            out = Path(folder) / f"{name}.json"
            ran = subprocess.run(
                [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(out)], check=False
            )
            if ran.returncode:
                failed += 1
                lines += [f"`{' '.join(command)}` failed", ""]
                continue
            lines += section(name, command, json.loads(out.read_text()))
            if asked.out:
                asked.out.write_text("\n".join(lines))
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
