"""A graph that computes in half precision, but for its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from graphs import Array, constants, producers, pruned
from onnx import NodeProto, TensorProto, helper, numpy_helper

_VALUES = {"Resize": 1, "Slice": 1, "Pad": 1, "Reshape": 1, "Gather": 1}
"""Of these operators only so many first inputs are what is computed; the others say how."""


def end_of(model: onnx.ModelProto, stops: Callable[[NodeProto], bool]) -> set[str]:
    """The outputs of all nodes between the graph's outputs and those that stop: what shall stay in single precision."""
    made, found = producers(model), set[str]()
    waiting = [value.name for value in model.graph.output]
    while waiting:
        node = made.get(waiting.pop())
        if node is not None and not stops(node) and node.output[0] not in found:
            found.update(node.output)
            waiting += node.input
    return found


def halved(model: onnx.ModelProto, exact: set[str], stored: Callable[[str, Array], int | None]) -> onnx.ModelProto:
    """The graph in float16, except nodes that put out what ``exact`` names, and its inputs and outputs.

    ``stored`` says along which axis a constant's channels lie if it may be kept in int8 (see ``stored_int8``); others
    are kept in float16.
    """
    known, graph = constants(model), model.graph
    singles, halves = {value.name for value in graph.input}, set[str]()
    nodes: list[NodeProto] = []
    done: dict[tuple[str, int], str] = {}

    def cast(name: str, to: int) -> str:
        if (name, to) not in done:
            done[name, to] = new = f"{name}.as{to}"
            nodes.append(helper.make_node("Cast", [name], [new], to=to))
        return done[name, to]

    def constant(name: str, half: bool) -> str:
        value = known[name]
        if value.dtype != np.float32 or not half:
            return name
        if stored(name, value) is not None:
            return cast(name, TensorProto.FLOAT16)
        if (name, 0) not in done:
            done[name, 0] = f"{name}.half"
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
        return done[name, 0]

    for node in graph.node:
        half = node.output[0] not in exact
        for place, name in enumerate(node.input[: _VALUES.get(node.op_type)]):
            if name in known:
                node.input[place] = constant(name, half)
            elif name in (singles if half else halves):
                node.input[place] = cast(name, TensorProto.FLOAT16 if half else TensorProto.FLOAT)
        (halves if half else singles).update(node.output)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return pruned(model)
