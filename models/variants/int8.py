"""Products and convolutions in 8 bit integers, calibrated by what the graph really hears or draws.

Static and symmetric (zero points of 0), a scale for each output channel of a weight, biases in float32: ONNX Runtime
and TensorRT both take the file so. Weights keep to 7 bits: where a processor multiplies bytes by pairs into 16 bits
(AVX2), full ones would overflow. ONNX Runtime's own quantiser finds the scales and places the nodes; what it places where
nothing is gained is taken out again.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from graphs import constants, producers, pruned
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

Feeds = dict[str, NDArray[np.float32]]
KINDS = ("Conv", "MatMul")


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        """The next call's inputs."""
        return next(self._feeds, None)


def quantised(
    model: onnx.ModelProto, nodes: Sequence[str], feeds: Sequence[Feeds], percentile: float | None = None
) -> onnx.ModelProto:
    """The graph with the named nodes in int8.

    Ranges are the least and the greatest value of the calibration, or reach to ``percentile`` of them: where an
    activation has rare peaks, cutting these off costs less than coarser steps for all others.
    """
    options: dict[str, object] = {"ActivationSymmetric": True, "QuantizeBias": False}
    if percentile is not None:
        options["CalibPercentile"] = percentile
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                source,
                target,
                _Feeds(feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                nodes_to_quantize=list(nodes),
                op_types_to_quantize=list(KINDS),
                calibrate_method=CalibrationMethod.MinMax if percentile is None else CalibrationMethod.Percentile,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options=options,
            )
        return pruned(_spared(onnx.load(target)))


def _spared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Only what is multiplied in int8 is rounded: residuals, and what comes out of a MatMul, stay as they are.

    What comes out of a Conv is rounded, for ONNX Runtime executes it in int8 only then.
    """
    known, made = constants(model), producers(model)

    def multiplied(node: onnx.NodeProto) -> bool:
        behind = made.get(node.input[1]) if node.op_type in KINDS else None
        return behind is not None and behind.op_type == "DequantizeLinear" and behind.input[0] in known

    products = [node for node in model.graph.node if multiplied(node)]
    convolved = {node.output[0] for node in products if node.op_type == "Conv"}
    summed = {node.output[0] for node in products if node.op_type == "MatMul"}
    for rounded in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        if rounded.input[0] in known:
            continue
        exact = made[rounded.input[0]].input[0]
        if exact in convolved:
            continue
        for node in model.graph.node:
            if node in products and node.input[0] == rounded.output[0] and exact not in summed:
                continue
            for place, name in enumerate(node.input):
                if name == rounded.output[0]:
                    node.input[place] = exact
    return model
