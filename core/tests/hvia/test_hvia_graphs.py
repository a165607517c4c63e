"""What a graph may be, told without executing it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hvia_forge import Parts
from onnx import TensorProto, helper, numpy_helper
from visavis.errors import AvatarError, AvatarInvalid
from visavis.hvia import Limits, open_hvia
from visavis.hvia.graphs import (
    FLOAT,
    OPERATORS,
    Tensor,
    check_graph,
    face_contract,
    load_graph,
    load_graphs,
    motion_contract,
    tidy_graph,
)
from visavis.hvia.graphs.values import told
from visavis.testing.tiny import tiny_avatar

Edit = Callable[[Any], object]
X = [Tensor("x", FLOAT, (4,))]
Y = [Tensor("y", FLOAT, (4,))]


def small(
    *nodes: onnx.NodeProto, constants: dict[str, Any] | None = None, dims: tuple[Any, ...] = ("B", 4), opset: int = 17
) -> bytes:
    """A graph from x ``[B, 4]`` to y ``[B, 4]``."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    ends = [[helper.make_tensor_value_info(name, FLOAT, dims)] for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "small", *ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def refused(data: bytes, words: str, **limits: int) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_graph(data, X, Y, limits=Limits(**limits))
    assert "\n" not in str(caught.value)


IDENTITY = node("Identity", "x", "y")


def test_tinys_graphs(tiny: Path) -> None:
    with open_hvia(tiny) as avatar:
        graphs = load_graphs(avatar)
        assert graphs.motion.data == avatar.read("graphs/motion.onnx")
        assert graphs.face.sha256 == hashlib.sha256(avatar.read("graphs/face.onnx")).hexdigest()
    assert graphs.motion.inputs == ("pcm", "state")
    assert graphs.motion.outputs == ("expression", "state_out")
    assert graphs.face.outputs == ("y", "uv", "alpha")
    # Gemm 52x256 and a convolution of 8x8 by 64x4x3x3, and little else.
    assert 160_000 < graphs.face.macs < 500_000
    assert 15_000 < graphs.face.parameters < 25_000


def test_tiny_does_what_its_coefficients_say(tmp_path: Path) -> None:
    """The mouth opens with jawOpen, the eyes shut with eyeBlink, the sound moves the jaw a hop later."""
    every = ("expression", "pose", "base_y", "base_uv")
    with open_hvia(tiny_avatar(tmp_path / "tiny.hvia", inputs=every)) as avatar:
        graphs = load_graphs(avatar)
        names = avatar.manifest.motion.coefficients
    face, motion = (
        onnxruntime.InferenceSession(graph.data, providers=["CPUExecutionProvider"])
        for graph in (graphs.face, graphs.motion)
    )

    def draw(**coefficients: float) -> Any:
        expression = np.zeros((1, 52), np.float32)
        for name, value in coefficients.items():
            expression[0, names.index(name)] = value
        base = {"base_y": np.full((1, 1, 64, 64), 90, np.uint8), "base_uv": np.full((1, 2, 32, 32), 128, np.uint8)}
        return face.run(["y"], {"expression": expression, "pose": np.zeros((1, 3), np.float32), **base})[0][0, 0]

    def dark(picture: Any, rows: slice) -> int:
        return int((picture[rows] < 60).sum())

    mouth, eyes = slice(30, 64), slice(10, 30)
    assert dark(draw(jawOpen=1.0), mouth) > 5 * dark(draw(), mouth) > 0
    assert dark(draw(), eyes) > 3 * dark(draw(eyeBlinkLeft=1, eyeBlinkRight=1), eyes) > 0

    state, jaws = np.zeros((1, 4), np.float32), []
    loud = np.sin(np.arange(1600) * 2 * np.pi * 200 / 16000).astype(np.float32)[None] * 0.3
    for hop in (np.zeros_like(loud), loud, np.zeros_like(loud), np.zeros_like(loud), np.zeros_like(loud)):
        expression, state = motion.run(["expression", "state_out"], {"pcm": hop, "state": state})
        jaws.append(float(expression[0, 0, names.index("jawOpen")]))
    assert jaws[0] == jaws[4] == 0
    assert jaws[2] == max(jaws) > 0.3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "IR version 0"),
        (b"not a model at all", "protobuf|field"),
        (b"\x08\x08\x3a\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x08" + b"\x80" * 80, "broken"),
        (b"\x0b\x0c", "does not allow"),
        (b"1234ORTM5678", "an ONNX Runtime file"),
    ],
)
def test_no_onnx(data: bytes, words: str) -> None:
    refused(data, words)


def test_unknown_and_doubled_fields() -> None:
    data = small(IDENTITY)
    refused(data + b"\xf2\x07\x01x", r"a field \(126\) that the format does not allow")
    refused(data + data, "twice")
    refused(data + b"\x3a\x00", r"holds a field \(7\) twice")


def test_names_that_are_no_text() -> None:
    refused(small(IDENTITY).replace(b"x", b"\xff"), "a name in it is not UTF-8")


def test_many_fields() -> None:
    """Two bytes a field, a hundred bytes each once parsed."""
    refused(b"\x42\x00" * 300_000, "more than 200000 fields")


def test_many_numbers_that_grow() -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.INT64, dims=[2_000_000], int64_data=[0] * 2_000_000)
    model = onnx.load_model_from_string(small(IDENTITY))
    model.graph.initializer.append(tensor)
    refused(model.SerializeToString(), "are not raw data")


def test_size() -> None:
    refused(small(IDENTITY), "at most 10 are read", graph=10)
    refused(small(IDENTITY, node("Abs", "x", "z")), "at most 1 are read", graph_nodes=1)


def _outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _outside_by_flag(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _function(model: Any) -> None:
    model.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [node("Abs", "a", "b")], [helper.make_opsetid("", 17)])
    )


def _if(model: Any) -> None:
    body = helper.make_graph([node("Abs", "x", "z")], "b", [], [helper.make_tensor_value_info("z", FLOAT, None)])
    model.graph.node.append(node("If", "cond", "w", then_branch=body, else_branch=body))


def _sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def _text(model: Any) -> None:
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"]))


def _metadata(model: Any) -> None:
    model.metadata_props.add(key="ort_config", value="{}")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_outside, "external data"),
        (_outside_by_flag, "external data"),
        (_function, "functions of its own"),
        (_if, "control flow"),
        (_sparse, "sparse"),
        (_text, "text tensors"),
        (_metadata, "settings for ONNX Runtime"),
        (lambda m: m.training_info.add(), "training information"),
        (lambda m: m.opset_import.add(domain="com.microsoft", version=1), "standard operators and no others"),
        (lambda m: m.opset_import.pop(), "standard operators"),
        (lambda m: setattr(m.opset_import[0], "version", 25), "opset 25 is outside 13..20"),
        (lambda m: setattr(m.opset_import[0], "version", 9), "opset 9 is outside"),
        (lambda m: setattr(m, "ir_version", 3), "IR version 3"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Loop"), "operator 'Loop', which the format does not allow"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "'com.microsoft.*', which the format"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "ghost"), "reads 'ghost', which is not defined"),
        (lambda m: m.graph.node[-1].output.__setitem__(0, "pcm"), "'pcm' is defined twice"),
        (lambda m: m.graph.node.extend([m.graph.node[0]]), "is defined twice"),
        (lambda m: m.graph.node.insert(0, m.graph.node.pop()), "not defined before it"),
        (lambda m: m.graph.input.pop(), "its inputs must be pcm, state, not pcm"),
        (lambda m: m.graph.output.pop(), "its outputs must be expression, state_out, not expression"),
        (lambda m: setattr(m.graph.input[0], "name", "sound"), "not sound, state|not defined"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11), r"pcm must be float32 \[B, 1600\]"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 1601), "pcm must be"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1), "pcm must be"),
        (lambda m: setattr(m.graph.input[1].type.tensor_type.shape.dim[0], "dim_param", "N"), "one symbol"),
        (lambda m: m.graph.initializer.add(name="pcm", data_type=1, dims=[1], raw_data=bytes(4)), "defined twice"),
        (lambda m: setattr(m.graph.initializer[0], "raw_data", b""), "more or less data"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**60), "more or less data"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -1), "impossible shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "data type"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "constants have one name"),
        (lambda m: _stride(m, 0), "outside 1..65536"),
        (lambda m: _stride(m, -3), "outside 1..65536"),
        (lambda m: _stride(m, 2**40), "outside 1..65536"),
        (lambda m: m.graph.node[1].attribute.append(m.graph.node[1].attribute[0]), "an attribute twice"),
    ],
)
def test_motion_graphs(parts: Parts, tmp_path: Path, edit: Edit, words: str) -> None:
    path = parts.edit_graph("motion", edit).write(tmp_path / "made.hvia")
    with open_hvia(path) as avatar, pytest.raises(AvatarInvalid, match=words) as caught:
        load_graph(avatar, "motion")
    assert str(caught.value).startswith("made.hvia: the motion graph is refused: ")
    assert "\n" not in str(caught.value)


def _stride(model: Any, value: int) -> None:
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    next(a for a in conv.attribute if a.name == "strides").ints[0] = value


def test_not_a_number() -> None:
    refused(small(node("Add", "x c", "y"), constants={"c": np.array([0, 1, np.nan, 0], np.float32)}), "NaN")


def test_the_wrong_face(parts: Parts, tmp_path: Path) -> None:
    parts.manifest["face"]["alpha"] = False
    with open_hvia(parts.write(tmp_path / "made.hvia")) as avatar:
        with pytest.raises(AvatarInvalid, match="its outputs must be y, uv, not y, uv, alpha"):
            load_graph(avatar, "face")


BIG = np.array([1 << 20, 1 << 20], np.int64)


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([node("ConstantOfShape", "s", "t")], {"s": BIG}, "takes 4398046511104 bytes"),
        ([node("Expand", "c s", "t")], {"c": np.float32([1]), "s": BIG}, "takes 4398046511104 bytes"),
        ([node("Tile", "x s", "t")], {"s": BIG}, "takes 1759"),
        ([node("Pad", "x s", "t")], {"s": np.array([0, 0, 0, 1 << 30], np.int64)}, "takes 4294967312 bytes"),
        ([node("Pad", "x s", "t")], {"s": np.array([0, 0, 0, 1 << 40], np.int64)}, "out of bounds"),
        ([node("Tile", "x s", "t")], {"s": np.array([1, 1 << 62], np.int64)}, "out of bounds"),
        ([node("Shape", "x", "s0"), *(node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0) for i in range(60))], {},
         "takes 134217728 bytes"),
        ([node("Add", "x c", "t")], {"c": np.ones(4, np.int64)}, "do not fit together"),
        ([node("Gather", "x c", "t", axis=7)], {"c": np.ones(4, np.int64)}, "do not fit together"),
        ([node("Relu", "x", "t", alpha=1.0)], {}, "not as ONNX wants it"),
        ([node("Relu", "x x", "t")], {}, "not as ONNX wants it"),
        ([node("Resize", "x  s", "t", mode="nearest")], {"s": np.float32([1, 1e9])}, "takes 16|do not fit"),
        ([node("Reshape", "x s", "r"), node("MatMul", "r x", "t")], {"s": np.array([-1, 1], np.int64)}, "do not fit"),
        ([node("Reshape", "x s", "r"), node("Mul", "r q", "t")],
         {"s": np.array([-1, 1], np.int64), "q": np.ones((1, 8192), np.float32)}, None),
        ([node("Reshape", "x s", "c1"), node("Reshape", "x z", "r1"), node("Mul", "c1 r1", "t"),
          node("Tile", "t k", "u")],
         {"s": np.array([-1, 1], np.int64), "z": np.array([1, -1], np.int64), "k": np.array([99, 9], np.int64)},
         "grows faster than the batch"),
        ([node("Cast", "x", "i", to=7), node("Shape", "x", "n"), node("Reshape", "i m", "j"),
          node("ConstantOfShape", "j", "t")], {"m": np.array([-1], np.int64)},
         r"cannot be told from the file \(its maker can repair an export"),
    ],
)  # fmt: skip
def test_bombs(nodes: list[onnx.NodeProto], constants: dict[str, Any], words: str | None) -> None:
    data = small(*nodes, IDENTITY, constants=constants)
    if words is None:
        check_graph(data, X, Y)
    else:
        refused(data, words)


def test_too_much_work() -> None:
    layers, at = [], "x"
    for index in range(8):
        layers.append(node("MatMul", f"{at} w{index % 2}", f"t{index}"))
        at = f"t{index}"
    weights = {"w0": np.zeros((4, 4096), np.float32), "w1": np.zeros((4096, 4), np.float32)}
    check_graph(small(*layers, node("Identity", at, "y"), constants=weights), X, Y)
    refused(small(*layers, node("Identity", at, "y"), constants=weights), "multiply-accumulates", macs=100_000)


def test_outputs_that_lie() -> None:
    refused(small(node("Concat", "x x", "y", axis=1)), "does not come out as it declares|do not fit")
    refused(small(node("Concat", "x x", "y", axis=0)), "does not come out as it declares|do not fit")
    refused(small(node("Cast", "x", "y", to=11)), "does not come out as it declares|do not fit")


def test_a_batch_of_one_only() -> None:
    refused(small(node("Reshape", "x s", "y"), constants={"s": np.array([1, 4], np.int64)}), "do not fit|come out")


def test_every_allowed_operator_exists() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert known >= OPERATORS
    assert not OPERATORS & {
        "If",
        "Loop",
        "Scan",
        "STFT",
        "DFT",
        "GridSample",
        "SequenceMap",
        "Optional",
        "StringConcat",
    }


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 20])
def test_opsets(opset: int) -> None:
    check_graph(small(node("Relu", "x", "y"), opset=opset), X, Y)


def test_references(parts: Parts, tmp_path: Path) -> None:
    data = parts.members.pop("graphs/face.onnx")
    digest = hashlib.sha256(data).hexdigest()
    parts.manifest["face"]["graph"] = {"sha256": digest}
    path = parts.rehash().write(tmp_path / "made.hvia")
    pack = tmp_path / "pack"
    pack.mkdir()
    with open_hvia(path) as avatar:
        with pytest.raises(AvatarError, match=f"{digest[:12]}.*lies in a model pack that is not here"):
            load_graphs(avatar)
        with pytest.raises(AvatarError, match="install the model pack"):
            load_graphs(avatar, packs=[tmp_path / "none", pack])
        (pack / f"{digest}.onnx").write_bytes(data)
        assert load_graphs(avatar, packs=[tmp_path / "none", pack]).face.data == data
        (pack / f"{digest}.onnx").write_bytes(data[:-1])
        with pytest.raises(AvatarError, match="is damaged"):
            load_graphs(avatar, packs=[pack])


def test_without_onnx(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with open_hvia(tiny) as avatar, pytest.raises(AvatarError, match=r"pip install 'visavis\[graphs\]'"):
        load_graphs(avatar)


def test_contracts(tiny: Path) -> None:
    with open_hvia(tiny) as avatar:
        inputs, outputs = motion_contract(avatar.manifest)
        assert [tensor.shape for tensor in (*inputs, *outputs)] == [(1600,), (4,), (1, 52), (4,)]
        inputs, outputs = face_contract(avatar.manifest)
        assert [tensor.name for tensor in (*inputs, *outputs)] == ["expression", "y", "uv", "alpha"]


def test_tidy() -> None:
    """An export with computed shapes, other names and leftovers becomes what the contract wants."""
    graph = helper.make_graph(
        [
            node("Shape", "c", "n"),
            node("ConstantOfShape", "n", "zeros"),
            node("Add", "zeros c", "sum"),
            node("Add", "in0 sum", "y"),
            node("Relu", "y", "out7"),
            node("Abs", "y", "unread"),
        ],
        "export",
        [helper.make_tensor_value_info("in0", FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("out7", FLOAT, ["M", "K"])],
        [
            numpy_helper.from_array(np.arange(4, dtype=np.float32), "c"),
            numpy_helper.from_array(np.zeros(4, np.float32), "d"),
        ],
        value_info=[helper.make_tensor_value_info("sum", FLOAT, [4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="pytorch")
    model.metadata_props.add(key="ort_config", value="{}")
    tidy = tidy_graph(model.SerializeToString(), X, Y, names={"in0": "x", "out7": "y"})
    left = onnx.load_model_from_string(tidy)
    assert [n.op_type for n in left.graph.node] == ["Add", "Relu"]
    session = onnxruntime.InferenceSession(tidy, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((2, 4), np.float32)})[0].tolist() == [[1, 2, 3, 4]] * 2


def test_shapes_that_are_computed() -> None:
    """Half the width of x, as exporters compute it; tidied, only what follows the batch stays computed."""
    nodes = [
        node("Shape", "x", "dims"),
        node("Gather", "dims one", "width"),
        node("Div", "width two", "half"),
        node("Unsqueeze", "half axis", "end"),
        node("Slice", "x axis end ones", "left"),  # along axis 1
        node("Gather", "dims zero", "batch"),
        node("Unsqueeze", "batch axis", "rows"),
        node("Concat", "rows four", "shape", axis=0),
        node("Concat", "left left", "both", axis=1),
        node("Reshape", "both shape", "y"),
    ]
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "axis": np.array([0], np.int64),
        "ones": np.array([1], np.int64),
        "four": np.array([4], np.int64),
    }
    export = small(*nodes, constants=constants)
    check_graph(export, X, Y)
    tidy = tidy_graph(export, X, Y)
    left = onnx.load_model_from_string(tidy)
    assert [n.op_type for n in left.graph.node] == [
        "Shape",
        "Slice",
        "Gather",
        "Unsqueeze",
        "Concat",
        "Concat",
        "Reshape",
    ]
    session = onnxruntime.InferenceSession(tidy, providers=["CPUExecutionProvider"])
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert session.run(None, {"x": x})[0].tolist() == [[a, b, a, b] for a, b, _, _ in x.tolist()]


def test_open_dimensions_of_outputs() -> None:
    """Exporters leave them open; what really comes out is what counts."""
    model = onnx.load_model_from_string(small(IDENTITY))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "somewhat"
    check_graph(model.SerializeToString(), X, Y)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    refused(model.SerializeToString(), r"its output y must be float32 \[B, 4\], B a symbol")


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "expected"),
    [
        ("Div", [ints(-7, 7, 6), ints(2, -2, 3)], {}, ints(-3, -3, 2)),
        ("Div", [ints(7), ints(0)], {}, None),
        ("Div", [np.float32([1]), np.float32([2])], {}, np.float32([0.5])),
        ("Add", [ints(1), ints(2)], {}, ints(3)),
        ("Mul", [ints(2**40), ints(2**40)], {}, None),
        ("Add", [ints(2**62), ints(2**62)], {}, None),
        ("Neg", [ints(-(2**63))], {}, None),
        ("Identity", [ints(-(2**63))], {}, None),
        ("Cast", [np.float32([2.5])], {"to": 7}, ints(2)),
        ("Cast", [np.float32([2.5])], {"to": 8}, None),
        ("Concat", [ints(1), ints(2, 3)], {"axis": 0}, ints(1, 2, 3)),
        ("Gather", [ints(5, 6, 7), ints(2, 0)], {}, ints(7, 5)),
        ("Gather", [ints(5, 6, 7), ints(9)], {}, None),
        ("Slice", [ints(1, 2, 3, 4), ints(-1), ints(-(2**63)), ints(0), ints(-2)], {}, ints(4, 2)),
        ("Slice", [ints(1, 2, 3, 4), ints(1), ints(2**63 - 1)], {}, ints(2, 3, 4)),
        ("Slice", [ints(1, 2), ints(0), ints(2), ints(0), ints(0)], {}, None),
        ("Reshape", [ints(1, 2, 3, 4), ints(0)], {}, ints(1, 2, 3, 4)),
        ("Reshape", [ints(1, 2, 3, 4), ints(2, -1)], {}, np.array([[1, 2], [3, 4]])),
        ("Transpose", [np.array([[1, 2], [3, 4]])], {}, np.array([[1, 3], [2, 4]])),
        ("Squeeze", [np.array([[1, 2]]), ints(0)], {}, ints(1, 2)),
        ("Unsqueeze", [np.array(3), ints(0)], {}, ints(3)),
        ("ConstantOfShape", [ints(2)], {}, np.zeros(2, np.float32)),
        ("ConstantOfShape", [ints(2)], {"value": ints(-1)}, ints(-1, -1)),
        ("ConstantOfShape", [ints(2**30)], {}, None),
        ("Equal", [ints(1, 2), ints(1, 3)], {}, np.array([True, False])),
        ("Where", [np.array([True, False]), ints(1, 1), ints(2, 2)], {}, ints(1, 2)),
        ("Max", [ints(1, 5), ints(3, 3)], {}, ints(3, 5)),
        ("ReduceProd", [ints(3, 4)], {"axes": (0,), "keepdims": 0}, np.array(12)),
        ("Sigmoid", [np.float32([1])], {}, None),
        ("Add", [ints(1), None], {}, None),
    ],
)
def test_arithmetic_of_shapes(kind: str, inputs: list[Any], attributes: dict[str, Any], expected: Any) -> None:
    shape = (1,) if expected is None else expected.shape
    value = told(kind, inputs, attributes, shape)
    if expected is None:
        assert value is None
    else:
        assert value is not None
        assert value.tolist() == expected.tolist()
        assert value.dtype == expected.dtype
