"""Whether an ONNX file keeps to a contract, told without executing it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING

from visavis.errors import AvatarError
from visavis.hvia.graphs.operators import (
    COUNTS,
    IR_VERSIONS,
    LARGEST_COUNT,
    LARGEST_INTEGER,
    OPERATORS,
    OPSETS,
)
from visavis.hvia.graphs.shapes import check_sizes
from visavis.hvia.graphs.tensors import FLOAT, ITEM_SIZES, REPAIR, TYPE_NAMES, Tensor
from visavis.hvia.graphs.wire import scan
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import Precision

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that keeps to the contract. ``data`` is the ONNX file.

    ``parameters``: numbers among its constants; ``macs``: multiply-accumulates of one call, for one row of the batch;
    ``precision``: as which of its avatar's variants it came.
    """

    data: bytes
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    macs: int
    precision: Precision = "fp32"


def check_graph(
    data: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, limits: Limits = LIMITS
) -> CheckedGraph:
    """Check an ONNX file against a contract, without executing it. Raises ValueError with a reason.

    Raises AvatarError if onnx is not installed.
    """
    if len(data) > limits.graph:
        raise ValueError(f"it has {len(data)} bytes; at most {limits.graph} are read")
    scan(data, limits=limits)
    model = _parsed(data)
    _check_model(model)
    graph = model.graph
    _check_ends("input", graph.input, inputs)
    _check_ends("output", graph.output, outputs)
    _one_symbol(graph)
    parameters = _check_constants(graph)
    _check_nodes(graph, limits)
    macs = check_sizes(model, outputs, limits)
    return CheckedGraph(
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=tuple(tensor.name for tensor in graph.input),
        outputs=tuple(tensor.name for tensor in graph.output),
        parameters=parameters,
        macs=macs,
    )


def _parsed(data: bytes) -> ModelProto:
    try:
        import onnx

        decode_error: type[Exception] = import_module("google.protobuf.message").DecodeError
    except ImportError as error:
        raise AvatarError(
            f"the graphs of an avatar cannot be checked: {error}", hint="pip install 'visavis[graphs]'"
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except decode_error as error:
        raise ValueError("it is not an ONNX file") from error
    return model


def _check_model(model: ModelProto) -> None:
    if model.ir_version not in IR_VERSIONS:
        raise ValueError(f"its IR version {model.ir_version} is outside {IR_VERSIONS.start}..{IR_VERSIONS.stop - 1}")
    if [opset.domain for opset in model.opset_import] not in ([""], ["ai.onnx"]):
        raise ValueError("it must import the standard operators and no others")
    opset = model.opset_import[0].version
    if opset not in OPSETS:
        raise ValueError(f"its opset {opset} is outside {OPSETS.start}..{OPSETS.stop - 1}")
    if any(pair.key.lower().startswith("ort") for pair in model.metadata_props):
        raise ValueError("it carries settings for ONNX Runtime")


def _check_constants(graph: GraphProto) -> int:
    """How many numbers the constants hold."""
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) != len(names):
        raise ValueError("two of its constants have one name")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    return sum(prod(tensor.dims) for tensor in graph.initializer)


def _check_tensor(tensor: TensorProto) -> None:
    import numpy as np

    name = ascii(tensor.name[:60])
    if tensor.data_location or tensor.external_data:
        raise ValueError(f"its constant {name} is kept outside the file (external data)")
    item = ITEM_SIZES.get(tensor.data_type)
    if item is None:
        raise ValueError(f"its constant {name} has a data type ({tensor.data_type}) that is not allowed")
    if len(tensor.dims) > 8 or any(dim < 0 for dim in tensor.dims):
        raise ValueError(f"its constant {name} has an impossible shape")
    count = prod(tensor.dims)
    typed = len(tensor.float_data) + len(tensor.int32_data) + len(tensor.int64_data)
    typed += len(tensor.double_data) + len(tensor.uint64_data)
    right = not tensor.raw_data and typed == count if typed else len(tensor.raw_data) == count * item
    if not right:
        raise ValueError(f"its constant {name} holds more or less data than its shape says")
    if tensor.data_type == FLOAT:
        values = np.frombuffer(tensor.raw_data, "<f4") if tensor.raw_data else np.array(tensor.float_data)
        if np.isnan(values).any():
            raise ValueError(f"its constant {name} holds what is not a number (NaN)")


def _check_nodes(graph: GraphProto, limits: Limits) -> None:
    """Known operators, in an order in which they can be computed, each name given once."""
    if len(graph.node) > limits.graph_nodes:
        raise ValueError(f"it has {len(graph.node)} nodes; at most {limits.graph_nodes} are read")
    defined = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in defined:
            raise ValueError(f"its input {value.name[:60]!a} is defined twice")
        defined.add(value.name)
    for node in graph.node:
        _check_node(node)
        if missing := set(node.input) - defined - {""}:
            raise ValueError(f"its node {node.op_type} reads {min(missing)[:60]!a}, which is not defined before it")
        for name in node.output:
            if name in defined:
                raise ValueError(f"its tensor {name[:60]!a} is defined twice")
            defined.update({name} if name else ())


def _check_node(node: NodeProto) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        full = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ValueError(f"it uses the operator {full[:60]!a}, which the format does not allow")
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names):
        raise ValueError(f"a node {node.op_type} gives an attribute twice")
    for attribute in node.attribute:
        _check_attribute(node.op_type, attribute)


def _check_attribute(kind: str, attribute: AttributeProto) -> None:
    if attribute.HasField("t"):
        _check_tensor(attribute.t)
    integers = [attribute.i, *attribute.ints]
    name = attribute.name
    if name in COUNTS:
        counts = attribute.ints or [attribute.i]
        if not all(1 <= value <= LARGEST_COUNT for value in counts) or len(counts) > 8:
            raise ValueError(f"{name} of a node {kind} is outside 1..{LARGEST_COUNT}")
    elif any(abs(value) > LARGEST_INTEGER for value in integers):
        raise ValueError(f"{name[:60]!a} of a node {kind} is out of bounds")


def _check_ends(what: str, found: Sequence[ValueInfoProto], wanted: Sequence[Tensor]) -> None:
    names, expected = [value.name for value in found], [tensor.name for tensor in wanted]
    if sorted(names) != sorted(expected):
        said = ", ".join(ascii(name[:60])[1:-1] for name in names[:8]) or "none"
        raise ValueError(f"its {what}s must be {', '.join(expected)}, not {said}")
    by_name = {value.name: value for value in found}
    for tensor in wanted:
        value = by_name[tensor.name]
        dims = value.type.tensor_type.shape.dim
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims[1:]]
        if what == "output":
            # An exporter may leave these open: what comes out is found by inference.
            sizes = [size if told is None else told for size, told in zip(tensor.shape, sizes, strict=False)]
        fits = (
            value.type.tensor_type.elem_type == tensor.type
            and len(dims) == len(tensor.shape) + 1
            and bool(dims[0].dim_param)
            and tuple(sizes) == tensor.shape
        )
        if not fits:
            shape = ", ".join(["B", *map(str, tensor.shape)])
            raise ValueError(
                f"its {what} {tensor.name} must be {TYPE_NAMES[tensor.type]} [{shape}], B a symbol{REPAIR}"
            )


def _one_symbol(graph: GraphProto) -> None:
    symbols = {value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)}
    if len(symbols) != 1:
        said = ", ".join(ascii(symbol[:20]) for symbol in sorted(symbols))
        raise ValueError(f"its batch must be one symbol on all inputs and outputs, not {said}")
