"""Draw single pictures to judge the look: `python -m mira.look --ict MESH --out DIR jawOpen=0.5 ...`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import FRAME, WHOLE, Box
from .coefficients import ARKIT_52
from .scene import Studio


def expression_of(text: str) -> NDArray[np.float64]:
    """[52] from "name=value,name=value"; a name without Left/Right sets both."""
    out = np.zeros(len(ARKIT_52))
    for item in filter(None, text.split(",")):
        name, value = item.split("=")
        names = [n for n in (name, name + "Left", name + "Right") if n in ARKIT_52]
        if not names:
            raise ValueError(f"no coefficient {name!r}")
        out[[ARKIT_52.index(n) for n in names]] = float(value)
    return out


def main() -> None:
    """Render one picture for each expression given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--ict", type=Path, required=True, help="the mesh file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--box", default="", help="x,y,w,h in the frame")
    parser.add_argument("expressions", nargs="*", default=[""])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    box = Box(*map(int, args.box.split(","))) if args.box else WHOLE
    studio = Studio(args.ict, args.threads)
    sheet = []
    for text in args.expressions:
        studio.pose(expression_of(text))
        start = time.perf_counter()
        sheet.append(studio.picture(box, args.samples))
        print(f"{text or 'neutral'}: {time.perf_counter() - start:.1f} s at {FRAME} px", flush=True)
    cv2.imwrite(str(args.out / "look.png"), cv2.cvtColor(np.concatenate(sheet, 1), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
