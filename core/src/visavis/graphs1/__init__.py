"""The engine ``graphs/1``: all of it but the execution of a graph, which a renderer plugin brings.

Needs the extra ``visavis[graphs]``; imported by renderers only, when they are made::

    class MyRenderer(Graphs1Renderer):
        def make_executor(self, model, *, name):
            return MyExecutor(model)
"""

from __future__ import annotations

from visavis.graphs1.avatar import Graphs1Avatar
from visavis.graphs1.executor import GraphExecutor, Tensor, Tensors
from visavis.graphs1.painting import Painter, Place
from visavis.graphs1.renderer import Graphs1Renderer
from visavis.graphs1.scene import Scene
from visavis.graphs1.session import Graphs1Session

__all__ = [
    "GraphExecutor",
    "Graphs1Avatar",
    "Graphs1Renderer",
    "Graphs1Session",
    "Painter",
    "Place",
    "Scene",
    "Tensor",
    "Tensors",
]
