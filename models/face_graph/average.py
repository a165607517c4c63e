"""The mean of several checkpoints of one branch: truer than any of them where each over-fitted differently.

    python models/face_graph/average.py mouth-1.pt mouth-2.pt mouth-3.pt --out mouth.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from train import save


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    said = parser.parse_args()
    found = [torch.load(path, weights_only=True) for path in said.checkpoints]
    if any(one["plan"] != found[0]["plan"] for one in found):
        raise SystemExit("the checkpoints are of different plans")
    first = found[0]
    first["mean"] = {name: sum(one["mean"][name] for one in found) / len(found) for name in first["mean"]}
    save(said.out, **first)


if __name__ == "__main__":
    main()
