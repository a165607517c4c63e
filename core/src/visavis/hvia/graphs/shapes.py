"""How large every tensor of a graph gets and what a call costs, from shape inference alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Final

from visavis.hvia.graphs.operators import node_macs
from visavis.hvia.graphs.tensors import ITEM_SIZES, REPAIR, Tensor
from visavis.hvia.limits import Limits

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_BATCHES: Final = (1, 2)
_ROOM: Final = 4096
"""Elements by which a tensor may grow beyond its share of the batch: shapes, say, that are computed."""


def check_sizes(model: ModelProto, outputs: Sequence[Tensor], limits: Limits) -> int:
    """Check that every tensor's shape is known, bounded, and grows with the batch at most in proportion.

    Returns the multiply-accumulates of one call for one row of the batch. Raises ValueError with a reason.
    """
    single, double = (_shapes(model, batch) for batch in _BATCHES)
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in single or name not in double:
                raise ValueError(
                    f"the size of its tensor {name[:60]!a} ({node.op_type}) cannot be told from the file{REPAIR}"
                )
            alone, both = prod(single[name][1]), prod(double[name][1])
            size = alone * ITEM_SIZES.get(single[name][0], 16)
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
            attributes = {attribute.name: attribute.i or tuple(attribute.ints) or 0 for attribute in node.attribute}
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
