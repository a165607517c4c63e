"""What a renderer plugin brings: something that executes one ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]


class GraphExecutor(Protocol):
    """One graph, ready to run. ``run`` is called from several threads."""

    def run(self, feeds: Tensors) -> Tensors:
        """Execute the graph: input name -> tensor with the batch first, to output name -> tensor.

        May raise whatever its engine raises; the caller says which graph of which avatar it was.
        """

    def close(self) -> None:
        """Let go of the weights. May be called twice."""
