"""The graphs of the engine ``graphs/1``: whether they keep to the contract, told without executing them.

The one module that imports onnx, and only when a graph is checked. Renderers take their graphs from
:func:`load_graphs`, so that none of them ever executes an unchecked one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visavis.errors import AvatarError, AvatarInvalid
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import GraphReference, Manifest
from visavis.hvia.operators import (
    COUNTS,
    IR_VERSIONS,
    LARGEST_COUNT,
    LARGEST_INTEGER,
    OPERATORS,
    OPSETS,
    node_macs,
)
from visavis.hvia.reader import Hvia
from visavis.hvia.wire import scan

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

FLOAT: Final = 1
UINT8: Final = 2
_ITEM_SIZES: Final = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
"""Bytes of an element, by ONNX data type: the types that a tensor of a graph may have."""
_TYPE_NAMES: Final = {FLOAT: "float32", UINT8: "uint8"}
_BATCHES: Final = (1, 2)
_ROOM: Final = 4096
"""Elements by which a tensor may grow beyond its share of the batch: shapes, say, that are computed."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the contract wants it; the batch comes before ``shape``."""

    name: str
    type: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that keeps to the contract. ``data`` is the ONNX file.

    ``parameters``: numbers among its constants; ``macs``: multiply-accumulates of one call, for one row of the batch.
    """

    data: bytes
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both graphs of an avatar, checked."""

    motion: CheckedGraph
    face: CheckedGraph


def load_graphs(avatar: Hvia, *, packs: Sequence[Path] = ()) -> Graphs:
    """Both graphs of an avatar, from its file or from ``packs``, once they are found to keep to the contract.

    A pack is a folder that holds graphs as ``<sha256>.onnx``. Raises AvatarInvalid with one sentence, AvatarError if
    a pack is missing.
    """
    return Graphs(motion=load_graph(avatar, "motion", packs=packs), face=load_graph(avatar, "face", packs=packs))


def load_graph(avatar: Hvia, which: str, *, packs: Sequence[Path] = ()) -> CheckedGraph:
    """One graph of an avatar, ``motion`` or ``face``; as :func:`load_graphs`."""
    manifest = avatar.manifest
    if which == "motion":
        source, wanted = manifest.motion.graph, motion_contract(manifest)
    else:
        source, wanted = manifest.face.graph, face_contract(manifest)
    data = _from_packs(avatar, which, source, packs) if isinstance(source, GraphReference) else avatar.read(source)
    try:
        return check_graph(data, *wanted, limits=avatar.limits)
    except ValueError as error:
        raise avatar.fault(f"the {which} graph is refused: {error}") from error


def motion_contract(manifest: Manifest) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the motion graph."""
    motion = manifest.motion
    state = (motion.state,)
    return (
        (Tensor("pcm", FLOAT, (motion.hop,)), Tensor("state", FLOAT, state)),
        (
            Tensor("expression", FLOAT, (motion.frames, len(motion.coefficients))),
            Tensor("state_out", FLOAT, state),
        ),
    )


def face_contract(manifest: Manifest) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the face graph."""
    face = manifest.face
    luma, chroma = (1, face.height, face.width), (2, face.height // 2, face.width // 2)
    inputs = (
        Tensor("expression", FLOAT, (len(manifest.motion.coefficients),)),
        Tensor("pose", FLOAT, (face.pose,)),
        Tensor("base_y", UINT8, luma),
        Tensor("base_uv", UINT8, chroma),
    )
    outputs = (Tensor("y", UINT8, luma), Tensor("uv", UINT8, chroma), Tensor("alpha", UINT8, luma))
    taken = tuple(tensor for tensor in inputs if tensor.name in face.inputs)
    return taken, outputs if face.alpha else outputs[:2]


def _from_packs(avatar: Hvia, which: str, reference: GraphReference, packs: Sequence[Path]) -> bytes:
    for pack in packs:
        path = pack / f"{reference.sha256}.onnx"
        if not path.is_file():
            continue
        if path.stat().st_size > avatar.limits.graph:
            raise AvatarError(f"{path} has more than {avatar.limits.graph} bytes")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise AvatarError(f"{path} is damaged: its SHA-256 is not the one in its name")
        return data
    where = ", ".join(str(pack) for pack in packs) or "no pack is installed"
    raise AvatarError(
        f"{avatar.path.name}: its {which} graph {reference.sha256[:12]}... lies in a model pack that is not here "
        f"({where})",
        hint="install the model pack that the avatar's maker names",
    )


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
    parameters = _check_constants(graph)
    _check_nodes(graph, limits)
    _check_ends("input", graph.input, inputs)
    _check_ends("output", graph.output, outputs)
    _one_symbol(graph)
    macs = _check_sizes(model, outputs, limits)
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
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise AvatarError(
            f"the graphs of an avatar cannot be checked: {error}", hint="pip install 'visavis[graphs]'"
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ValueError("it is not an ONNX file") from error
    return model


def _check_model(model: ModelProto) -> None:
    if model.ir_version not in IR_VERSIONS:
        raise ValueError(
            f"its IR version {model.ir_version} is outside {IR_VERSIONS.start}..{IR_VERSIONS.stop - 1}"
        )
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
    item = _ITEM_SIZES.get(tensor.data_type)
    if item is None:
        raise ValueError(f"its constant {name} has a data type ({tensor.data_type}) that is not allowed")
    if len(tensor.dims) > 8 or any(dim < 0 for dim in tensor.dims):
        raise ValueError(f"its constant {name} has an impossible shape")
    count = prod(tensor.dims)
    typed = len(tensor.float_data) + len(tensor.int32_data) + len(tensor.int64_data)
    typed += len(tensor.double_data) + len(tensor.uint64_data)
    if tensor.raw_data and typed or (typed != count if typed else len(tensor.raw_data) != count * item):
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
        shape = value.type.tensor_type.shape.dim
        fits = (
            value.type.tensor_type.elem_type == tensor.type
            and len(shape) == len(tensor.shape) + 1
            and bool(shape[0].dim_param)
            and tuple(dim.dim_value for dim in shape[1:]) == tensor.shape
            and not any(dim.dim_param for dim in shape[1:])
        )
        if not fits:
            dims = ", ".join(["B", *map(str, tensor.shape)])
            raise ValueError(f"its {what} {tensor.name} must be {_TYPE_NAMES[tensor.type]} [{dims}], B a symbol")


def _one_symbol(graph: GraphProto) -> None:
    symbols = {value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)}
    if len(symbols) != 1:
        said = ", ".join(ascii(symbol[:20]) for symbol in sorted(symbols))
        raise ValueError(f"its batch must be one symbol on all inputs and outputs, not {said}")


def _check_sizes(model: ModelProto, outputs: Sequence[Tensor], limits: Limits) -> int:
    """Every tensor's shape is known, bounded, and grows with the batch at most in proportion; returns the MACs."""
    single, double = (_shapes(model, batch) for batch in _BATCHES)
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in single or name not in double:
                raise ValueError(f"the size of its tensor {name[:60]!a} ({node.op_type}) cannot be told from the file")
            alone, both = prod(single[name][1]), prod(double[name][1])
            size = alone * _ITEM_SIZES.get(single[name][0], 16)
            if size > limits.activation:
                raise ValueError(
                    f"its tensor {name[:60]!a} ({node.op_type}) takes {size} bytes; at most {limits.activation}"
                )
            if both > 2 * alone + _ROOM:
                raise ValueError(f"its tensor {name[:60]!a} ({node.op_type}) grows faster than the batch")
    for tensor in outputs:
        for batch, shapes in zip(_BATCHES, (single, double), strict=True):
            if shapes.get(tensor.name) != (tensor.type, (batch, *tensor.shape)):
                raise ValueError(f"its output {tensor.name} does not come out as it declares")
    macs = _macs(model.graph, single)
    if macs > limits.macs:
        raise ValueError(f"it takes {macs} multiply-accumulates a call; at most {limits.macs} are allowed")
    return macs


def _macs(graph: GraphProto, shapes: dict[str, tuple[int, tuple[int, ...]]]) -> int:
    total = 0
    for node in graph.node:
        outputs = [name for name in node.output if name]
        if outputs:
            attributes = {
                attribute.name: attribute.i or tuple(attribute.ints) or 0 for attribute in node.attribute
            }
            inputs = [shapes[name][1] if name in shapes else () for name in node.input]
            total += node_macs(node.op_type, inputs, shapes[outputs[0]][1], attributes)
    return total


_LARGE: Final = 1024
"""Constants of more numbers are no shapes; shape inference need not see their values."""


def _shapes(model: ModelProto, batch: int) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Data type and shape of every tensor whose shape inference can tell, for one size of batch."""
    import onnx
    from onnx import helper, shape_inference

    lean = onnx.ModelProto(ir_version=model.ir_version)
    lean.opset_import.extend(model.opset_import)
    graph = lean.graph
    graph.name = "checked"
    graph.node.extend(model.graph.node)
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for value in model.graph.input:
        kind, shape = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
        found[value.name] = kind, (batch, *(dim.dim_value for dim in shape[1:]))
    for tensor in model.graph.initializer:
        found[tensor.name] = tensor.data_type, tuple(tensor.dims)
        if prod(tensor.dims) <= _LARGE:
            graph.initializer.append(tensor)
    kept = {tensor.name for tensor in graph.initializer}
    graph.input.extend(
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in found.items() if name not in kept
    )
    for value in model.graph.output:
        # What the file declares of its outputs is what inference has to find: only the rank is told.
        kind, unknown = value.type.tensor_type.elem_type, [None] * len(value.type.tensor_type.shape.dim)
        graph.output.append(helper.make_tensor_value_info(value.name, kind, unknown))
    try:
        onnx.checker.check_model(lean)
        inferred = shape_inference.infer_shapes(lean, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ValueError(f"its nodes do not fit together: {_one_line(error)}") from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        dims: Any = kind.shape.dim
        if kind.HasField("shape") and all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            found[value.name] = kind.elem_type, tuple(dim.dim_value for dim in dims)
    return found


def _one_line(error: Exception) -> str:
    text = " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())
    return text if len(text) <= 200 else text[:197] + "..."
