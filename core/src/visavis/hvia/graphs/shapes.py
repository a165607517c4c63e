"""How large every tensor of a graph gets and what a call costs, told from the file without executing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from visavis.hvia.graphs.operators import LARGEST_INTEGER, SHAPED_BY_VALUES, node_macs
from visavis.hvia.graphs.tensors import ITEM_SIZES, REPAIR, Tensor
from visavis.hvia.graphs.values import MOST, Value, beyond, shape_told, told
from visavis.hvia.limits import Limits

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TypeProto

_BATCHES: Final = (1, 2)
_ROOM: Final = 4096
"""Elements by which a tensor may grow beyond its share of the batch: shapes, say, that are computed."""

Found = dict[str, tuple[int, tuple[int, ...]]]
"""Data type and shape by tensor."""


def check_sizes(model: ModelProto, outputs: Sequence[Tensor], limits: Limits) -> int:
    """Check that every tensor's shape is known, bounded, and grows with the batch at most in proportion.

    Returns the multiply-accumulates of one call for one row of the batch. Raises ValueError with a reason.
    """
    _check_schemas(model)
    walks = [_Walk(model, batch, limits) for batch in _BATCHES]
    for walk in walks:
        walk.run()
    single, double = (walk.found for walk in walks)
    for node in model.graph.node:
        for name in filter(None, node.output):
            if prod(double[name][1]) > 2 * prod(single[name][1]) + _ROOM:
                raise ValueError(f"its tensor {_place(name, node)} grows faster than the batch")
    for tensor in outputs:
        for batch, found in zip(_BATCHES, (single, double), strict=True):
            if found.get(tensor.name) != (tensor.type, (batch, *tensor.shape)):
                raise ValueError(f"its output {tensor.name} does not come out as it declares")
    return walks[0].macs


def _place(name: str, node: NodeProto) -> str:
    return f"{name[:60]!a} ({node.op_type})"


def _check_schemas(model: ModelProto) -> None:
    """Every node has the attributes, inputs and outputs that its operator wants."""
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {"": model.opset_import[0].version}
    for node in model.graph.node:
        try:
            onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
            raise ValueError(f"its node {node.op_type} is not as ONNX wants it: {_one_line(error)}") from error


@dataclass
class _Walk:
    """Goes through the nodes in order, for one size of batch; stops at the first tensor that is too large."""

    model: ModelProto
    batch: int
    limits: Limits
    found: Found = field(default_factory=dict)
    macs: int = 0
    _types: dict[str, TypeProto] = field(default_factory=dict)
    _values: dict[str, Value] = field(default_factory=dict)

    def run(self) -> None:
        """Find the shape of every tensor. Raises ValueError with a reason."""
        from onnx import numpy_helper

        graph = self.model.graph
        for value in graph.input:
            kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
            self._know(value.name, kind, (self.batch, *(dim.dim_value for dim in dims[1:])))
        for tensor in graph.initializer:
            self._know(tensor.name, tensor.data_type, tuple(tensor.dims))
            if prod(tensor.dims) <= MOST:
                self._values[tensor.name] = numpy_helper.to_array(tensor)
        for node in graph.node:
            self._node(node)

    def _know(self, name: str, kind: int, shape: tuple[int, ...]) -> None:
        from onnx import helper

        self.found[name] = kind, shape
        self._types[name] = helper.make_tensor_type_proto(kind, shape)

    def _node(self, node: NodeProto) -> None:
        attributes = _attributes(node)
        self._check_values(node)
        inferred = self._inferred(node)
        for name in filter(None, node.output):
            self._take(name, node, inferred.get(name))
        names = [name for name in node.output if name]
        if not names:
            return
        first = self.found[names[0]][1]
        shapes = [self.found[name][1] if name else () for name in node.input]
        self.macs += node_macs(node.op_type, shapes, first, attributes)
        if self.macs > self.limits.macs * self.batch:
            raise ValueError(f"it takes over {self.limits.macs} multiply-accumulates a call, which is the most")
        if (value := self._value(node, attributes, first)) is not None:
            self._values[names[0]] = value

    def _take(self, name: str, node: NodeProto, inferred: TypeProto | None) -> None:
        """Remember what inference found, if it is all that has to be known and within bounds."""
        kind = inferred.tensor_type if inferred is not None else None
        dims: Any = kind.shape.dim if kind is not None and kind.HasField("shape") else None
        if kind is None or dims is None or not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            raise ValueError(f"the size of its tensor {_place(name, node)} cannot be told from the file{REPAIR}")
        shape = tuple(dim.dim_value for dim in dims)
        size = prod(shape) * ITEM_SIZES.get(kind.elem_type, 16)
        if size > self.limits.activation * self.batch:
            raise ValueError(f"its tensor {_place(name, node)} takes {size} bytes; at most {self.limits.activation}")
        self._know(name, kind.elem_type, shape)

    def _inferred(self, node: NodeProto) -> dict[str, TypeProto]:
        import onnx
        from onnx import numpy_helper, shape_inference

        wrong = (
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            shape_inference.InferenceError,
            RuntimeError,
            ValueError,
        )
        opset = self.model.opset_import[0].version
        data = {name: numpy_helper.from_array(self._values[name]) for name in node.input if name in self._values}
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
            inferred: dict[str, TypeProto] = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in node.input if name},
                data,
                opset_imports=[onnx.helper.make_opsetid("", opset)],
                ir_version=self.model.ir_version,
            )
            return inferred
        except wrong as error:
            raise ValueError(f"its nodes do not fit together: {node.op_type}: {_one_line(error)}") from error

    def _check_values(self, node: NodeProto) -> None:
        """Dimensions that are so large that multiplying them overflows are refused before anyone does."""
        if node.op_type in SHAPED_BY_VALUES:
            for name in node.input:
                value = self._values.get(name)
                if value is not None and value.dtype.kind == "i" and beyond(value, LARGEST_INTEGER):
                    raise ValueError(f"a size that its node {node.op_type} is given is out of bounds")

    def _value(self, node: NodeProto, attributes: dict[str, Any], shape: tuple[int, ...]) -> Value | None:
        if node.op_type == "Shape":
            return shape_told(self.found[node.input[0]][1], attributes)
        if node.op_type == "Constant":
            return _constant(attributes)
        return told(node.op_type, [self._values.get(name) for name in node.input], attributes, shape)


def _constant(attributes: dict[str, Any]) -> Value | None:
    for name, dtype in (("value", None), ("value_int", np.int64), ("value_ints", np.int64),
                        ("value_float", np.float32), ("value_floats", np.float32)):  # fmt: skip
        if name in attributes:
            value = np.asarray(attributes[name], dtype)
            return value if value.size <= MOST else None
    return None


def _attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values; tensors as arrays, large ones empty."""
    from onnx import AttributeProto, numpy_helper

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.INT:
            found[attribute.name] = attribute.i
        elif attribute.type == AttributeProto.INTS:
            found[attribute.name] = tuple(attribute.ints)
        elif attribute.type == AttributeProto.FLOAT:
            found[attribute.name] = attribute.f
        elif attribute.type == AttributeProto.FLOATS:
            found[attribute.name] = tuple(attribute.floats)
        elif attribute.type == AttributeProto.TENSOR and prod(attribute.t.dims) <= MOST:
            found[attribute.name] = numpy_helper.to_array(attribute.t)
    return found


def _one_line(error: Exception) -> str:
    text = " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())
    return text if len(text) <= 200 else text[:197] + "..."
