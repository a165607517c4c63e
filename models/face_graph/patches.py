"""The face graph without convolutions: a perceptron a part of the face, and a few patterns for every patch of it.

The face never leaves its place, so what a patch of 16x16 pixels can look like is a matter of a few numbers: its
*shares* of the patterns that are kept for it alone. A perceptron turns the coefficients into features, one matrix the
features into the shares of all patches, and each patch is the sum of its patterns. Patches where much happens (lips,
lids) have more patterns than others; each kind is a product of its own, and a Gather lays all in place.
Nearly all that this costs is fetching its numbers from memory, once for a whole batch.

Written with ONNX's operators directly, in the form that models/variants expects, for runtimes that fold constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]
REGION = 256
SIDE = 16
"""Pixels of a patch, across and down; its chroma is half of that."""
LUMA, CHROMA = SIDE * SIDE, SIDE * SIDE // 2
OPSET = 19
"""The first whose DequantizeLinear onnx's reference evaluator knows: patterns are stored in bytes."""


@dataclass(frozen=True)
class Layer:
    """``weight`` [coming, going] and ``bias`` [going] of one layer of a perceptron."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Kind:
    """Patches with the same count of patterns K.

    ``patches`` [G] are their numbers in the grid, row by row. ``shares`` makes G*K numbers of the features,
    ``patterns`` [G, K, 384] are levels: luma, then U, then V.
    """

    patches: NDArray[np.int64]
    shares: Layer
    patterns: Floats


@dataclass(frozen=True)
class Part:
    """One box of the region (x, y, width, height in pixels, width in whole patches) and what draws it."""

    box: Box
    hidden: Sequence[Layer]
    kinds: Sequence[Kind]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; the last row may hang over, and is cut."""
        return -(-self.box[3] // SIDE), self.box[2] // SIDE


@dataclass(frozen=True)
class Still:
    """What does not move: ``y`` [1,1,256,256] and ``uv`` [1,2,128,128] in levels, half a one added; ``alpha`` as y."""

    y: Floats
    uv: Floats
    alpha: Floats


def cut(y: Floats, uv: Floats) -> Floats:
    """Planes of a box [N, h, w] and [N, 2, h/2, w/2] -> patches [N, G, 384], zeros where the last row hangs over."""
    count, high, wide = y.shape
    rows, columns = -(-high // SIDE), wide // SIDE
    y = np.pad(y, ((0, 0), (0, rows * SIDE - high), (0, 0)))
    uv = np.pad(uv, ((0, 0), (0, 0), (0, (rows * SIDE - high) // 2), (0, 0)))
    half = SIDE // 2
    luma = y.reshape(count, rows, SIDE, columns, SIDE).transpose(0, 1, 3, 2, 4)
    chroma = uv.reshape(count, 2, rows, half, columns, half).transpose(0, 2, 4, 1, 3, 5)
    shape = (count, rows * columns, -1)
    return np.concatenate([luma.reshape(shape), chroma.reshape(shape)], 2)


def joined(patches: Floats, high: int, wide: int) -> tuple[Floats, Floats]:
    """One picture's patches [G, 384] -> planes [h, w] and [2, h/2, w/2]: what ``cut`` cut."""
    rows, columns, half = -(-high // SIDE), wide // SIDE, SIDE // 2
    y = patches[:, :LUMA].reshape(rows, columns, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(rows * SIDE, wide)
    uv = patches[:, LUMA:].reshape(rows, columns, 2, half, half).transpose(2, 0, 3, 1, 4)
    return y[:high], uv.reshape(2, rows * half, wide // 2)[:, : high // 2]


class _Writer:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], out: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def layer(self, source: str, layer: Layer, name: str) -> str:
        weight, bias = self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)
        return self.add("Gemm", [source, weight, bias], f"{name}.sum")

    def perceptron(self, layers: Sequence[Layer], name: str) -> str:
        """[B, E] -> features [B, H]."""
        x = "expression"
        for number, layer in enumerate(layers):
            x = self.layer(x, layer, f"{name}.perceptron.{number}")
            x = self.add("Mul", [x, self.add("Sigmoid", [x], f"{x}.gate")], f"{x}.silu")
        return x

    def patches(self, features: str, kind: Kind, name: str) -> tuple[str, str]:
        """Features [B, H] -> luma [G, B, 256] and chroma [G, B, 128] of one kind of patches."""
        count, shares, _ = kind.patterns.shape
        x = self.layer(features, kind.shares, f"{name}.shares")
        x = self.add("Reshape", [x, self.ints(f"{name}.split", -1, count, shares)], f"{name}.by_row")
        x = self.add("Transpose", [x], f"{name}.by_patch", perm=[1, 0, 2])
        planes = {"y": kind.patterns[:, :, :LUMA], "uv": kind.patterns[:, :, LUMA:]}
        y, uv = (
            self.add("MatMul", [x, self.constant(f"{name}.patterns.{plane}", value)], f"{name}.{plane}")
            for plane, value in planes.items()
        )
        return y, uv

    def laid(self, patches: str, part: Part, planes: int, name: str) -> str:
        """[G, B, ...] in the grid's order -> a plane of the whole region [B, planes, ...] with zeros around the box."""
        rows, columns = part.grid
        side, scale = (SIDE, 1) if planes == 1 else (SIDE // 2, 2)
        left, top, wide, high = (n // scale for n in part.box)
        x = self.add(
            "Reshape", [patches, self.ints(f"{name}.grid", rows, columns, -1, planes, side, side)], f"{name}.patches"
        )
        x = self.add("Transpose", [x], f"{name}.turned", perm=[2, 3, 0, 4, 1, 5])
        x = self.add(
            "Reshape", [x, self.ints(f"{name}.size", -1, planes, rows * side, columns * side)], f"{name}.whole"
        )
        if rows * side > high:
            ends = [self.ints(f"{name}.{end}", value) for end, value in (("from", 0), ("to", high), ("axis", 2))]
            x = self.add("Slice", [x, *ends], f"{name}.cut")
        region = REGION // scale
        pads = self.ints(f"{name}.pads", 0, 0, top, left, 0, 0, region - top - high, region - left - wide)
        return self.add("Pad", [x, pads], f"{name}.placed")


def graph(parts: Sequence[Part], still: Still, coefficients: int) -> onnx.ModelProto:
    """[B, coefficients] -> uint8 planes `y` [B,1,256,256], `uv` [B,2,128,128], `alpha` [B,1,256,256]."""
    w = _Writer()
    sums = {"y": w.constant("still.y", still.y), "uv": w.constant("still.uv", still.uv)}
    for number, part in enumerate(parts):
        name = f"parts.{number}"
        features = w.perceptron(part.hidden, name)
        drawn = [w.patches(features, kind, f"{name}.{k}") for k, kind in enumerate(part.kinds)]
        places = np.argsort(np.concatenate([kind.patches for kind in part.kinds]))
        for plane, place in (("y", 0), ("uv", 1)):
            x = drawn[0][place]
            if len(drawn) > 1:
                x = w.add("Concat", [each[place] for each in drawn], f"{name}.{plane}.all", axis=0)
                order = w.constant(f"{name}.{plane}.order", places.astype(np.int64))
                x = w.add("Gather", [x, order], f"{name}.{plane}.ordered", axis=0)
            x = w.laid(x, part, place + 1, f"{name}.{plane}")
            sums[plane] = w.add("Add", [sums[plane], x], f"{name}.{plane}.sum")
    zero, full = w.constant("zero", np.array(0, np.float32)), w.constant("full", np.array(255, np.float32))
    for plane, total in sums.items():
        w.add("Cast", [w.add("Clip", [total, zero, full], f"{plane}.levels")], plane, to=TensorProto.UINT8)
    # One alpha a row, so that its first axis is B.
    rows = w.add("ReduceMax", ["expression", w.ints("rows.axes", 1)], "rows", keepdims=1)
    rows = w.add("Reshape", [rows, w.ints("rows.shape", -1, 1, 1, 1)], "rows.flat")
    rows = w.add("Mul", [rows, zero], "rows.zero")
    alpha = w.add("Add", [rows, w.constant("still.alpha", still.alpha)], "alpha.levels")
    w.add("Cast", [alpha], "alpha", to=TensorProto.UINT8)
    ends = {"y": (1, REGION, REGION), "uv": (2, REGION // 2, REGION // 2), "alpha": (1, REGION, REGION)}
    described = helper.make_graph(
        w.nodes,
        "face",
        [helper.make_tensor_value_info("expression", TensorProto.FLOAT, ["B", coefficients])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["B", *shape]) for name, shape in ends.items()],
        w.constants,
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
