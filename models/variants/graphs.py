"""What the scripts of this folder have in common: reading and changing ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
SMALL = 1024
"""Constants of fewer numbers are left as they are: bytes are not to be had there."""


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Every constant by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, NodeProto]:
    """The node that puts out each tensor."""
    return {name: node for node in model.graph.node for name in node.output}


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """With a name for every node, by its place."""
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}.{place}"
    return model


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without nodes and constants that no output needs."""
    graph, needed, kept = model.graph, {value.name for value in model.graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
    return model


def replaced(model: onnx.ModelProto, change: Callable[[NodeProto], list[NodeProto] | None]) -> onnx.ModelProto:
    """Every node for which ``change`` gives others is replaced by them."""
    nodes = [new for node in model.graph.node for new in (change(node) or [node])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def shorter(value: Array) -> Array:
    """float16 with the last two of its ten bits of fraction rounded away: a tenth less to pack."""
    bits = value.view(np.uint16)
    return ((bits + 2) & 0xFFFC).astype(np.uint16).view(np.float16)


def stored_half(model: onnx.ModelProto, short: Callable[[str], bool] = lambda name: False) -> onnx.ModelProto:
    """float32 constants as float16 behind a Cast, which runtimes fold when they load: half the bytes.

    Those for whose names ``short`` is true lose two more bits.
    """
    for tensor in list(model.graph.initializer):
        value = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or value.size < SMALL:
            continue
        name, half = f"{tensor.name}.half", value.astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(shorter(half) if short(tensor.name) else half, name))
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    return model


def stored_int8(model: onnx.ModelProto, axis_of: Callable[[str, Array], int | None]) -> onnx.ModelProto:
    """float32 constants as int8 behind a DequantizeLinear with a scale for each channel: a quarter of the bytes.

    ``axis_of`` says for a constant along which axis its channels lie, None if it shall stay.
    """
    for tensor in list(model.graph.initializer):
        value = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or value.size < SMALL:
            continue
        axis = axis_of(tensor.name, value)
        if axis is None:
            continue
        others = tuple(n for n in range(value.ndim) if n != axis)
        scale = np.maximum(np.abs(value).max(others, keepdims=True), 1e-12) / 127
        parts = {
            "int8": np.rint(value / scale).astype(np.int8),
            "scale": scale.ravel().astype(np.float32),
            "zero": np.zeros(value.shape[axis], np.int8),
        }
        names = [f"{tensor.name}.{part}" for part in parts]
        model.graph.initializer.extend(
            numpy_helper.from_array(part, name) for name, part in zip(names, parts.values(), strict=True)
        )
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    return model
