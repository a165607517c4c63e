"""The graphs of the engine ``graphs/1``. This package alone imports onnx, and only when a graph is looked at.

Renderers take their graphs from :func:`load_graphs`, so that none of them ever executes an unchecked one; makers of
avatars bring what a training framework exported into shape with :func:`tidy_graph`.
"""

from __future__ import annotations

from visavis.hvia.graphs.check import CheckedGraph, check_graph
from visavis.hvia.graphs.contract import (
    WHICH,
    GraphOffer,
    Graphs,
    Which,
    face_contract,
    graph_name,
    graph_sources,
    load_graph,
    load_graphs,
    motion_contract,
)
from visavis.hvia.graphs.operators import IR_VERSIONS, OPERATORS, OPSETS
from visavis.hvia.graphs.tensors import FLOAT, UINT8, Tensor
from visavis.hvia.graphs.tidy import tidy_graph

__all__ = [
    "FLOAT",
    "IR_VERSIONS",
    "OPERATORS",
    "OPSETS",
    "UINT8",
    "WHICH",
    "CheckedGraph",
    "GraphOffer",
    "Graphs",
    "Tensor",
    "Which",
    "check_graph",
    "face_contract",
    "graph_name",
    "graph_sources",
    "load_graph",
    "load_graphs",
    "motion_contract",
    "tidy_graph",
]
