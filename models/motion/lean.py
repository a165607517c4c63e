"""The exported motion graph in fewer steps: the same inputs, outputs and state, half the nodes.

    lean.py motion.onnx lean.onnx

A call works on so little that each node's own cost weighs as much as its arithmetic. The exporter writes loops and
windows out one by one; here they are a Gather, a product with a small constant matrix or a maximum over one. Weights are
read from the exported file, so no checkpoint is needed. Checked against that file on a stream of sound.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import visemes
from sizes import (
    DILATIONS,
    FLOOR,
    FORGET,
    FRAME,
    HOP,
    LABELS,
    LEVEL_FALL,
    LEVEL_MIN,
    MELS,
    PRIOR,
    RANGE,
    SHIFT,
    STEM,
    WIDTH,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FRAMES = HOP // SHIFT
TAIL = FRAME - SHIFT
NEVER = -1e4
"""Added to what must not win a maximum; far below any logarithm of power, and a number in half precision too."""
Array = NDArray[Any]


class Graph:
    """Nodes and constants, as they are written down."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, kind: type = np.float32) -> str:
        """A constant's name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def ints(self, *values: int) -> str:
        """Whole numbers."""
        return self.const(values, np.int64)

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """A node's one output."""
        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def split(self, of: str, sizes: list[int], axis: int) -> list[str]:
        """Pieces along an axis."""
        names = [f"s{len(self.nodes)}.{k}" for k in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [of, self.ints(*sizes)], names, axis=axis))
        return names

    def shaped(self, of: str, *dims: int) -> str:
        """Reshaped; the batch stays first."""
        return self.add("Reshape", of, self.ints(0, *dims))

    def linear(self, of: str, weight: Array, bias: Array) -> str:
        """Product and bias."""
        return self.add("Add", self.add("MatMul", of, self.const(weight)), self.const(bias))

    def silu(self, of: str) -> str:
        """x * sigmoid(x)."""
        return self.add("Mul", of, self.add("Sigmoid", of))

    def scaled(self, of: str, scale: Any, offset: Any) -> str:
        """of * scale + offset."""
        return self.add("Add", self.add("Mul", of, self.const(scale)), self.const(offset))

    def smoothstep(self, of: str, low: Any, high: Any) -> str:
        """0 under `low`, 1 over `high`, smooth between; a bound for each column."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        t = self.add("Clip", self.scaled(of, 1 / (high - low), -low / (high - low)), self.const(0.0), self.const(1.0))
        return self.add("Mul", self.add("Mul", t, t), self.scaled(t, -2.0, 3.0))


class Weights:
    """What the exported file holds: constants by name, and the products' right sides in the order of the network."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.by_name = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.by_name[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        products = [node.input[1] for node in model.graph.node if node.op_type == "MatMul"]
        self.products = [self.by_name[name] for name in products if name in self.by_name]

    def __getitem__(self, name: str) -> Array:
        return self.by_name[f"net.{name}"]


def features(g: Graph, w: Weights, pcm: str, tail: str, level: str, sums: str) -> tuple[str, list[str]]:
    """Sound to [B, 4, 57], and the new state of it: tail, level, sums."""
    sound = g.shaped(g.add("Concat", tail, pcm, axis=1), -1, SHIFT // 2)
    windows = [[2 * k + n for n in range(2 * FRAME // SHIFT)] for k in range(FRAMES)]
    frames = g.shaped(g.add("Gather", sound, g.const(windows, np.int64), axis=1), FRAMES, FRAME)
    waves = g.add("MatMul", frames, g.const(w["dft"]))
    mel = np.concatenate([w["mel"]] * 2)  # cosines and sines alike
    power = g.add("MatMul", g.add("Mul", waves, waves), g.const(np.column_stack([mel, mel.mean(1)])))
    logs = g.add("Log", g.add("Add", power, g.const(FLOOR)))
    # The level falls slowly from each peak: the highest of what was, each less what it has fallen since.
    fallen = np.full((FRAMES, FRAMES + 1), NEVER)
    for k in range(FRAMES):
        fallen[k, : k + 2] = -LEVEL_FALL * np.arange(k + 1, -1, -1)
    fallen[:, 0] += LEVEL_MIN
    loud = g.shaped(g.add("Slice", logs, g.ints(MELS), g.ints(MELS + 1), g.ints(2)), 1, FRAMES)
    peaks = g.add("Add", g.add("Concat", g.shaped(level, 1, 1), loud, axis=2), g.const(fallen))
    levels = g.add("Max", g.add("ReduceMax", peaks, axes=[2], keepdims=1), g.const(LEVEL_MIN))
    under, rel = g.split(g.add("Sub", logs, levels), [MELS, 1], 2)
    soft = g.add("Softplus", g.scaled(under, 2.0, 2 * RANGE))
    logs = g.scaled(soft, 0.5, -RANGE - w["average"])
    rel = g.add("Clip", rel, g.const(-RANGE), g.const(2.0))
    weight = g.add("Sigmoid", g.scaled(rel, 2.0, 6.0))
    new = g.add("Concat", g.add("Mul", weight, logs), weight, axis=2)
    ages = np.arange(FRAMES)[:, None] - np.arange(-1, FRAMES)[None]
    decay = np.where(ages >= 0, FORGET ** np.maximum(ages, 0).astype(np.float64), 0.0)
    run = g.add("MatMul", g.const(decay), g.add("Concat", g.shaped(sums, 1, MELS + 1), new, axis=1))
    speaker, heard = g.split(run, [MELS, 1], 2)
    mean = g.add("Div", speaker, g.add("Add", heard, g.const(PRIOR)))
    out = g.add("Concat", g.add("Mul", g.add("Sub", logs, mean), g.const(0.5)), g.scaled(rel, 0.5, 1.0), axis=2)
    last = g.const(FRAMES - 1, np.int64)
    tail = g.add("Slice", pcm, g.ints(HOP - TAIL), g.ints(HOP), g.ints(1))
    level = g.add("Sub", g.add("Gather", levels, last, axis=1), g.const(LEVEL_MIN))
    return out, [tail, level, g.add("Gather", run, last, axis=1)]


def pieces(dilation: int) -> list[int]:
    """How a block's cache of 2d rows is cut: the two oldest rows, and the two in the middle, are what the taps read."""
    d = dilation
    return [2] if d == 1 else [n for n in (2, d - 2, 2, d - 2) if n]


def block(g: Graph, w: Weights, number: int, x: str, cache: list[str]) -> tuple[str, list[str]]:
    """One residual block: x [B, 2, C] and its cache's pieces to the same and the new cache's pieces."""
    d, taps, mix = DILATIONS[number], w.products[4 + 2 * number - 1], w.products[4 + 2 * number]
    norm = [g.const(w[f"blocks.{number}.norm.{name}"]) for name in ("weight", "bias")]
    h = g.add("LayerNormalization", x, *norm, axis=-1, epsilon=1e-5)
    if d == 1:
        both = g.add("Concat", cache[0], h, axis=1)
        middle = g.add("Slice", both, g.ints(1), g.ints(3), g.ints(1))
    else:
        middle = cache[1] if d == 2 else cache[2]
    read = g.add("Concat", cache[0], middle, h, axis=2)
    y = g.silu(g.linear(read, taps, w[f"blocks.{number}.taps.bias"]))
    return g.add("Add", x, g.linear(y, mix, w[f"blocks.{number}.mix.bias"])), [*cache[1:], h]


def network(g: Graph, w: Weights, heard: str, past: str, caches: str) -> tuple[str, str]:
    """Features [B, 4, 57] and what came before to raw outputs [B, 2, OUTPUTS] and the new caches [B, rows, C]."""
    joined = g.shaped(g.add("Concat", g.shaped(past, STEM - 2, MELS + 1), heard, axis=1), -1, 2 * (MELS + 1))
    windows = [[k + n for n in range(STEM // 2)] for k in range(2)]
    x = g.shaped(g.add("Gather", joined, g.const(windows, np.int64), axis=1), 2, STEM * (MELS + 1))
    x = g.linear(x, w.products[2], w["stem.bias"])
    rows = [pieces(d) for d in DILATIONS]
    cut = g.split(g.shaped(caches, 2 * sum(DILATIONS), WIDTH), [n for row in rows for n in row], 1)
    kept: list[str] = []
    for number, row in enumerate(rows):
        mine, cut = cut[: len(row)], cut[len(row) :]
        x, new = block(g, w, number, x, mine)
        kept += new
    norm = g.add("LayerNormalization", x, g.const(w["norm.weight"]), g.const(w["norm.bias"]), axis=-1, epsilon=1e-5)
    hidden = g.silu(g.linear(g.silu(norm), w.products[-3], w["hidden.bias"]))
    return hidden, g.add("Concat", *kept, axis=1)


def face(g: Graph, w: Weights, hidden: str, sharpen: float = 1.3) -> str:
    """The last hidden layer [B, 2, 128] to the coefficients that are wanted [B, 52]; see `Face` in network.py."""
    scale = np.ones(w["head.bias"].shape)
    scale[:LABELS] = sharpen
    raw = g.linear(hidden, w.products[-2] * scale, w["head.bias"] * scale)
    labels, gates, mood = g.split(raw, [LABELS, 2, 2], 2)
    gates = g.smoothstep(g.add("Sigmoid", gates), [0.5, 0.35], [0.85, 0.75])
    steps = g.add("Concat", g.add("Softmax", labels, axis=-1), gates, mood, axis=2)
    share, shut, bite, brow, blink = g.split(g.add("ReduceMean", steps, axes=[1], keepdims=0), [LABELS, 1, 1, 1, 1], 1)
    silence = g.add("Slice", share, g.ints(0), g.ints(1), g.ints(1))
    gates = g.smoothstep(g.add("Concat", silence, blink, axis=1), [0.55, 0.25], [0.9, 0.75])
    asleep, blink = g.split(gates, [1, 1], 1)
    awake = g.scaled(asleep, -1.0, 1.0)
    by_name, bit = w.by_name, 0.85
    poses = np.vstack([by_name["face.poses"], bit * by_name["face.poses"][visemes.ROW["fv"]]])
    mixed = g.add("Concat", g.add("Mul", share, g.scaled(bite, -bit, 1.0)), bite, axis=1)
    track = g.add("MatMul", mixed, g.const(poses))
    closing = g.scaled(track, by_name["face.keep"] - 1.0, by_name["face.poses"][visemes.ROW["pbm"]])
    track = g.add("Add", track, g.add("Mul", closing, shut))
    brow = g.add("Mul", g.add("Clip", brow, g.const(0.0), g.const(1.0)), g.const(by_name["face.browpose"]))
    shown = g.add("Mul", g.add("Add", track, brow), awake)
    shown = g.add("Add", shown, g.add("Mul", blink, g.const(by_name["face.blinkpose"])))
    return g.add("Clip", shown, g.const(0.0), g.const(1.0))


def lean(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fewer nodes."""
    g, w = Graph(), Weights(model)
    rest = 2 * sum(DILATIONS) * WIDTH
    tail, level, sums, past, before, caches = g.split(
        "state", [TAIL, 1, MELS + 1, (STEM - 2) * (MELS + 1), 52, rest], 1
    )
    heard, kept = features(g, w, "pcm", tail, level, sums)
    hidden, news = network(g, w, heard, past, caches)
    wanted = face(g, w, hidden)
    lowest, highest = (w.by_name[name] for name in reaches(model))
    step = g.add("Min", g.add("Max", g.add("Sub", wanted, before), g.const(lowest)), g.const(highest))
    now = g.add("Add", before, step)
    g.add("Reshape", now, g.ints(0, 1, 52), out="expression")
    flat = [g.add("Flatten", name, axis=1) for name in (heard, news)]
    g.add("Concat", *kept, flat[0], now, flat[1], out="state_out", axis=1)
    size = TAIL + 1 + MELS + 1 + (STEM - 2) * (MELS + 1) + 52 + rest
    ends = [[("pcm", [HOP]), ("state", [size])], [("expression", [1, 52]), ("state_out", [size])]]
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", *d]) for n, d in end] for end in ends)
    graph = helper.make_graph(g.nodes, "motion", inputs, outputs, g.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="visavis")
    onnx.checker.check_model(made, full_check=True)
    return made


def reaches(model: onnx.ModelProto) -> tuple[str, str]:
    """The names of the least and the most that coefficients may change."""
    limits = {node.op_type: node.input[1] for node in model.graph.node if node.op_type in ("Max", "Min")}
    return limits["Max"], limits["Min"]


def check(exported: Path, made: Path) -> None:
    """Both files on the same stream; raises AssertionError where they part."""
    one, other = (ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (exported, made))
    rng = np.random.default_rng(0)
    size = one.get_inputs()[1].shape[1]
    states = [np.zeros((3, size), np.float32)] * 2
    worst = 0.0
    for k in range(400):
        loud = np.array([[0.1], [0.003], [0.0 if k % 50 < 25 else 0.4]])
        pcm = (rng.standard_normal((3, HOP)) * loud * (0.2 + abs(np.sin(k / 7)))).astype(np.float32)
        outs = []
        for number, session in enumerate((one, other)):
            out, states[number] = session.run(["expression", "state_out"], {"pcm": pcm, "state": states[number]})
            outs.append(out)
        worst = max(worst, float(np.abs(outs[0] - outs[1]).max()))
    apart = float(np.abs(states[0] - states[1]).max())
    print(f"coefficients apart by {worst:.1e}, states by {apart:.1e} after 400 calls")
    assert worst < 1e-3
    assert apart < 1e-2


def main() -> None:
    """Read, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path)
    parser.add_argument("out", type=Path)
    o = parser.parse_args()
    model = lean(onnx.load(o.exported))
    onnx.save(model, o.out)
    print(f"{len(onnx.load(o.exported).graph.node)} nodes before, {len(model.graph.node)} now")
    check(o.exported, o.out)


if __name__ == "__main__":
    main()
