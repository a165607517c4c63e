"""Train the motion network on prepared speech; resumes from its checkpoint.

    train.py READY OUT --minutes 25 [--held-out kal16 kal_diphone] [--seed 1] [--size 32]

One thread. Writes OUT/checkpoint.pt (weights, optimiser, averaged weights) every few minutes and prints
losses and figures on the held-out voices.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from dataset import Batches, disturb
from network import Motion, smoothstep
from sizes import LABELS
from prepare import load
from torch import Tensor

WEIGHTS = {
    "slt": 1.5, "rms": 2.0, "awb": 2.0, "kal16": 0.6, "cmu_us_slt_arctic_hts": 1.3, "kal_diphone": 0.8, "ked_diphone": 1.3, "upc_ca_ona_hts": 1.2,
    "msu_ru_nsh_clunits": 2.0, "lp_diphone": 0.9, "pc_diphone": 0.9, "czech_dita": 0.7, "czech_machac": 0.7,
    "czech_krb": 0.5, "czech_ph": 0.6, "hy_fi_mv_diphone": 0.7, "suo_fi_lj_diphone": 0.7, "hindi_NSK_diphone": 0.6,
    "telugu_NSK_diphone": 0.3, "espeak-en-us": 0.3, "espeak-de": 0.35, "espeak-sv": 0.35, "espeak-ja": 0.35,
    "espeak-fr": 0.25,
}  # fmt: skip


def losses(raw: Tensor, y: Tensor, poses: Tensor, spread: Tensor) -> dict[str, Tensor]:
    """Weighted parts of the loss."""
    want, shut, bite, brow, blink = y[..., :LABELS], y[..., LABELS], y[..., LABELS + 1], y[..., LABELS + 2], y[..., LABELS + 3]
    weight = 1 + 1.5 * shut + 1.0 * bite
    share = F.log_softmax(raw[..., :LABELS], -1)
    cross = -(want * share).sum(-1) + (want * torch.log(want + 1e-6)).sum(-1)
    got, ideal = share.exp() @ poses, want @ poses
    shape = ((got - ideal).abs() / spread).sum(-1)
    move = (((got[:, 1:] - got[:, :-1]) - (ideal[:, 1:] - ideal[:, :-1])).abs() / spread).sum(-1)
    gate = lambda i, t, p: F.binary_cross_entropy_with_logits(raw[..., LABELS + i], t, pos_weight=torch.tensor(p))  # noqa: E731
    return {
        "dominance": (cross * weight).mean(),
        "shape": 0.10 * (shape * weight).mean(),
        "move": 0.08 * move.mean(),
        "shut": 1.6 * gate(0, shut, 1.5),
        "bite": 0.8 * gate(1, bite, 1.5),
        "brow": 1.0 * ((raw[..., LABELS + 2] - brow) ** 2).mean(),
        "blink": 0.3 * ((raw[..., LABELS + 3] - blink) ** 2).mean(),
    }


@torch.no_grad()
def figures(net: Motion, batch: tuple[Tensor, Tensor, Tensor]) -> str:
    """Viseme accuracy, closures found and false, on a held-out batch."""
    x, mel, y = batch
    raw = net(net.features(x, mel))[:, 8:]
    y = y[:, 8:]
    right = (raw[..., :LABELS].argmax(-1) == y[..., :LABELS].argmax(-1)).float()
    talk = y[..., 0] < 0.5
    shut, found = y[..., LABELS] > 0.6, smoothstep(torch.sigmoid(raw[..., LABELS]), 0.25, 0.6) > 0.7
    near = F.max_pool1d(shut.float(), 7, 1, 3) > 0
    starts = shut & ~F.pad(shut, (1, 0))[:, :-1]
    hit = F.max_pool1d(found.float(), 7, 1, 3) > 0
    false = found & ~near & talk
    false_starts = false & ~F.pad(false, (1, 0))[:, :-1]
    true = int((starts & hit).sum())
    rest = raw[..., :LABELS].softmax(-1)[..., 0]
    return (
        f"viseme {right[talk].mean():.3f} closures {true / max(1, int(starts.sum())):.3f} false {int(false_starts.sum()) / max(1, true):.3f} "
        f"rest {(rest[~talk] > 0.6).float().mean():.3f} rest-in-speech {(rest[talk] > 0.6).float().mean():.3f}"
    )


def average_spectrum(net: Motion, batches: Batches) -> Tensor:
    """Mean log mel of speech under its level, over some clips."""
    with torch.no_grad():
        net.average.zero_()
        x, _, _ = batches.next(48)
        frames = F.pad(x, (240, 0)).unfold(1, 400, 160)
        power = net.spectrum(frames)
        level = net.loudness(power).amax(1, keepdim=True)
        logs, _, w = net.relative(power, level)
        return (logs * w).sum((0, 1)) / w.sum((0, 1))


def main() -> None:
    """Train for a time, not for a number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ready", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--held-out", nargs="*", default=["kal16", "kal_diphone", "espeak-it"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--start", type=Path, help="weights to begin from")
    o = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    o.out.mkdir(parents=True, exist_ok=True)
    files = [f for folder in o.ready for f in sorted(folder.glob("*.npz"))]
    voices: dict[str, list] = {}
    for f in files:
        voices.setdefault(f.stem, []).extend(load(f))
    groups = [(u, WEIGHTS.get(n, 0.12)) for n, u in voices.items() if n not in o.held_out]
    print(len(groups), "voices", sum(len(u.pcm) for g, _ in groups for u in g) / 16000 / 3600, "h", flush=True)
    batches = Batches(groups, o.seed)
    test = Batches([(voices[n], 1.0) for n in o.held_out if n in voices], 99, clean=False).next(32)
    net = Motion()
    net.average.copy_(average_spectrum(net, Batches([(g[:60], w) for g, w in groups], 5, clean=True)))
    optimiser = torch.optim.AdamW(net.parameters(), o.rate, weight_decay=0.02, betas=(0.9, 0.98))
    if o.start:
        net.load_state_dict(torch.load(o.start, weights_only=True)["average"])
    mean = copy.deepcopy(net)
    spent, step, path = 0.0, 0, o.out / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        net.load_state_dict(saved["net"])
        mean.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        spent, step = saved["spent"], saved["step"]
        batches.rng = np.random.default_rng(o.seed + step)
    import visemes

    poses = torch.from_numpy(visemes.POSES.copy())
    spread = poses.std(0).clamp(min=0.03)
    poses, spread = poses[:, poses.std(0) > 0], spread[poses.std(0) > 0]
    began, shown, run = time.monotonic() - spent, spent, {}
    while (gone := time.monotonic() - began) < o.minutes * 60:
        part = gone / (o.minutes * 60)
        for group in optimiser.param_groups:
            group["lr"] = o.rate * min(1.0, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        x, mel, y = batches.next(o.size)
        with torch.no_grad():
            f = disturb(net.features(x, mel), batches.rng)
        with torch.autocast("cpu", torch.bfloat16):
            raw = net(f)
        parts = losses(raw.float(), y, poses, spread)
        loss = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            keep = min(0.998, 1 - 1 / (step + 1))
            for a, b in zip(mean.parameters(), net.parameters(), strict=True):
                a.lerp_(b, 1 - keep)
        for k, v in parts.items():
            run[k] = 0.98 * run.get(k, v.item()) + 0.02 * v.item()
        if gone - shown > 90:
            shown = gone
            print(f"{step} {gone / 60:.1f} min", " ".join(f"{k} {v:.3f}" for k, v in run.items()), "|", figures(mean, test), flush=True)
            save(path, net, mean, optimiser, gone, step)
    save(path, net, mean, optimiser, time.monotonic() - began, step)
    print("done", step, figures(mean, test), flush=True)


def save(path: Path, net: Motion, mean: Motion, optimiser: torch.optim.Optimizer, spent: float, step: int) -> None:
    """Write and rename."""
    new = path.with_suffix(".new")
    torch.save({"net": net.state_dict(), "average": mean.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}, new)
    new.rename(path)


if __name__ == "__main__":
    main()
