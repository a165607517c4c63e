"""Products of float32 matrices as convolutions, for the one pair that has no such product.

TensorRT-RTX builds for Turing (compute capability 7.5), but refuses there a MatMul or Gemm in float32 ("FP32 GEMM is
not supported"), while it takes the same sums as a convolution with a kernel of 1. Half precision needs none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from visavis.errors import RendererError

from visavis_renderer_tensorrt.nodes import FLOAT, Nodes, attribute, constants, drop_unread

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def without_products(data: bytes) -> bytes:
    """The same graph with every product by a constant float32 matrix written as a convolution.

    Raises RendererError for a product of two computed matrices.
    """
    model = onnx.load_model_from_string(data)
    if not any(node.op_type in ("MatMul", "Gemm") for node in model.graph.node):
        return data
    known, ranks = constants(model), _ranks(model)
    old = list(model.graph.node)
    del model.graph.node[:]
    nodes = Nodes(model, "turing.")
    for node in old:
        if node.op_type == "MatMul" and ranks.get(node.output[0], (0, 0))[0] == FLOAT:
            _matmul(nodes, node, known, ranks)
        elif node.op_type == "Gemm" and ranks.get(node.output[0], (0, 0))[0] == FLOAT:
            _gemm(nodes, node, known)
        else:
            model.graph.node.append(node)
    drop_unread(model)
    return bytes(model.SerializeToString(deterministic=True))


def _ranks(model: ModelProto) -> dict[str, tuple[int, int]]:
    """Type and number of dimensions of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    return {name: (kind.elem_type, len(kind.shape.dim)) for name, kind in kinds.items()}


def _matmul(nodes: Nodes, node: NodeProto, known: dict[str, NDArray[Any]], ranks: dict[str, tuple[int, int]]) -> None:
    left, right = node.input
    if right in known and known[right].ndim == 2:
        _product(nodes, left, known[right], node.output[0], ranks[left][1])
    elif left in known and known[left].ndim == 2 and ranks[right][1] == 3:
        # [m, k] x [B, k, n]: the rows are channels already.
        nodes.add("Conv", right, nodes.const(known[left][:, :, None]), out=node.output[0], kernel_shape=[1])
    else:
        raise _refused(node)


def _gemm(nodes: Nodes, node: NodeProto, known: dict[str, NDArray[Any]]) -> None:
    matrix = known.get(node.input[1])
    if matrix is None or attribute(node, "transA", 0):
        raise _refused(node)
    matrix = matrix.T if attribute(node, "transB", 0) else matrix
    scaled = matrix * np.float32(attribute(node, "alpha", 1.0))
    if len(node.input) < 3 or not node.input[2]:
        _product(nodes, node.input[0], scaled, node.output[0], 2)
        return
    bias = node.input[2]
    if (beta := attribute(node, "beta", 1.0)) != 1.0:
        bias = nodes.add("Mul", bias, nodes.const(beta))
    nodes.add("Add", _product(nodes, node.input[0], scaled, "", 2), bias, out=node.output[0])


def _product(nodes: Nodes, left: str, matrix: NDArray[Any], out: str, rank: int) -> str:
    """``left`` times a matrix ``[k, n]``; ``left`` is ``[B, k]`` or ``[B, rows, k]``."""
    kernel = nodes.const(matrix.T[:, :, None])
    if rank == 2:
        column = nodes.add("Unsqueeze", left, nodes.ints(2))
        return nodes.add("Squeeze", nodes.add("Conv", column, kernel, kernel_shape=[1]), nodes.ints(2), out=out)
    if rank != 3:
        raise RendererError(f"a product of a matrix of {rank} dimensions cannot be built for this GPU", hint=_HINT)
    turned = nodes.add("Transpose", left, perm=[0, 2, 1])
    return nodes.add("Transpose", nodes.add("Conv", turned, kernel, kernel_shape=[1]), out=out, perm=[0, 2, 1])


_HINT = "use half precision (precision: fp16), TensorRT itself, or the renderer onnxruntime"


def _refused(node: NodeProto) -> RendererError:
    return RendererError(f"the product {node.name or node.output[0]!r} cannot be built for this GPU", hint=_HINT)
