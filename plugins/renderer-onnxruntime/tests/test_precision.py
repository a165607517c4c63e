"""In what graphs are executed: what the option says, what the avatar brings, and what pays on this processor."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from visavis.graphs1 import Graphs1Avatar
from visavis.hvia import open_hvia
from visavis.hvia.graphs import load_graph
from visavis.testing import RendererCase, RendererKit
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_onnxruntime import OnnxRuntimeOptions, integers, make
from visavis_renderer_onnxruntime import renderer as module
from visavis_renderer_onnxruntime.integers import prepared
from visavis_renderer_onnxruntime.renderer import OnnxRuntimeRenderer

VARIANTS = ("fp16", "int8")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("precision") / "many.hvia", variants=VARIANTS)


class TestInt8(RendererKit):
    @pytest.fixture
    def renderer(self, path: Path) -> RendererCase:
        return RendererCase(make=lambda: make(OnnxRuntimeOptions(precision="int8")), avatar=path)


class TestFp16(RendererKit):
    @pytest.fixture
    def renderer(self, path: Path) -> RendererCase:
        return RendererCase(make=lambda: make(OnnxRuntimeOptions(precision="fp16")), avatar=path)


def load(path: Path, **options: Any) -> Graphs1Avatar:
    with open_hvia(path) as file:
        return OnnxRuntimeRenderer(OnnxRuntimeOptions(**options)).load(file)


def test_what_is_asked_for_is_executed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for precision in ("fp32", *VARIANTS):
        assert load(path, precision=precision).weights.precisions == (precision, precision)
    assert caplog.records == []
    with pytest.raises(ValidationError, match="precision"):
        OnnxRuntimeOptions(precision="int4")


def test_what_the_avatar_lacks_is_told_and_fp32_is_executed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    avatar = load(tiny_avatar(tmp_path / "plain.hvia"), precision="int8")
    assert avatar.weights.precisions == ("fp32", "fp32")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        f"plain.hvia: its {which} graph does not come in int8, fp32 is executed" for which in ("motion", "face")
    ]


@pytest.mark.parametrize(("int8", "chosen"), [(0.5, "int8"), (0.99, "fp32"), (2.0, "fp32")])
def test_auto_takes_int8_where_it_pays(path: Path, monkeypatch: pytest.MonkeyPatch, int8: float, chosen: str) -> None:
    """And tries each graph once a renderer, however many avatars hold it."""
    tried: list[int] = []

    def seconds(executors: list[Any]) -> list[float]:
        for executor in executors:
            executor.try_once()  # it takes zeros of the graph's own shapes
        tried.append(len(executors))
        return [1.0, int8]

    monkeypatch.setattr(module, "best_seconds", seconds)
    renderer = OnnxRuntimeRenderer()
    with open_hvia(path) as file:
        loaded = [renderer.load(file)]
        loaded[0].close()
        loaded.append(renderer.load(file))
    assert [avatar.weights.precisions for avatar in loaded] == [(chosen, chosen)] * 2
    assert tried == [2, 2]


def test_auto_does_not_try_what_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "best_seconds", lambda executors: pytest.fail("tried"))
    plain, half = tiny_avatar(tmp_path / "plain.hvia"), tiny_avatar(tmp_path / "half.hvia", variants=("fp16",))
    for path in (plain, half):
        assert load(path).weights.precisions == ("fp32", "fp32")


def test_the_quickest_call_of_each_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "thread_time", lambda: clock[0])

    class Working:
        def __init__(self, *seconds: float) -> None:
            self.seconds = iter(seconds)

        def try_once(self) -> None:
            clock[0] += next(self.seconds, 9.0)

    quick, slow = Working(0.25, 3.0, 1.0, 5.0), Working(8.0, 2.0, 4.0, 2.5)
    assert module.best_seconds([quick, slow]) == [1.0, 2.0]  # type: ignore[list-item]


@pytest.fixture
def rows() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((3, 52)).astype(np.float32)


def run(model: bytes, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    # As written, node by node: what is fused may round otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def kinds(model: bytes, operator: str) -> set[int]:
    """The types of the zero points of all activations that an operator reads or writes."""
    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {constants[n.input[2]] for n in graph.node if n.op_type == operator and n.input[0] not in constants}


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64"])
def test_unsigned_activations_compute_the_same(
    path: Path, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(integers.platform, "machine", lambda: machine)
    with open_hvia(path) as file:
        model = load_graph(file, "face", "int8").data
    changed = prepared(model)
    wanted = {TensorProto.INT8 if machine == "aarch64" else TensorProto.UINT8}
    assert kinds(model, "QuantizeLinear") == kinds(model, "DequantizeLinear") == {TensorProto.INT8}
    assert kinds(changed, "QuantizeLinear") == kinds(changed, "DequantizeLinear") == wanted
    for one, other in zip(run(model, {"expression": rows}), run(changed, {"expression": rows}), strict=True):
        assert np.array_equal(one, other)


def stored(axis: int | None, zero: int) -> bytes:
    """y = x + w, w ``[2, 3]`` kept in int8."""
    whole = np.array([[1, -2, 3], [100, -100, 7]], np.int8)
    size = 1 if axis is None else whole.shape[axis]
    scale = np.linspace(0.5, 0.75, size, dtype=np.float32)
    zeros = np.full(size, zero, np.int8)
    parts = {"w8": whole, "s": scale if axis is not None else scale[0], "z": zeros if axis is not None else zeros[0]}
    options = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["w"], **options),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])] for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in parts.items()]
    graph = helper.make_graph(nodes, "stored", *ends, tensors)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("zero", [0, 5])
def test_what_is_only_stored_in_int8_is_unpacked(axis: int | None, zero: int) -> None:
    model = stored(axis, zero)
    changed = prepared(model)
    assert [node.op_type for node in onnx.load_model_from_string(changed).graph.node] == ["Add"]
    x = np.random.default_rng(1).random((2, 3)).astype(np.float32)
    assert np.array_equal(run(model, {"x": x})[0], run(changed, {"x": x})[0])


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_a_matrix_that_is_only_stored_in_int8_is_unpacked(kind: str) -> None:
    """Beside floating numbers it is no quantised product, and would be unpacked in every call."""
    model = onnx.load_model_from_string(stored(0, 0))
    node = model.graph.node[1]
    node.op_type = kind
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[1].dim_value = 2 if end.name == "x" else 3
    changed = prepared(model.SerializeToString())
    assert [node.op_type for node in onnx.load_model_from_string(changed).graph.node] == [kind]
    x = np.random.default_rng(1).random((2, 2)).astype(np.float32)
    assert np.allclose(run(model.SerializeToString(), {"x": x})[0], run(changed, {"x": x})[0], rtol=1e-6)


def test_bytes_that_something_else_reads_keep_their_meaning() -> None:
    """A Pad fills with zeros, which would be something else in unsigned bytes: such a graph is left as it is."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Pad", ["q", "pads"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    tensors = {"s": np.float32(0.1), "z": np.int8(0), "pads": np.array([0, 1, 0, 1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = bytes(whole.SerializeToString())
    x = np.random.default_rng(1).random((2, 3)).astype(np.float32)
    assert np.array_equal(run(model, {"x": x})[0], run(prepared(model), {"x": x})[0])
