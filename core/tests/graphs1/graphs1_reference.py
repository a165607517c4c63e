"""A renderer for these tests: exact, and it counts what its graphs are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from visavis.graphs1 import Graphs1Avatar, Graphs1Renderer, Tensors
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput

HOP = 1600
IDLE = RenderInput(None)


class Reference:
    """The reference evaluator, which counts its calls and rows."""

    def __init__(self, model: bytes, name: str) -> None:
        self.evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))
        self.name = name
        self.rows: list[int] = []
        self.closed = False
        self.fault: Exception | None = None
        self.out: dict[str, Any] = {}

    def run(self, feeds: Tensors) -> Tensors:
        if self.fault is not None:
            raise self.fault
        self.rows.append(len(next(iter(feeds.values()))))
        names = self.evaluator.output_names
        return dict(zip(names, self.evaluator.run(None, dict(feeds)), strict=True)) | self.out

    def close(self) -> None:
        self.closed = True


class ReferenceRenderer(Graphs1Renderer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made: list[Reference] = []

    def make_executor(self, model: bytes, *, name: str) -> Reference:
        self.made.append(Reference(model, name))
        return self.made[-1]


def load(renderer: Graphs1Renderer, path: Path) -> Graphs1Avatar:
    with open_hvia(path) as avatar:
        return renderer.load(avatar)


def loud(level: float = 0.3, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(HOP) * level).astype(np.float32)
