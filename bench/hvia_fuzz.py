"""Fuzzes the reader of avatar files: ``python bench/hvia_fuzz.py --cases 20000``.

Every case is a damaged copy of the tiny avatar's file, judged in a forked child of one warm process under limits of
memory and time. It has to be refused with an AvatarError of one line or accepted; nothing may crash, hang, be written,
be opened beside the file, or be executed. Case n of a seed is the same bytes for ever: ``--start`` resumes a run,
``--only`` repeats a case. Exit status 1 if a case was not fine; its file is kept in ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "core" / "tests" / "hvia"))

from hvia_forge import Parts, take_apart
from hvia_mutations import case
from hvia_warm import WarmProcess
from visavis.testing.tiny import tiny_avatar

PROGRESS_S = 10.0


@dataclass
class Summary:
    """What became of a run."""

    seed: int
    start: int
    cases: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run it; returns the exit status."""
    options = _options()
    summary = Summary(options.seed, options.start)
    with tempfile.TemporaryDirectory() as folder:
        parts = take_apart(tiny_avatar(folder))
    numbers = [options.only] if options.only is not None else range(options.start, options.start + options.cases)
    began = shown = time.monotonic()
    try:
        with WarmProcess() as warm:
            for number in numbers:
                _one(warm, parts, number, summary, options.keep)
                summary.seconds = time.monotonic() - began
                if time.monotonic() - shown > PROGRESS_S:
                    shown = time.monotonic()
                    _progress(summary, len(numbers))
    except KeyboardInterrupt:
        print(f"stopped; go on with --start {summary.start + summary.cases}", file=sys.stderr)
    _show(summary, as_json=options.json)
    return 1 if summary.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the reader of avatar files.")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the first case: resume where a run stopped")
    parser.add_argument("--only", type=int, help="one case alone")
    parser.add_argument("--keep", type=Path, default=Path("hvia-fuzz-kept"), help="where bad cases are kept")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser.parse_args()


def _one(warm: WarmProcess, parts: Parts, number: int, summary: Summary, keep: Path) -> None:
    kind, data = case(parts, summary.seed, number)
    verdict = warm.judge(data)
    summary.cases += 1
    outcome = verdict.outcome if verdict.fine else "wrong"
    summary.outcomes[outcome] += 1
    summary.kinds.setdefault(kind, Counter())[outcome] += 1
    if outcome == "refused":
        # Without the numbers and names in it, a reason says which check spoke.
        summary.reasons.add("".join(c for c in verdict.reason.split(":")[-1] if not c.isdigit())[:40])
    if verdict.seconds > summary.slowest_s:
        summary.slowest_s, summary.slowest = verdict.seconds, f"{kind} {number}"
    if not verdict.fine:
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{kind}-{summary.seed}-{number}.hvia"
        path.write_bytes(data)
        summary.wrong.append(f"{path.name}: {verdict.outcome}: {verdict.reason} {verdict.violations}")
        print(summary.wrong[-1], file=sys.stderr)


def _progress(summary: Summary, total: int) -> None:
    rate = summary.cases / summary.seconds
    left = (total - summary.cases) / rate
    print(
        f"{summary.cases}/{total}  {rate:.0f} a second, {left:.0f} s left  {dict(summary.outcomes)}",
        file=sys.stderr,
        flush=True,
    )


def _show(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(summary), "reasons": len(summary.reasons)}))
        return
    for kind in sorted(summary.kinds):
        counts = summary.kinds[kind]
        print(f"{kind:18} {sum(counts.values()):6}  refused {counts['refused']:6}  accepted {counts['accepted']:6}")
    print(
        f"{summary.cases} cases (seed {summary.seed}, from {summary.start}) in {summary.seconds:.0f} s: "
        f"{summary.outcomes['refused']} refused for about {len(summary.reasons)} different reasons, "
        f"{summary.outcomes['accepted']} accepted, {len(summary.wrong)} wrong; "
        f"the slowest took {summary.slowest_s:.2f} s ({summary.slowest})"
    )


if __name__ == "__main__":
    sys.exit(main())
