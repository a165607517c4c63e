"""What sharing a call saves: throughput of both graphs at batch 1 to 16, as ratios to batch 1 of the same run.

    python bench/batching.py [--avatar FILE] [--precision fp32 int8 ...] [--rounds 40] [--gate]

One thread, processor time, batches in turns. Between calls some megabytes are moved, as in a session: weights do not
stay in the nearest cache there. ``--gate`` exits 1 where a batch of 8 has less than MOTION times (motion graph) or FACE
times (face graph) the throughput of batch 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from variants import MIRA, executors
from visavis.hvia import open_hvia
from visavis_renderer_onnxruntime.renderer import OnnxRuntimeExecutor

BATCHES = (1, 2, 4, 8, 16)
MOTION, FACE = 1.5, 0.95
ELSEWHERE = 4 * 2**20
"""Bytes that are moved between calls."""


def milliseconds(executor: OnnxRuntimeExecutor, rounds: int) -> dict[int, float]:
    """Median milliseconds a row for each size of batch."""
    rng = np.random.default_rng(0)
    shapes = {end.name: end.shape[1:] for end in executor.inputs}
    feeds = {
        batch: {name: (0.2 * rng.random((batch, *shape))).astype(np.float32) for name, shape in shapes.items()}
        for batch in BATCHES
    }
    elsewhere = np.zeros(ELSEWHERE, np.uint8)
    taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for number in range(rounds + 2):
        for batch in BATCHES:
            elsewhere += 1
            began = time.thread_time()
            executor.run(feeds[batch])
            if number >= 2:
                taken[batch].append(1000 * (time.thread_time() - began) / batch)
    return {batch: float(np.median(times)) for batch, times in taken.items()}


def main() -> int:
    """Print a line a graph; exit 1 with --gate where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path, default=MIRA)
    parser.add_argument("--precision", nargs="*", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--gate", action="store_true")
    said = parser.parse_args()
    missed = False
    print(f"{'throughput, batch 1 = 1':24}" + "".join(f"{batch:>8}" for batch in BATCHES) + "   ms at batch 1")
    with open_hvia(said.avatar) as avatar:
        for which, bound in (("motion", MOTION), ("face", FACE)):
            for precision, executor in executors(avatar, which).items():
                if precision not in said.precision:
                    continue
                took = milliseconds(executor, said.rounds)
                gains = {batch: took[1] / took[batch] for batch in BATCHES}
                short = gains[8] < bound
                missed |= short
                line = "".join(f"{gains[batch]:8.2f}" for batch in BATCHES)
                print(f"{which + ' ' + precision:24}{line}   {took[1]:.2f}" + ("  MISSED" if short else ""))
    return int(said.gate and missed)


if __name__ == "__main__":
    sys.exit(main())
