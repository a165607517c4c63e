"""Executes the graphs of an avatar with ONNX Runtime."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from visavis.errors import RendererError
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Tensors
from visavis.hvia import Precision
from visavis.hvia.graphs import GraphOffer

from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime.integers import prepared

log = logging.getLogger("visavis.renderer.onnxruntime")

WORTH_IT: Final = 0.93
"""Int8 rounds; for less than this gain it is not worth it, and near it chance would choose."""
TURNS: Final = 8

# Warnings of ONNX Runtime are for makers of graphs; errors reach us as exceptions.
_SILENT: Final = 4
_CUDA: Final = "CUDAExecutionProvider"


def problem(device: str) -> str | None:
    """Why ``device`` cannot be used here, in one line; None if ONNX Runtime offers it."""
    if device == "cpu" or _CUDA in ort.get_available_providers():
        return None
    return f"this ONNX Runtime ({ort.__version__}) has no CUDA, so {device} cannot be used"


class OnnxRuntimeRenderer(Graphs1Renderer):
    """A ``graphs/1`` renderer on ONNX Runtime. Raises RendererError if the device is not there."""

    def __init__(self, options: OnnxRuntimeOptions | None = None) -> None:
        self.options = options or OnnxRuntimeOptions()
        super().__init__(max_batch=self.options.max_batch, packs=self.options.model_packs)
        if said := problem(self.options.device):
            raise RendererError(
                said,
                hint="replace onnxruntime by onnxruntime-gpu (pip uninstall onnxruntime; pip install onnxruntime-gpu), "
                "or write device: cpu",
            )
        self._trying = threading.Lock()
        self._pays: dict[tuple[str, str], bool] = {}
        ort.set_default_logger_severity(_SILENT)
        ort.disable_telemetry_events()

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """An inference session of ONNX Runtime."""
        return OnnxRuntimeExecutor(model, self.options, name)

    def prefer(self, offer: GraphOffer) -> Precision:
        """What the option ``precision`` says, as far as the avatar brings it."""
        wanted = self.options.precision
        if wanted == "auto":
            return "int8" if self.options.device == "cpu" and self._int8_pays(offer) else "fp32"
        if wanted not in offer.precisions:
            log.warning("%s: its %s graph does not come in %s, fp32 is executed", offer.name, offer.which, wanted)
            return "fp32"
        return wanted

    def _int8_pays(self, offer: GraphOffer) -> bool:
        """Whether int8 is quicker here. Tried, not told from the processor: it depends on its instructions, on ONNX
        Runtime's kernels for them and on the graph."""
        if "int8" not in offer.precisions:
            return False
        plain, whole = offer.load("fp32"), offer.load("int8")
        key = plain.sha256, whole.sha256
        with self._trying:
            if key not in self._pays:
                with ExitStack() as made:
                    pair = [OnnxRuntimeExecutor(graph.data, self.options, offer.name) for graph in (plain, whole)]
                    for executor in pair:
                        made.callback(executor.close)
                    one, other = best_seconds(pair)
                self._pays[key] = other < WORTH_IT * one
                said = f"{1000 * other:.2f} ms in int8, {1000 * one:.2f} ms in fp32"
                log.debug("%s: a call of its %s graph takes %s", offer.name, offer.which, said)
            return self._pays[key]


class OnnxRuntimeExecutor:
    """One graph in one inference session; its ``run`` may be called from several threads."""

    def __init__(self, model: bytes, options: OnnxRuntimeOptions, name: str) -> None:
        providers = _providers(options.device)
        if options.device == "cpu" and b"DequantizeLinear" in model:
            model = prepared(model)
        session = ort.InferenceSession(model, _session_options(options, name), providers, enable_fallback=False)
        # Where a GPU refuses, ONNX Runtime quietly goes on without it.
        if (wanted := providers[0][0]) not in session.get_providers():
            raise RendererError(
                f"ONNX Runtime cannot use {options.device}",
                hint="see `nvidia-smi`, and that the CUDA and cuDNN libraries fit this onnxruntime-gpu",
            )
        self.provider = wanted
        self._session: Any = session
        self._outputs = [output.name for output in session.get_outputs()]
        self.inputs = session.get_inputs()
        """What it takes: each with a name, a type and a shape whose first dimension is the batch."""

    def run(self, feeds: Tensors) -> Tensors:
        """Execute the graph."""
        if self._session is None:
            raise RendererError("the avatar was closed")
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def try_once(self) -> None:
        """Execute the graph for a batch of one, on zeros: what a call costs does not depend on the numbers."""
        zeros = {
            end.name: np.zeros((1, *end.shape[1:]), np.uint8 if "uint8" in end.type else np.float32)
            for end in self.inputs
        }
        self.run(zeros)

    def close(self) -> None:
        """Let go of the session and its memory."""
        self._session = None


def best_seconds(executors: Sequence[OnnxRuntimeExecutor]) -> list[float]:
    """The least that a call of each took, in turns, so that whoever else uses the processor disturbs all alike."""
    best = [math.inf] * len(executors)
    for turn in range(TURNS):
        for place, executor in enumerate(executors):
            began = time.thread_time()
            executor.try_once()
            if turn:  # the first call sets up
                best[place] = min(best[place], time.thread_time() - began)
    return best


def _session_options(options: OnnxRuntimeOptions, name: str) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.logid = name
    settings.log_severity_level = _SILENT
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # A pattern is kept for every size of batch that comes by; the arena alone is as quick and stays small.
    settings.enable_mem_pattern = False
    # Threads that spin while they wait would eat the cores of other sessions.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return settings


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    if device == "cpu":
        return [("CPUExecutionProvider", {})]
    _, _, index = device.partition(":")
    return [
        (
            _CUDA,
            {
                "device_id": index or "0",
                "arena_extend_strategy": "kSameAsRequested",
                # Batches change size from step to step: an exhaustive search for each would stall the picture.
                "cudnn_conv_algo_search": "HEURISTIC",
                # Ten bits of mantissa would move grey levels.
                "use_tf32": "0",
            },
        ),
        ("CPUExecutionProvider", {}),
    ]
