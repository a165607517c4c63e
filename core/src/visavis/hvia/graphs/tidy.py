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
    from onnx import GraphProto, ModelProto

_BATCH: Final = "B"


def tidy_graph(
    data: bytes,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    names: Mapping[str, str] | None = None,
) -> bytes:
    """An exported ONNX file made to keep to a contract (see ``motion_contract`` and ``face_contract``).

    What depends on no input is computed once and stored as a constant, so that every size can be told from the file;
    inputs and outputs are declared as the contract has them, with the batch ``B``; what nobody reads is dropped.
    ``names`` renames inputs and outputs first (exported name to the contract's). Raises ValueError with a reason.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    _rename(model.graph, names or {})
    _fold(model)
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


def _fold(model: ModelProto) -> None:
    """Compute the nodes whose inputs are all constant, and keep their results instead."""
    from onnx import numpy_helper

    graph = model.graph
    known: dict[str, NDArray[Any]] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        if all(name in known for name in node.input if name) and not outputs.intersection(node.output):
            results = _result_of(model, node, known)
            known.update(results)
            graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in results.items())
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _result_of(model: ModelProto, node: Any, known: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
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
