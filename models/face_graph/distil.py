"""A face graph of patches (patches.py) that draws what another face graph draws, for a small part of its cost.

    export PYTHONPATH=models:models/variants OMP_NUM_THREADS=1
    python models/face_graph/distil.py pairs --teacher OLD.hvia --speech SPEECH --count 32000 --out PAIRS
    python models/face_graph/distil.py fit mouth --teacher OLD.hvia --pairs PAIRS --out mouth.pt --minutes 12
    python models/face_graph/distil.py fit eyes --teacher OLD.hvia --pairs PAIRS --out eyes.pt --minutes 5
    python models/face_graph/distil.py export mouth.pt eyes.pt --teacher OLD.hvia --pairs PAIRS --out face.onnx

No picture is rendered: the teacher is the network of network.py as an avatar file holds it, and draws as many as are
wanted. SPEECH are recordings that the file's motion graph hears; whatever is judged later must not be among them.
Pictures are kept as their coordinates in a basis of principal pictures, in which distances are those of pixels, so a
step of training never touches a pixel. Needs torch, onnx, onnxruntime, av, numpy and visavis.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from mira.coefficients import ARKIT_52
from mira.sampling import eyes_row, mouth_row
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from optimiser import Steps
from patches import CHROMA, LUMA, Box, Floats, Kind, Layer, Part, Still, cut, graph, joined
from plans import PATCHES, PatchPlan
from speech import expressions, recordings, seldom, session
from torch import Tensor, nn
from torch.nn import functional
from visavis.graphs1.behaviours import Behaviours
from visavis.hvia import open_hvia
from visavis.hvia.graphs import load_graphs

COLOUR = 1.7
"""How much a level of chroma counts beside one of luma: a chroma pixel covers four, but the eye and RGB blur it."""
COUNTS = np.where(np.arange(LUMA + CHROMA) < LUMA, 1.0, COLOUR)
FIRST, MOST = 4000, 512
"""So many pictures make the basis, which has so many principal ones."""
BATCH = 256
SCALE = 5.0
"""Root of the mean square of a picture's coordinates as they are learnt."""
TAIL = 0.3
"""How much the squares of errors count beside their roots. An error of 1 is a picture of 46 dB."""
FPS = Fraction(25)


class Teacher:
    """The graphs of an avatar file, and where in the face graph its branches end."""

    def __init__(self, path: Path) -> None:
        with open_hvia(path) as file:
            graphs = load_graphs(file)
        self.motion = session(onnx.load_model_from_string(graphs.motion.data))
        self.model = onnx.load_model_from_string(graphs.face.data)
        known = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Cast" and node.input[0] in known:
                known[node.output[0]] = known[node.input[0]].astype(np.float32)
        self.still = Still(known["base_y"], known["base_uv"], known["alpha.1"])
        self.ends, self.boxes = list[str](), list[Box]()
        nodes = self.model.graph.node
        heard = {n.output[0]: known[n.input[1]] for n in nodes if n.op_type == "Mul" and n.input[0] == "expression"}
        layers = {
            n.input[1].split(".")[1]: heard[n.input[0]] for n in nodes if n.op_type == "Gemm" and n.input[0] in heard
        }
        self.hears: list[Floats] = [layers[str(number)][0] for number in range(len(layers))]
        for number in range(len(layers)):
            for plane in ("y", "uv"):
                faded = next(n.output[0] for n in nodes if n.op_type == "Mul" and f"fade_{plane}{number}" in n.input)
                self.ends.append(faded)
                self.model.graph.output.append(helper.make_tensor_value_info(faded, TensorProto.FLOAT, None))
                if plane == "y":
                    pads = known[next(n.input[1] for n in nodes if n.op_type == "Pad" and n.input[0] == faded)]
                    high, wide = known[f"fade_y{number}"].shape[2:]
                    self.boxes.append((int(pads[3]), int(pads[2]), wide, high))
        self.face = session(self.model)

    def drawn(self, rows: Floats) -> list[tuple[Floats, Floats]]:
        """[N, 52] -> of each branch what it adds, in levels: [N, h, w] and [N, 2, h/2, w/2]."""
        parts = [self.face.run(self.ends, {"expression": rows[k : k + 8]}) for k in range(0, len(rows), 8)]
        planes = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return [(planes[k][:, 0], planes[k + 1]) for k in range(0, len(planes), 2)]


def flat(planes: tuple[Floats, Floats]) -> Floats:
    """Planes as one row a picture [N, P], chroma as it counts."""
    y, uv = planes
    return np.concatenate([y.reshape(len(y), -1), COLOUR * uv.reshape(len(uv), -1)], 1)


def lively(count: int, rng: np.random.Generator) -> Floats:
    """[count, 52]: eyes as a renderer moves them. Every second is in a blink, though few are: a lid moves far."""
    behaviours, still = Behaviours(list(ARKIT_52), FPS, "pairs"), np.zeros(len(ARKIT_52), np.float32)
    rows = np.stack([behaviours.step(still, rng.normal(0, 1, 3)) for _ in range(8 * count)])
    shut = rows[:, ARKIT_52.index("eyeBlinkLeft")] > 0.02
    each = [some[rng.integers(len(some), size=count // 2 + 1)] for some in (rows[shut], rows[~shut])]
    return rng.permutation(np.concatenate(each))[:count].astype(np.float32)


def lids(count: int, rng: np.random.Generator) -> Floats:
    """[count, 52]: lids alone, with the squint of a blink, and now and then brows."""
    rows, shut = np.zeros((count, len(ARKIT_52)), np.float32), rng.random(count)
    for side, share in (("Left", 1.0), ("Right", rng.uniform(0.9, 1, count))):
        rows[:, ARKIT_52.index(f"eyeBlink{side}")] = shut * share
        rows[:, ARKIT_52.index(f"eyeSquint{side}")] = shut * rng.uniform(0, 0.2)
    rows[:, ARKIT_52.index("browInnerUp")] = (rng.random(count) < 0.4) * rng.uniform(0, 0.4, count)
    return rows


def asked(teacher: Teacher, speech: Sequence[Path], count: int, seed: int = 5) -> Floats:
    """[N, 52] what is asked of the teacher.

    Mouths: as spoken, between two spoken ones and beyond, and as models/mira draws for training (far out, too). Eyes:
    as a renderer moves them, and as models/mira draws. And rest, each coefficient at its fullest, and mixtures.
    """
    rng = np.random.default_rng(seed)
    spoken = expressions(teacher.motion, recordings(speech))[: count // 4]
    between = spoken[rng.integers(len(spoken), size=(2, count // 4))]
    share, much = rng.random((count // 4, 1)), rng.uniform(0.7, 1.25, (count // 4, 1))
    mixed = (share * between[0] + (1 - share) * between[1]) * much * (1 + 0.1 * rng.normal(size=between[0].shape))
    drawn = np.stack([mouth_row(rng) for _ in range(count - len(spoken) - len(mixed))])
    mouths = np.concatenate([spoken, mixed, drawn])
    far = [eyes_row(rng) for _ in range(count - count // 3 - count // 20)]
    eyes = rng.permutation(np.concatenate([np.stack(far), lively(count // 3, rng), lids(count // 20, rng)]))
    rows = np.concatenate([np.clip(mouths + eyes, 0, 1), seldom(200, len(ARKIT_52), seed=seed)])
    return rng.permutation(rows.astype(np.float32))


def principal(pictures: Floats, most: int) -> tuple[Floats, Floats]:
    """Mean [P] and orthonormal basis [P, most] of pictures [N, P] (by their products; N is far less than P)."""
    x = torch.from_numpy(pictures)
    mean = x.mean(0)
    x = x - mean
    products = x @ x.T
    axes = torch.randn(len(x), most + 40)
    for _ in range(4):
        axes, _ = torch.linalg.qr(products @ axes)
    squares, turn = torch.linalg.eigh(axes.T @ products @ axes)
    squares, turn = squares.flip(0)[:most], turn.flip(1)[:, :most]
    return mean.numpy(), ((x.T @ (axes @ turn)) / squares.sqrt()).numpy()


def pairs(teacher: Teacher, rows: Floats, out: Path) -> None:
    """Write OUT/0.npz, OUT/1.npz, ... for the branches.

    Each holds the rows, the pictures' coordinates, the square of what the basis leaves out, the basis and the mean.
    """
    out.mkdir(parents=True, exist_ok=True)
    bases = [principal(flat(planes), MOST) for planes in teacher.drawn(rows[:FIRST])]
    coordinates: list[list[Floats]] = [[] for _ in bases]
    left: list[list[Floats]] = [[] for _ in bases]
    for start in range(0, len(rows), 80):
        for k, planes in enumerate(teacher.drawn(rows[start : start + 80])):
            mean, basis = bases[k]
            x = flat(planes) - mean
            coordinates[k].append(x @ basis)
            left[k].append(np.maximum(0, (x**2).sum(1) - (coordinates[k][-1] ** 2).sum(1)))
    for k, (mean, basis) in enumerate(bases):
        np.savez(out / f"{k}.npz", rows=rows, coordinates=np.concatenate(coordinates[k]),
                 left=np.concatenate(left[k]), mean=mean, basis=basis)  # fmt: skip


class Student(nn.Module):
    """[B, 52] -> coordinates [B, R] of what a branch draws, by a perceptron whose last layer is linear."""

    def __init__(self, hidden: Sequence[int], coordinates: int, hears: Tensor) -> None:
        super().__init__()
        sizes = [len(hears), *hidden]
        self.register_buffer("hears", hears)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], coordinates)

    def features(self, x: Tensor) -> Tensor:
        """[B, H]"""
        x = x * self.hears
        for layer in self.hidden:
            x = functional.silu(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


@dataclass(frozen=True)
class Lessons:
    """Pairs as tensors, coordinates scaled, the last ones (every 25th) held out."""

    rows: Tensor
    wanted: Tensor
    left: Tensor
    unit: float
    pixels: int

    @classmethod
    def read(cls, path: Path, learnt: int) -> Lessons:
        """From a file of ``pairs``; so many coordinates are learnt, the others left out."""
        with np.load(path) as file:
            coordinates, left = torch.from_numpy(file["coordinates"]), torch.from_numpy(file["left"])
            unit = float(coordinates.pow(2).sum(1).mean().sqrt()) / SCALE
            left = left + coordinates[:, learnt:].pow(2).sum(1)
            pixels = len(file["mean"]) * 2 // 3
            return cls(torch.from_numpy(file["rows"]), coordinates[:, :learnt] / unit, left, unit, pixels)

    def decibels(self, got: Tensor, which: slice | Tensor) -> Tensor:
        """[N]: of each picture's luma and (as it counts) chroma over the whole box."""
        square = (got - self.wanted[which]).pow(2).sum(1) * self.unit**2 + self.left[which]
        return -10 * torch.log10(square / self.pixels / 255**2 + 1e-9)


def fit(lessons: Lessons, student: Student, out: Path, minutes: float, peak: float) -> None:
    """Train, and write the checkpoint; goes on from it where it is there already."""
    steps = Steps(student, adam=3e-3, ortho=2e-2, inner=("weight",))
    mean = copy.deepcopy(student).requires_grad_(False)
    if out.exists():
        saved = torch.load(out, weights_only=True)
        student.load_state_dict(saved["weights"])
        mean.load_state_dict(saved["mean"])
    apart = torch.arange(len(lessons.rows)) % 25 == 24
    training, testing = torch.where(~apart)[0], torch.where(apart)[0]
    begun, told, step, done = time.monotonic(), time.monotonic(), 0, 0.0
    while done < 1:
        done = (time.monotonic() - begun) / (60 * minutes)
        share = peak * min(1.0, (step + 1) / 100) * (0.002 + 0.998 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done))))
        some = training[torch.randint(len(training), (BATCH,))]
        square = (student(lessons.rows[some]) - lessons.wanted[some]).pow(2).sum(1)
        # The root makes good pictures better still, the square keeps what is far out in hand.
        ((square + 1e-4).sqrt() + TAIL * square).mean().backward()
        steps.step(share)
        step += 1
        with torch.no_grad():
            for kept, now in zip(mean.parameters(), student.parameters(), strict=True):
                kept.lerp_(now, 0.005 if step > 400 else 0.1)
        if time.monotonic() - told > 30 or done >= 1:
            told = time.monotonic()
            with torch.no_grad():
                unseen, seen = (
                    lessons.decibels(mean(lessons.rows[which]), which) for which in (testing, training[:1000])
                )
            said = f"held out {unseen.median():.2f} dB, 5 % under {unseen.quantile(0.05):.2f}, worst {unseen.min():.2f}"
            print(f"{step} steps, {told - begun:.0f} s: {said}; trained {seen.median():.2f}", flush=True)
            torch.save({"weights": student.state_dict(), "mean": mean.state_dict()}, out.with_suffix(".new"))
            os.replace(out.with_suffix(".new"), out)


class Drawn:
    """What a trained student draws, as a linear function of its features, patch by patch.

    ``middle`` [H] are its features' means and ``spread`` [H, H] a root of their covariance; ``turn`` [H, G, 384] says
    what each adds to ``still`` [G, 384], the picture in the middle. Chroma is as it counts.
    """

    def __init__(self, student: Student, lessons: Lessons, file: Path, box: Box) -> None:
        with np.load(file) as saved, torch.no_grad():
            basis = saved["basis"][:, : lessons.wanted.shape[1]].astype(np.float64) * lessons.unit
            features = student.features(lessons.rows[:8000]).numpy().astype(np.float64)
            self.middle = features.mean(0)
            self.spread = np.linalg.cholesky(np.cov(features.T) + 1e-9 * np.eye(len(self.middle)))
            last, bias = student.last.weight.numpy(), student.last.bias.numpy()
            still = saved["mean"] + basis @ (last @ self.middle + bias)
            pictures = np.concatenate([(basis @ last).T, still[None]])
        _, _, wide, high = box
        y, uv = pictures[:, : wide * high], pictures[:, wide * high :]
        whole = cut(y.reshape(-1, high, wide), uv.reshape(-1, 2, high // 2, wide // 2))
        self.turn, self.still = whole[:-1], whole[-1]

    def patterns(self, patch: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Its patterns [384, 384 at most], the most needed first, and how much (root mean square) each is needed."""
        patterns, needed, _ = np.linalg.svd(self.turn[:, patch].T @ self.spread, full_matrices=False)
        return patterns, needed

    def kind(self, which: NDArray[np.int64], patterns: NDArray[np.float64]) -> Kind:
        """Some patches by these patterns [G, 384, K]."""
        shares = np.einsum("hgp,gpk->hgk", self.turn[:, which], patterns)
        shown = patterns.transpose(0, 2, 1) / COUNTS
        # Every pattern reaches to 1, so that one scale fits all where they are stored in bytes.
        reach = np.abs(shown).max(2, keepdims=True)
        weight = (shares * reach[None, :, :, 0]).reshape(len(shares), -1)
        return Kind(which, Layer(single(weight), single(-self.middle @ weight)), single(shown / reach))


def single(value: NDArray[np.float64]) -> Floats:
    """In single precision."""
    return value.astype(np.float32)


def part(drawn: Drawn, student: Student, box: Box, plan: PatchPlan) -> Part:
    """A trained student as patches, those with as many patterns together."""
    found = [drawn.patterns(patch) for patch in range(drawn.turn.shape[1])]
    wanted = np.array([(needed**2 >= plan.enough).sum() for _, needed in found])
    sizes = np.array(plan.sizes)
    sizes = sizes[np.minimum(np.searchsorted(sizes, wanted), len(sizes) - 1)]
    kinds = []
    for size in np.unique(sizes):
        which = np.where(sizes == size)[0].astype(np.int64)
        kinds.append(drawn.kind(which, np.stack([found[patch][0][:, :size] for patch in which])))
    print(f"{plan}: " + ", ".join(f"{len(kind.patches)} patches of {kind.patterns.shape[1]} patterns" for kind in kinds))
    with torch.no_grad():
        heard = [layer.weight * (student.hears if n == 0 else 1) for n, layer in enumerate(student.hidden)]
        layers = [Layer(w.numpy().T.copy(), each.bias.numpy()) for w, each in zip(heard, student.hidden, strict=True)]
    return Part(box, layers, kinds)


def with_still(still: Still, drawn: Drawn, box: Box) -> Still:
    """``still`` and what the student draws in the middle of its features."""
    y, uv = still.y.copy(), still.uv.copy()
    left, top, wide, high = box
    more_y, more_uv = joined(single(drawn.still / COUNTS), high, wide)
    y[0, 0, top : top + high, left : left + wide] += more_y
    uv[0, :, top // 2 : (top + high) // 2, left // 2 : (left + wide) // 2] += more_uv
    return Still(y, uv, still.alpha)


def student_of(teacher: Teacher, plan: PatchPlan, checkpoint: Path | None = None) -> Student:
    """A new one, or the averaged one of a checkpoint."""
    student = Student(plan.hidden, plan.learnt, torch.from_numpy(teacher.hears[plan.branch].copy()))
    if checkpoint is not None:
        student.load_state_dict(torch.load(checkpoint, weights_only=True)["mean"])
    return student


def export(teacher: Teacher, checkpoints: Sequence[Path], folder: Path, out: Path) -> None:
    """Write the graph; the checkpoints are named after their plans."""
    still, parts = teacher.still, []
    for checkpoint in checkpoints:
        plan = PATCHES[checkpoint.stem]
        file, box = folder / f"{plan.branch}.npz", teacher.boxes[plan.branch]
        student = student_of(teacher, plan, checkpoint)
        drawn = Drawn(student, Lessons.read(file, plan.learnt), file, box)
        still = with_still(still, drawn, box)
        parts.append(part(drawn, student, box, plan))
    model = graph(parts, still, len(ARKIT_52))
    onnx.save(model, out)
    numbers = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    print(f"{out}: {numbers / 1e6:.2f} M numbers")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking, fitting, writing = (commands.add_parser(name) for name in ("pairs", "fit", "export"))
    for each in (asking, fitting, writing):
        each.add_argument("--teacher", type=Path, required=True, help="an avatar file with a face graph of network.py")
        each.add_argument("--out", type=Path, required=True)
    asking.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of wav")
    asking.add_argument("--count", type=int, default=32000)
    fitting.add_argument("name", choices=sorted(PATCHES))
    writing.add_argument("checkpoints", type=Path, nargs="+", help="named after their plans: mouth.pt eyes.pt")
    for each in (fitting, writing):
        each.add_argument("--pairs", type=Path, required=True)
    fitting.add_argument("--minutes", type=float, default=10)
    fitting.add_argument("--peak", type=float, default=1.0, help="the learning rates' highest share; less to train on")
    fitting.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    torch.set_num_threads(1)
    teacher = Teacher(said.teacher)
    if said.command == "pairs":
        pairs(teacher, asked(teacher, said.speech, said.count), said.out)
    elif said.command == "fit":
        torch.manual_seed(said.seed)
        plan = PATCHES[said.name]
        lessons = Lessons.read(said.pairs / f"{plan.branch}.npz", plan.learnt)
        fit(lessons, student_of(teacher, plan), said.out, said.minutes, said.peak)
    else:
        export(teacher, said.checkpoints, said.pairs, said.out)


if __name__ == "__main__":
    main()
