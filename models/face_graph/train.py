"""Trains one branch of the face graph on a folder of rendered pictures; run it again to train on.

    python models/face_graph/train.py mouth --pictures P --drawings D --drawn 0.8 --out mouth.pt --minutes 10
    python models/face_graph/train.py mouth --pictures P --drawings D --drawn 0.2 --out mouth.pt --minutes 20 --peak 0.5

One core does: a step on eight crops takes about 0.1 s. The checkpoint holds the plan, the weights and their running
mean (which is what is exported), and is written whole or not at all.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import Branch
from optimiser import Steps
from pictures import Pictures, held_out, joined, load
from plans import PLANS, planned
from torch import Tensor
from torch.nn import functional

BATCH = 8
RESTING = 0.04
"""How often a picture of the batch is the resting face instead: what is shown most must be best."""


class Crops:
    """A branch's pictures as tensors, the mean picture, and how much each pixel counts.

    `drawings` come after the rendered pictures, and a row of a batch is one of them with probability `drawn`.
    """

    def __init__(self, pictures: Pictures, drawings: Pictures | None = None, drawn: float = 0.0) -> None:
        sets = [pictures] if drawings is None else [pictures, drawings]
        self.y = torch.from_numpy(np.concatenate([each.y for each in sets]))
        self.uv = torch.from_numpy(np.concatenate([each.uv for each in sets]))
        self.coefficients = torch.from_numpy(np.concatenate([each.coefficients for each in sets]))
        self.rendered, self.drawn = len(pictures.y), drawn if drawings is not None else 0.0
        apart = torch.from_numpy(held_out(self.rendered))
        self.training, self.testing = torch.where(~apart)[0], torch.where(apart)[0]
        y = self.y[self.training].float() / 255
        self.mean_y = y.mean(0, keepdim=True)
        self.mean_uv = (self.uv[self.training].float() / 255).mean(0, keepdim=True)
        spread = functional.avg_pool2d(y.std(0, keepdim=True), 9, 1, 4)
        self.weight = 0.5 + 4 * (spread / spread.max()).sqrt()
        self.moving = spread > 0.25 * spread.max()
        """[1,1,h,w] bool: the pixels that change most (lips, or lids), on which progress is measured."""

    def draw(self) -> Tensor:
        """Row numbers of one batch."""
        rows = self.training[torch.randint(len(self.training), (BATCH,))]
        rows = torch.where(torch.rand(BATCH) < RESTING, torch.zeros_like(rows), rows)
        if self.drawn:
            others = torch.randint(self.rendered, len(self.y), (BATCH,))
            rows = torch.where(torch.rand(BATCH) < self.drawn, others, rows)
        return rows

    def truth(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Y and UV of these rows in units of 255."""
        return self.y[rows].float() / 255, self.uv[rows].float() / 255


def slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours, across and down."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def loss(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    """How wrong a picture is: level and slopes of Y (for sharpness), level of UV, moving pixels counting more."""
    (y, uv), (true_y, true_uv) = got, want
    wrong = y - true_y
    total = (torch.sqrt(wrong**2 + 1e-5) * weight).mean() + 8 * (wrong**2 * weight).mean()
    across, down = slopes(wrong)
    total = total + 0.5 * (across.abs() * weight[..., 1:]).mean() + 0.5 * (down.abs() * weight[..., 1:, :]).mean()
    return total + (torch.sqrt((uv - true_uv) ** 2 + 1e-5) * functional.avg_pool2d(weight, 2)).mean()


@torch.no_grad()
def score(branch: Branch, crops: Crops, rows: Tensor) -> tuple[float, float]:
    """Mean PSNR of Y in dB over these pictures: the pixels that move, and the whole crop."""
    found = []
    for some in rows.split(16):
        y, _ = branch(crops.coefficients[some])
        error = (y.clamp(0, 1) - crops.truth(some)[0]) ** 2
        moving = error[crops.moving.expand_as(error)].view(len(some), -1).mean(1)
        found.append(torch.stack([moving, error.mean((1, 2, 3))]))
    decibels = -10 * torch.log10(torch.cat(found, 1)).mean(1)
    return float(decibels[0]), float(decibels[1])


def save(path: Path, **what: Any) -> None:
    """Write a checkpoint whole or not at all."""
    torch.save(what, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


class Run:
    """A branch in training: weights, their running mean, optimiser, count of steps."""

    def __init__(self, name: str, crops: Crops, box: tuple[int, int, int, int], out: Path) -> None:
        self.crops, self.out, self.step = crops, out, 0
        used = np.flatnonzero(np.ptp(crops.coefficients.numpy(), axis=0) > 0)
        self.plan = planned(name, box, tuple(int(n) for n in used))
        self.branch = Branch(self.plan, crops.coefficients.shape[1])
        with torch.no_grad():
            self.branch.rest_y.copy_(crops.mean_y)
            self.branch.rest_uv.copy_(crops.mean_uv)
        self.branch = self.branch.to(memory_format=torch.channels_last)
        self.steps = Steps(self.branch)
        self.mean = copy.deepcopy(self.branch).requires_grad_(False)
        if out.exists():
            self.resume(torch.load(out, weights_only=True))

    def resume(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same plan."""
        if saved["plan"] != self.plan.as_json():
            raise SystemExit(f"{self.out} was trained on another plan; give another --out")
        self.branch.load_state_dict(saved["weights"])
        self.mean.load_state_dict(saved["mean"])
        self.steps.restore(saved["steps"])
        self.step = saved["step"]

    def advance(self, share: float) -> float:
        """One step; the loss."""
        rows = self.crops.draw()
        with torch.autocast("cpu", torch.bfloat16):
            y, uv = self.branch(self.crops.coefficients[rows])
        wrong = loss((y.float(), uv.float()), self.crops.truth(rows), self.crops.weight)
        wrong.backward()
        self.steps.step(share)
        self.step += 1
        decay = min(0.998, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.branch.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        return float(wrong.detach())

    def save(self) -> None:
        """Write the checkpoint."""
        save(self.out, plan=self.plan.as_json(), coefficients=self.crops.coefficients.shape[1], step=self.step,
             weights=self.branch.state_dict(), mean=self.mean.state_dict(), steps=self.steps.state())

    def report(self, seconds: float, wrong: float) -> None:
        """Print where it stands."""
        moving, whole = score(self.mean, self.crops, self.crops.testing)
        known, _ = score(self.mean, self.crops, self.crops.training[:96])
        print(f"step {self.step} {seconds:.0f}s loss {wrong:.4f} held out: moving {moving:.2f} dB whole {whole:.2f} dB;"
              f" trained: moving {known:.2f} dB", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted({p.partition("-")[0] for p in PLANS} | set(PLANS)))
    parser.add_argument("--pictures", type=Path, required=True, nargs="+", help="one or several folders of sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--drawings", type=Path, help="pictures by drawings.py to learn from as well")
    parser.add_argument("--drawn", type=float, default=0.5, help="the share of each batch that is drawings")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps instead (to compare plans)")
    parser.add_argument("--peak", type=float, default=1.0, help="the learning rates' highest share; less to train on")
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(said.seed)
    kind = said.name.partition("-")[0]
    pictures = joined([load(folder / kind) for folder in said.pictures])
    crops = Crops(pictures, load(said.drawings / kind) if said.drawings else None, said.drawn)
    run = Run(said.name, crops, pictures.box, said.out)
    size = sum(p.numel() for p in run.branch.parameters())
    print(f"{len(crops.y)} pictures, {crops.rendered} rendered, {size / 1e6:.2f} M numbers", flush=True)
    begun, first, told = time.monotonic(), run.step, time.monotonic()
    while True:
        done = (run.step - first) / said.steps if said.steps else (time.monotonic() - begun) / (60 * said.minutes)
        if done >= 1:
            break
        share = said.peak * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done)))
        wrong = run.advance(share * min(1.0, (run.step - first + 1) / 100))
        if time.monotonic() - told > 60:
            run.report(time.monotonic() - begun, wrong)
            run.save()
            told = time.monotonic()
    run.report(time.monotonic() - begun, wrong)
    run.save()


if __name__ == "__main__":
    main()
