"""Executes the graphs of an avatar with the reference evaluator of the onnx package: exact, slow, pure Python."""

from __future__ import annotations

import onnx
from onnx.reference import ReferenceEvaluator
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Tensors


class ReferenceRenderer(Graphs1Renderer):
    """All but the execution of a graph is in the base."""

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        """One graph, ready to run."""
        return ReferenceExecutor(model)


class ReferenceExecutor:
    """A graph and its evaluator."""

    def __init__(self, model: bytes) -> None:
        self._evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))

    def run(self, feeds: Tensors) -> Tensors:
        """Inputs by name to outputs by name."""
        return dict(zip(self._evaluator.output_names, self._evaluator.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        """Nothing to let go of."""
