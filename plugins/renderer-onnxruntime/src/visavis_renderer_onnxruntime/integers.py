"""Brings an int8 graph into the form that ONNX Runtime executes quickly on a CPU; what it computes stays the same.

Avatar files quantise symmetrically, in int8, as every engine takes it. x86 processors multiply *unsigned* bytes by
signed ones, and ONNX Runtime's kernels for two signed ones are several times slower there than float32. Adding 128 to
an activation and to its zero point changes no value.
"""

from __future__ import annotations

import platform

import numpy as np
import onnx
from onnx import numpy_helper

_X86 = frozenset({"x86_64", "amd64", "i686", "i386"})
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def prepared(model: bytes) -> bytes:
    """The same graph with unsigned activations, and with constants that are only stored in int8 as float32.

    ONNX Runtime would compute the latter anew in every call.
    """
    graph = onnx.load_model_from_string(model)
    _unpack(graph)
    if platform.machine().lower() in _X86:
        _unsign(graph)
    return bytes(graph.SerializeToString())


def _unpack(model: onnx.ModelProto) -> None:
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    # A product is quantised if both its sides are: what is multiplied with floating numbers is only stored in int8.
    rounded = {
        node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] not in known
    }
    quantised = [node for node in graph.node if node.op_type in _PRODUCTS and rounded & set(node.input)]
    multiplied = {name for node in quantised for name in node.input}
    kept = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not set(node.input) <= known.keys() or node.output[0] in multiplied:
            kept.append(node)
            continue
        whole, scale = (numpy_helper.to_array(known[name]) for name in node.input[:2])
        zero = numpy_helper.to_array(known[node.input[2]]).astype(np.float32) if len(node.input) > 2 else np.float32(0)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1) % max(whole.ndim, 1)
        along = [-1 if place == axis else 1 for place in range(whole.ndim)] if scale.ndim else []
        if scale.ndim:
            scale, zero = scale.reshape(along), np.reshape(zero, along) if np.ndim(zero) else zero
        value = (whole.astype(np.float32) - zero) * scale
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)


def _unsign(model: onnx.ModelProto) -> None:
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    activations = [node for node in pairs if node.input[0] not in known]
    zeros = {node.input[2] if len(node.input) > 2 else "" for node in activations}
    if not all(name in known and known[name].data_type == onnx.TensorProto.INT8 for name in zeros):
        return  # not all of them are plain int8
    rounded = {node.output[0] for node in activations if node.op_type == "QuantizeLinear"}
    restored = {node.input[0] for node in activations if node.op_type == "DequantizeLinear"}
    others = {name for node in graph.node if node.op_type != "DequantizeLinear" for name in node.input}
    if rounded != restored or rounded & others:
        return  # bytes that something else reads or makes would change their meaning
    for name in zeros:
        shifted = numpy_helper.to_array(known[name]).astype(np.int16) + 128
        graph.initializer.append(numpy_helper.from_array(shifted.astype(np.uint8), f"{name}.unsigned"))
    for node in activations:
        node.input[2] = f"{node.input[2]}.unsigned"
