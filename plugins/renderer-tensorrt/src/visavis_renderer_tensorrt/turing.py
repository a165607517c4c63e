"""Products of float32 matrices as convolutions, for the one pair that has no such product.

TensorRT-RTX builds for Turing (compute capability 7.5), but refuses there a MatMul or Gemm in float32 ("FP32 GEMM is
not supported"), while it takes the same sums as a convolution with a kernel of 1. Half precision needs none of this;
quantised products do, for they are taken for float32 ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from visavis.errors import RendererError

from visavis_renderer_tensorrt.nodes import FLOAT, Nodes, attribute, constants, drop_unread, unpacked

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_HINT: Final = "use half precision (precision: fp16), TensorRT itself, or the renderer onnxruntime"

Kernel = Callable[[], str]
"""Writes a matrix ``[k, n]`` down as a kernel ``[n, k, 1]`` and gives its name."""


def without_products(data: bytes) -> bytes:
    """The same graph with every product by a constant float32 matrix written as a convolution.

    Raises RendererError for a product of two computed matrices.
    """
    model = onnx.load_model_from_string(data)
    if not any(node.op_type in ("MatMul", "Gemm") for node in model.graph.node):
        return data
    old, kinds = list(model.graph.node), _kinds(model)
    del model.graph.node[:]
    rewriting = _Rewriting(Nodes(model, "turing."), _constants(old, model), {n.output[0]: n for n in old}, kinds)
    for node in old:
        product = node.op_type in ("MatMul", "Gemm") and kinds.get(node.output[0], (FLOAT, 0))[0] == FLOAT
        if not product:
            model.graph.node.append(node)
        elif node.op_type == "MatMul":
            rewriting.matmul(node)
        else:
            rewriting.gemm(node)
    drop_unread(model)
    return bytes(model.SerializeToString(deterministic=True))


def _constants(nodes: list[NodeProto], model: ModelProto) -> dict[str, NDArray[Any]]:
    whole = onnx.ModelProto()
    whole.graph.node.extend(nodes)
    whole.graph.initializer.extend(model.graph.initializer)
    return constants(whole)


def _kinds(model: ModelProto) -> dict[str, tuple[int, int]]:
    """Type and number of dimensions of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    return {name: (kind.elem_type, len(kind.shape.dim)) for name, kind in found.items()}


@dataclass
class _Rewriting:
    """Writes products down anew. ``made_by`` finds the node that makes a tensor."""

    nodes: Nodes
    known: dict[str, NDArray[Any]]
    made_by: dict[str, NodeProto]
    kinds: dict[str, tuple[int, int]]

    def matmul(self, node: NodeProto) -> None:
        """``left @ right`` with a constant on one side."""
        left, right = node.input
        if (kernel := self._kernel(right, transposed=False)) is not None:
            self._product(node, left, kernel, node.output[0], self.kinds[left][1])
        elif left in self.known and self.known[left].ndim == 2 and self.kinds[right][1] == 3:
            # [m, k] x [B, k, n]: the rows are channels already.
            matrix = self.nodes.const(self.known[left][:, :, None])
            self.nodes.add("Conv", right, matrix, out=node.output[0], kernel_shape=[1])
        elif (matrices := self._stack(right)) is not None and self.kinds[left][1] == 3:
            self._products(left, matrices, node.output[0])
        else:
            raise _refused(node)

    def gemm(self, node: NodeProto) -> None:
        """``alpha * left @ right + beta * bias`` with a constant right."""
        nodes = self.nodes
        kernel = self._kernel(node.input[1], transposed=bool(attribute(node, "transB", 0)))
        if kernel is None or attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
            raise _refused(node)
        if len(node.input) < 3 or not node.input[2]:
            self._product(node, node.input[0], kernel, node.output[0], 2)
            return
        bias = node.input[2]
        if (beta := attribute(node, "beta", 1.0)) != 1.0:
            bias = nodes.add("Mul", bias, nodes.const(beta))
        nodes.add("Add", self._product(node, node.input[0], kernel, "", 2), bias, out=node.output[0])

    def _kernel(self, name: str, *, transposed: bool) -> Kernel | None:
        """How a constant matrix, quantised or not, is written down as a kernel; None if it is no such thing."""
        if name in self.known:
            matrix = self.known[name]
            return (lambda: self.nodes.const(_turned(matrix, transposed))) if matrix.ndim == 2 else None
        made = self.made_by.get(name)
        if made is None or made.op_type != "DequantizeLinear" or any(part not in self.known for part in made.input):
            return None
        whole, scale = self.known[made.input[0]], self.known[made.input[1]]
        if whole.ndim != 2:
            return None

        def write() -> str:
            n = self.nodes
            numbers, zeros = n.const(_turned(whole, transposed), whole.dtype), np.zeros(scale.shape, whole.dtype)
            return n.add("DequantizeLinear", numbers, n.const(scale), n.const(zeros, whole.dtype), axis=0)

        return write

    def _stack(self, name: str) -> NDArray[Any] | None:
        """Constant matrices ``[G, k, n]``, also where they are only stored in bytes; or None."""
        made = self.made_by.get(name)
        matrices = self.known.get(name) if made is None or name in self.known else unpacked(made, self.known)
        return matrices if matrices is not None and matrices.ndim == 3 else None

    def _product(self, node: NodeProto, left: str, kernel: Kernel, out: str, rank: int) -> str:
        """``left`` times a matrix; ``left`` is ``[B, k]`` or ``[B, rows, k]``."""
        nodes = self.nodes
        if rank == 2:
            column = nodes.add("Unsqueeze", left, nodes.ints(2))
            return nodes.add("Squeeze", nodes.add("Conv", column, kernel(), kernel_shape=[1]), nodes.ints(2), out=out)
        if rank != 3:
            raise _refused(node)
        turned = nodes.add("Transpose", left, perm=[0, 2, 1])
        product = nodes.add("Conv", turned, kernel(), kernel_shape=[1])
        return nodes.add("Transpose", product, out=out, perm=[0, 2, 1])

    def _products(self, left: str, matrices: NDArray[Any], out: str) -> None:
        """``[G, B, k] x [G, k, n]``: a convolution in G groups."""
        nodes, (groups, k, n) = self.nodes, matrices.shape
        turned = nodes.add("Transpose", left, perm=[1, 0, 2])
        column = nodes.add("Reshape", turned, nodes.ints(-1, groups * k, 1))
        kernel = nodes.const(matrices.transpose(0, 2, 1).reshape(groups * n, k, 1))
        product = nodes.add("Conv", column, kernel, kernel_shape=[1], group=groups)
        apart = nodes.add("Reshape", product, nodes.ints(-1, groups, n))
        nodes.add("Transpose", apart, out=out, perm=[1, 0, 2])


def _turned(matrix: NDArray[Any], transposed: bool) -> NDArray[Any]:
    """A kernel ``[n, k, 1]`` of a matrix ``[k, n]``, or of one that is given as ``[n, k]``."""
    return (matrix if transposed else matrix.T)[:, :, None]


def _refused(node: NodeProto) -> RendererError:
    return RendererError(f"the product {node.name or node.output[0]!r} cannot be built for this GPU", hint=_HINT)
