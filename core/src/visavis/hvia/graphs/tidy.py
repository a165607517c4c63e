"""For makers of avatars: what a training framework exports, brought into the shape that the contract wants.

This executes parts of the graph, so it is for graphs of one's own; readers never call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from visavis.hvia.graphs.check import check_graph
from visavis.hvia.graphs.tensors import Tensor

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_BATCH: Final = "B"
_BATCHES: Final = (3, 5)
"""Sizes of batch that no shape in a graph is likely to equal by chance."""

_Values = dict[str, NDArray[Any]]


def tidy_graph(
    data: bytes,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    names: Mapping[str, str] | None = None,
) -> bytes:
    """An exported ONNX file made to keep to a contract (see ``motion_contract`` and ``face_contract``).

    What depends neither on an input nor on the size of the batch is computed once and stored as a constant, so that
    every size can be told from the file; inputs and outputs are declared as the contract has them, with the batch
    ``B``; what nobody reads is dropped.
    ``names`` renames inputs and outputs first (exported name to the contract's). Raises ValueError with a reason.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    _rename(model.graph, names or {})
    _fold(model, inputs)
    _drop_unread(model.graph)
    _declare(model.graph, inputs, outputs)
    for leftover in ("metadata_props", "training_info", "functions"):
        model.ClearField(leftover)
    standard = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    kept = [onnx.helper.make_opsetid("", opset.version) for opset in standard[:1]]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = min(model.ir_version, 8)
    tidy = bytes(model.SerializeToString(deterministic=True))
    check_graph(tidy, inputs, outputs)
    return tidy


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors; a tensor that bears a new name already steps aside."""
    new = dict(names)
    for name in names.values():
        new.setdefault(name, f"{name}.inner")

    def renamed(name: str) -> str:
        return new.get(name, name)

    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)


def _fold(model: ModelProto, inputs: Sequence[Tensor]) -> None:
    """Compute what depends on no input, and on the size of the batch neither, and keep the results instead.

    Exporters compute shapes from shapes at run time; for two sizes of batch all of them can be told beforehand, and
    what comes out alike for both is a constant.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants: _Values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    while True:
        worlds = [dict(constants) for _ in _BATCHES]
        shapes = [_shapes(model, inputs, batch) for batch in _BATCHES]
        found: _Values = {}
        for node in graph.node:
            for world, known in zip(worlds, shapes, strict=True):
                world.update(_values_of(model, node, world, known))
            for name in node.output:
                if all(name in world for world in worlds):
                    first, second = (world[name] for world in worlds)
                    if first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
                        found[name] = first
        if not _replace(graph, found):
            return
        constants.update(found)


def _replace(graph: GraphProto, found: _Values) -> bool:
    """Constants in the place of nodes whose results are known; says whether there were any."""
    from onnx import numpy_helper

    ends = {value.name for value in graph.output}
    done = [node for node in graph.node if set(node.output) <= found.keys() and not ends.intersection(node.output)]
    kept = [node for node in graph.node if not any(node is other for other in done)]
    graph.initializer.extend(numpy_helper.from_array(found[name], name) for node in done for name in node.output)
    del graph.node[:]
    graph.node.extend(kept)
    return bool(done)


def _values_of(model: ModelProto, node: NodeProto, known: _Values, shapes: Mapping[str, tuple[int, ...]]) -> _Values:
    """What a node puts out, where that can be told."""
    if node.op_type == "Shape" and not node.attribute and node.input[0] in shapes:
        return {node.output[0]: np.array(shapes[node.input[0]], np.int64)}
    if all(name in known for name in node.input if name):
        return _result_of(model, node, known)
    return {}


def _shapes(model: ModelProto, inputs: Sequence[Tensor], batch: int) -> dict[str, tuple[int, ...]]:
    """The shapes that inference finds for one size of batch."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    by_name = {tensor.name: tensor for tensor in inputs}
    for value in copy.graph.input:
        tensor = by_name.get(value.name)
        if tensor is not None:
            value.CopyFrom(onnx.helper.make_tensor_value_info(tensor.name, tensor.type, [batch, *tensor.shape]))
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    found = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _result_of(model: ModelProto, node: NodeProto, known: _Values) -> _Values:
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    read = list(dict.fromkeys(name for name in node.input if name))
    written = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constant",
        [],
        [helper.make_empty_tensor_value_info(name) for name in written],
        [numpy_helper.from_array(known[name], name) for name in read],
    )
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    results: Any = ReferenceEvaluator(single).run(None, {})
    return {name: np.asarray(result) for name, result in zip(written, results, strict=True)}


def _drop_unread(graph: GraphProto) -> None:
    """Drop nodes and constants that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    for tensor in constants:
        tensor.ClearField("doc_string")
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")


def _declare(graph: GraphProto, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    from onnx import helper

    for field, tensors in ((graph.input, inputs), (graph.output, outputs)):
        del field[:]
        field.extend(
            helper.make_tensor_value_info(tensor.name, tensor.type, [_BATCH, *tensor.shape]) for tensor in tensors
        )
    for leftover in ("value_info", "quantization_annotation", "metadata_props", "doc_string"):
        graph.ClearField(leftover)
