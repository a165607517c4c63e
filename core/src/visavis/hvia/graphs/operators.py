"""What the graphs of ``graphs/1`` are made of: operators of the standard domain, no control flow, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

OPSETS: Final = range(13, 21)
"""Versions of the standard operators that a graph may ask for."""
IR_VERSIONS: Final = range(7, 11)

_ELEMENTWISE = """
Abs Add And Atan Cast CastLike Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
HardSwish Identity LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round
Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh Where Xor
"""
_SHAPES = """
Concat Constant ConstantOfShape DepthToSpace Expand Flatten Gather Pad Reshape Resize Shape Slice SpaceToDepth Split
Squeeze Tile Transpose Unsqueeze
"""
_SUMS = """
AveragePool BatchNormalization Conv ConvTranspose CumSum Gemm GlobalAveragePool GlobalMaxPool GroupNormalization
InstanceNormalization LayerNormalization LogSoftmax MatMul MaxPool ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Softmax
"""
_INTEGERS = """
ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear
"""

OPERATORS: Final = frozenset(f"{_ELEMENTWISE} {_SHAPES} {_SUMS} {_INTEGERS}".split())
"""Every operator that a graph may hold."""

COUNTS: Final = frozenset({"strides", "dilations", "kernel_shape", "group", "blocksize", "num_outputs", "num_groups"})
"""Attributes that count something: 1 or more. Native code divides by them."""
LARGEST_COUNT: Final = 65_536
LARGEST_INTEGER: Final = 2**31 - 1
"""The bound of every other integer attribute, either side of zero."""

SHAPED_BY_VALUES: Final = frozenset({"ConstantOfShape", "Expand", "Pad", "Reshape", "Resize", "Split", "Tile"})
"""Operators whose result is as large as the numbers they are given say."""

_WEIGHTS: Final = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_FACTORS: Final = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0}

Shape = Sequence[int]


def node_macs(kind: str, inputs: Sequence[Shape], output: Shape, attributes: dict[str, Any]) -> int:
    """Multiply-accumulates of one node, from the shapes of its inputs and its first output.

    What is no product of matrices counts as one for each number it reads or writes.
    """
    out = prod(output)
    touched = out + sum(prod(shape) for shape in inputs)
    if kind in _WEIGHTS and len(inputs) > _WEIGHTS[kind]:
        return out * prod(inputs[_WEIGHTS[kind]][1:])
    if kind == "ConvTranspose" and len(inputs) > 1:
        return prod(inputs[0]) * prod(inputs[1][1:]) + touched
    if kind in _FACTORS and inputs and inputs[0]:
        return out * inputs[0][-1]
    if kind == "Gemm" and inputs and len(inputs[0]) == 2:
        return out * inputs[0][0 if attributes.get("transA") else 1]
    if kind in ("AveragePool", "MaxPool"):
        kernel: Shape = attributes.get("kernel_shape", (1,))
        return out * prod(kernel)
    return touched
