"""What makes the graphs that ship digestible for TensorRT: undo any one measure, and it is refused.

docs/gpu.md lists the measures; each stands here as a change that takes it back. Who refuses is TensorRT-RTX's real
parser or builder, but for two measures that it does not mind: there it is the format's reader, or this renderer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxruntime.quantization as quantization
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from shipped import SAMPLES, sources
from visavis.errors import RendererError
from visavis.graphs1.compose import spots_of
from visavis.hvia import open_hvia
from visavis.hvia.graphs import check_graph, motion_contract
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt import scene_graph as scenes
from visavis_renderer_tensorrt import tensorrt_engine
from visavis_renderer_tensorrt.device import Profile
from visavis_renderer_tensorrt.nodes import UINT8, attribute, constants, drop_unread, unpacked
from visavis_renderer_tensorrt.programs import picture_program
from visavis_renderer_tensorrt.tensorrt_engine import TensorRTEngine, find
from visavis_renderer_tensorrt.turing import without_products

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX has no wheel for this platform")


def build(data: bytes, capability: tuple[int, int] = (8, 9)) -> bytes:
    return TensorRTEngine(*find("tensorrt-rtx"), capability=capability).build(data, Profile(64), lambda phase: None)


@pytest.fixture(scope="module")
def motion() -> bytes:
    with open_hvia(SAMPLES[0]) as avatar:
        return dict(sources(avatar, "motion"))["fp32"]


@pytest.fixture(scope="module")
def face() -> bytes:
    with open_hvia(SAMPLES[0]) as avatar:
        return dict(sources(avatar, "face"))["fp32"]


# -- ways back


def first(model: ModelProto, kind: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def maker(model: ModelProto, tensor: str) -> NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def let(node: NodeProto, **attributes: Any) -> None:
    for found in [found for found in node.attribute if found.name in attributes]:
        node.attribute.remove(found)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())


def arithmetic_in_uint8(model: ModelProto) -> None:
    maker(model, "y").output[0] = "levels"
    model.graph.initializer.append(numpy_helper.from_array(np.array(16, np.uint8), "black"))
    model.graph.node.append(helper.make_node("Max", ["levels", "black"], ["y"]))


def wider_levels(model: ModelProto) -> None:
    let(maker(model, "y"), to=TensorProto.UINT16)
    next(value for value in model.graph.output if value.name == "y").type.tensor_type.elem_type = TensorProto.UINT16


def halves_among_floats(model: ModelProto) -> None:
    halves = {value.name for value in model.graph.initializer if value.data_type == TensorProto.FLOAT16}
    cast = next(node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves)
    cast.op_type = "Identity"
    del cast.attribute[:]


def another_resize(**how: Any) -> Callable[[ModelProto], None]:
    return lambda model: let(resize(model), **how)


def resize(model: ModelProto) -> NodeProto:
    """Our faces enlarge nothing: one that does nothing is put before the luma's last node, as an exporter writes it."""
    last = maker(model, "y")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "enlarged.scales"))
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    made = helper.make_node("Resize", [last.input[0], "", "enlarged.scales"], ["enlarged"], **options)
    model.graph.node.insert(list(model.graph.node).index(last), made)
    last.input[0] = "enlarged"
    return first(model, "Resize")


def a_batch_baked_in(model: ModelProto) -> None:
    known = constants(model)
    shape = first(model, "Reshape").input[1]
    baked = known[shape].copy()
    baked[0] = 1
    first(model, "Reshape").input[1] = "baked"
    model.graph.initializer.append(numpy_helper.from_array(baked, "baked"))


def a_fixed_batch(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


OF_THE_FACE: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "levels are floating until the last node": (arithmetic_in_uint8, "UINT8 types for intermediate tensors"),
    "levels come out as uint8": (wider_levels, "Unsupported data type"),
    "what is stored in halves is cast before it is used": (halves_among_floats, "must have same input types"),
    "Resize takes coordinates that TensorRT knows": (
        another_resize(coordinate_transformation_mode="half_pixel_symmetric"),
        "transformationMode",
    ),
    "Resize crops nothing": (another_resize(coordinate_transformation_mode="tf_crop_and_resize"), "transformationMode"),
    "no size of batch is baked into a shape": (a_batch_baked_in, "violate shape constraints|reshap"),
    "the batch is a symbol": (a_fixed_batch, "profile"),
}


@pytest.mark.parametrize("undo, said", OF_THE_FACE.values(), ids=OF_THE_FACE)
def test_undone_it_is_refused(face: bytes, undo: Callable[[ModelProto], None], said: str) -> None:
    model = onnx.load_model_from_string(face)
    undo(model)
    onnx.checker.check_model(model)  # it is still good ONNX: nobody but TensorRT minds
    with pytest.raises(RendererError, match=said):
        build(model.SerializeToString())


def test_not_undone_it_is_built(face: bytes) -> None:
    assert build(face)
    model = onnx.load_model_from_string(face)
    resize(model)
    assert build(model.SerializeToString())


# -- quantisation


def folded(data: bytes) -> ModelProto:
    """Without casts of constants and constants in bytes, which a quantiser would take for computed."""
    model = onnx.load_model_from_string(data)
    known = constants(model)
    for node in list(model.graph.node):
        value = known[node.output[0]] if node.op_type == "Cast" and node.output[0] in known else unpacked(node, known)
        if value is not None:
            model.graph.node.remove(node)
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    drop_unread(model)
    return model


class Faces(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.left: Iterator[dict[str, Any]] = iter([{"expression": np.full((1, 52), 0.2, np.float32)}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


def quantised(data: bytes, folder: Path, **how: Any) -> bytes:
    """As our int8 graphs are made, but for what ``how`` says."""
    source, target = folder / "face.onnx", folder / "face.int8.onnx"
    onnx.save(folded(data), source)
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, **how.pop("extra", {})}
    options: dict[str, Any] = {
        "quant_format": quantization.QuantFormat.QDQ,
        "activation_type": quantization.QuantType.QInt8,
        "weight_type": quantization.QuantType.QInt8,
        "per_channel": True,
        "op_types_to_quantize": ["Conv", "Gemm"],
        **how,
    }
    quantization.quantize_static(source, target, Faces(), extra_options=extra, **options)
    return target.read_bytes()


OF_INT8: dict[str, tuple[dict[str, Any], str]] = {
    "biases stay float": ({"extra": {"QuantizeBias": True}}, "type Int32"),
    "activations are symmetric": ({"extra": {"ActivationSymmetric": False}}, "Non-zero zero point"),
    "integers are signed": (
        {"activation_type": quantization.QuantType.QUInt8, "extra": {"ActivationSymmetric": False}},
        "zero point|UINT8",
    ),
    "integers stand between pairs of Q and DQ": (
        {"quant_format": quantization.QuantFormat.QOperator},
        "Plugin not found",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how, said", OF_INT8.values(), ids=OF_INT8)
def test_otherwise_quantised_it_is_refused(face: bytes, tmp_path: Path, how: dict[str, Any], said: str) -> None:
    data = quantised(face, tmp_path, **how)
    with pytest.raises(RendererError, match=said):
        build(data)


@pytest.mark.filterwarnings("ignore")
def test_scales_that_are_computed_are_refused(face: bytes, tmp_path: Path) -> None:
    onnx.save(folded(face), tmp_path / "face.onnx")
    quantization.quantize_dynamic(tmp_path / "face.onnx", tmp_path / "out.onnx", op_types_to_quantize=["MatMul"])
    with pytest.raises(RendererError, match="cannot read it"):
        build((tmp_path / "out.onnx").read_bytes())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("capability", [(7, 5), (8, 9)], ids=["sm75", "sm89"])
def test_quantised_as_ours_it_is_built(face: bytes, tmp_path: Path, capability: tuple[int, int]) -> None:
    assert build(quantised(face, tmp_path), capability)


def test_a_step_of_nothing_is_refused(tmp_path: Path) -> None:
    """A channel whose weights are all zeros has a largest weight of zero, but must not have a step of zero."""
    with open_hvia(tiny_avatar(tmp_path, variants=("int8",))) as avatar:
        model = onnx.load_model_from_string(dict(sources(avatar, "motion"))["int8"])
    weights = next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and len(node.attribute))
    assert build(model.SerializeToString())
    steps = constants(model)[weights.input[1]].copy()
    steps[3] = 0
    weights.input[1] = "steps"
    model.graph.initializer.append(numpy_helper.from_array(steps, "steps"))
    with pytest.raises(RendererError, match="Scale coefficients must all be positive"):
        build(model.SerializeToString())


# -- the renderer's own


def test_without_convolutions_turing_refuses(face: bytes, motion: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "without_products", lambda graph: graph)
    for data in (face, motion):
        with pytest.raises(RendererError, match="FP32 GEMM is not supported"):
            build(data, (7, 5))


def test_products_in_groups_compute_the_same_as_convolutions() -> None:
    """A face's patches: each has a matrix of its own."""
    rng = np.random.default_rng(1)
    matrices, x = rng.random((3, 4, 5), np.float32), rng.random((3, 2, 4), np.float32)
    described = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "patches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, "B", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, "B", 5])],
        [numpy_helper.from_array(matrices, "w")],
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    changed = without_products(model.SerializeToString())
    assert {node.op_type for node in onnx.load_model_from_string(changed).graph.node} == {
        "Transpose",
        "Reshape",
        "Conv",
    }
    session = onnxruntime.InferenceSession(changed, providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"x": x})[0], x @ matrices, rtol=1e-5)


def test_a_region_laid_from_rounded_bytes_is_refused(face: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(model: ModelProto, nodes: Any, output: str) -> str:
        assert attribute(maker(model, output), "to") == UINT8
        return str(nodes.add("Cast", output, to=TensorProto.FLOAT))

    monkeypatch.setattr(scenes, "_unrounded", rounded)
    with pytest.raises(RendererError, match="UINT8 types for intermediate tensors"):
        build(picture(face))


def test_an_old_operator_set_cannot_be_laid(face: bytes) -> None:
    model = onnx.load_model_from_string(face)
    model.opset_import[0].version = 15
    with pytest.raises(RendererError, match="of ONNX operator set 15; to lay faces on a GPU takes 16 or newer"):
        picture(model.SerializeToString())


def test_levels_that_are_not_cast_cannot_be_laid(face: bytes) -> None:
    model = onnx.load_model_from_string(face)
    arithmetic_in_uint8(model)
    with pytest.raises(RendererError, match="output 'y' is not cast to uint8 by its last node"):
        picture(model.SerializeToString())


def picture(face: bytes) -> bytes:
    with open_hvia(SAMPLES[0]) as avatar:
        return picture_program(avatar.manifest, spots_of(avatar.placement(avatar.manifest.idle.id)), face)[1]


# -- the format's


def test_a_spectrum_by_stft_is_refused_by_the_reader(motion: bytes) -> None:
    """TensorRT-RTX 1.7 takes STFT, TensorRT and others do not: an avatar file must not hold one."""
    model = onnx.load_model_from_string(motion)
    graph = model.graph
    for name, value in (("axis", [2]), ("step", 160), ("length", 400)):
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    graph.node.insert(0, helper.make_node("Unsqueeze", ["pcm", "axis"], ["signal"]))
    graph.node.insert(1, helper.make_node("STFT", ["signal", "step", "", "length"], ["spectrum"]))
    onnx.checker.check_model(model)
    with open_hvia(SAMPLES[0]) as avatar:
        wanted = motion_contract(avatar.manifest)
    check_graph(motion, *wanted)
    with pytest.raises(ValueError, match="STFT"):
        check_graph(model.SerializeToString(), *wanted)
