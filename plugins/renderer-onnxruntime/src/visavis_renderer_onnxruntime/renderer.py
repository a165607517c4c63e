"""Executes the graphs of an avatar with ONNX Runtime."""

from __future__ import annotations

from typing import Any, Final

import onnxruntime as ort
from visavis.errors import RendererError
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Tensors

from visavis_renderer_onnxruntime import OnnxRuntimeOptions

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
        ort.set_default_logger_severity(_SILENT)
        ort.disable_telemetry_events()

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """An inference session of ONNX Runtime."""
        return OnnxRuntimeExecutor(model, self.options, name)


class OnnxRuntimeExecutor:
    """One graph in one inference session; its ``run`` may be called from several threads."""

    def __init__(self, model: bytes, options: OnnxRuntimeOptions, name: str) -> None:
        providers = _providers(options.device)
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

    def run(self, feeds: Tensors) -> Tensors:
        """Execute the graph."""
        if self._session is None:
            raise RendererError("the avatar was closed")
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def close(self) -> None:
        """Let go of the session and its memory."""
        self._session = None


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
