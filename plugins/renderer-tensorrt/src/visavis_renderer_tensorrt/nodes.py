"""Reading and writing ONNX graphs node by node, as far as the graphs of this package need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from visavis.hvia.graphs import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FLOAT = int(onnx.TensorProto.FLOAT)
UINT8 = int(onnx.TensorProto.UINT8)


class Nodes:
    """Nodes and constants added to a model, under names that nobody else uses."""

    def __init__(self, model: ModelProto, prefix: str) -> None:
        self.model = model
        self.opset: int = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
        self._prefix = prefix
        self._count = 0

    def name(self) -> str:
        """A fresh name."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant."""
        name = self.name()
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant list of int64: axes, shapes, bounds."""
        return self.const(np.array(values), np.int64)

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        out = out or self.name()
        self.model.graph.node.append(helper.make_node(kind, list(inputs), [out], out, **attributes))
        return out

    def input(self, name: str, kind: int, *shape: int) -> str:
        """An input of the graph, with the batch in front of ``shape``."""
        self.model.graph.input.append(helper.make_tensor_value_info(name, kind, ["B", *shape]))
        return name

    def output(self, name: str, kind: int, *shape: int) -> str:
        """An output of the graph."""
        self.model.graph.output.append(helper.make_tensor_value_info(name, kind, ["B", *shape]))
        return name


def declared(data: bytes, outputs: Sequence[Tensor]) -> bytes:
    """The same graph with its outputs' shapes as the contract has them: an exporter may leave them open."""
    model = onnx.load_model_from_string(data)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(tensor.name, tensor.type, ["B", *tensor.shape]) for tensor in outputs
    )
    return bytes(model.SerializeToString(deterministic=True))


def drop_unread(model: ModelProto) -> None:
    """Drop constants that no node reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Every constant that can be told from the file, by name: initializers, Constant nodes, and casts of those."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Cast" and node.input[0] in found:
            dtype = helper.tensor_dtype_to_np_dtype(attribute(node, "to"))
            found[node.output[0]] = found[node.input[0]].astype(dtype)
    return found


def unpacked(node: NodeProto, known: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """What a DequantizeLinear of ``known`` constants makes: numbers that are only stored in bytes. None for others."""
    if node.op_type != "DequantizeLinear" or not set(node.input) <= known.keys():
        return None
    whole, *others = (known[name].astype(np.float32) for name in node.input)
    along = [-1 if axis == attribute(node, "axis", 1) % whole.ndim else 1 for axis in range(whole.ndim)]
    scale, zero = (each.reshape(along) if each.ndim else each for each in (*others, np.zeros((), np.float32))[:2])
    return np.asarray((whole - zero) * scale, np.float32)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute as a plain value."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default
