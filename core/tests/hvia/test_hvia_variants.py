"""The same graphs in other precisions: what a file may bring, how it is checked, and how a renderer chooses."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hvia_forge import Parts, take_apart
from visavis.errors import AvatarInvalid
from visavis.hvia import ARKIT_52, open_hvia, pack_folder, validate_hvia
from visavis.hvia.graphs import WHICH, GraphOffer, load_graph, load_graphs
from visavis.hvia.manifest import Manifest, Precision
from visavis.testing.tiny import tiny_avatar

VARIANTS = ("fp16", "int8")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("variants"), variants=VARIANTS)


@pytest.fixture
def parts(path: Path) -> Parts:
    return take_apart(path)


def test_a_file_without_any_comes_in_single_precision(tiny: Path) -> None:
    with open_hvia(tiny) as avatar:
        assert "variants" not in json.loads(avatar.read("manifest.json"))["face"]
        assert [list(part.sources) for part in (avatar.manifest.motion, avatar.manifest.face)] == [["fp32"]] * 2
        with pytest.raises(ValueError, match="has no face graph in int8"):
            load_graph(avatar, "face", "int8")


def test_every_variant_is_loaded_and_checked(path: Path) -> None:
    with open_hvia(path) as avatar:
        for which in WHICH:
            assert GraphOffer(avatar, which).precisions == ("fp32", *VARIANTS)
            for precision in ("fp32", *VARIANTS):
                graph = load_graph(avatar, which, precision)
                assert graph.precision == precision
                assert graph.data == avatar.read(getattr(avatar.manifest, which).sources[precision])
        graphs = load_graphs(avatar)
        assert (graphs.motion.precision, graphs.face.precision) == ("fp32", "fp32")
    assert validate_hvia(path) == [found for found in validate_hvia(path) if found.level == "warning"]


def test_a_renderer_chooses_for_each_graph(path: Path) -> None:
    asked: list[tuple[str, str, tuple[Precision, ...]]] = []

    def choose(offer: GraphOffer) -> Precision:
        asked.append((offer.name, offer.which, offer.precisions))
        return "int8" if offer.which == "face" else "fp16"

    with open_hvia(path) as avatar:
        graphs = load_graphs(avatar, choose=choose)
    assert (graphs.motion.precision, graphs.face.precision) == ("fp16", "int8")
    assert asked == [("tiny.hvia", which, ("fp32", *VARIANTS)) for which in WHICH]


@pytest.mark.parametrize("precision", VARIANTS)
def test_tinys_variants_draw_what_tiny_draws(path: Path, precision: Precision) -> None:
    """And compute in what they are named after."""
    kind = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.INT8
    with open_hvia(path) as avatar:
        pairs = [(load_graph(avatar, which), load_graph(avatar, which, precision)) for which in WHICH]
    expression = np.zeros((3, 52), np.float32)
    expression[1:, ARKIT_52.index("jawOpen")] = 0.4, 1.0
    sound = np.random.default_rng(0).normal(0, 0.1, (3, 1600)).astype(np.float32)
    for feeds, (plain, variant) in zip(
        ({"pcm": sound, "state": np.zeros((3, 4), np.float32)}, {"expression": expression}), pairs, strict=True
    ):
        assert kind in {tensor.data_type for tensor in onnx.load_model_from_string(variant.data).graph.initializer}
        one, other = (
            onnxruntime.InferenceSession(graph.data, providers=["CPUExecutionProvider"]).run(None, feeds)
            for graph in (plain, variant)
        )
        for mine, its in zip(one, other, strict=True):
            assert mine.dtype == its.dtype
            assert mine.shape == its.shape
            reach = 8 if mine.dtype == np.uint8 else 0.02
            assert np.abs(mine.astype(np.float64) - its).max() <= reach


def test_a_variant_is_checked_like_the_graph(parts: Parts, tmp_path: Path) -> None:
    """It must have the same inputs and outputs, and hold nothing that the graph may not."""
    path = "graphs/face.int8.onnx"
    model = onnx.load_model_from_string(parts.members[path])
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    parts.members[path] = model.SerializeToString()
    made = parts.rehash().write(tmp_path / "made.hvia")
    (finding,) = [found for found in validate_hvia(made) if found.level == "error"]
    assert finding.where == "face.variants.int8"
    assert "the int8 face graph is refused: its output y must be uint8 [B, 1, 64, 64]" in finding.message
    with open_hvia(made) as avatar:
        assert load_graphs(avatar).face.precision == "fp32"
        with pytest.raises(AvatarInvalid, match="int8 face graph"):
            load_graphs(avatar, choose=lambda offer: "int8")


def test_a_variant_may_lie_in_a_pack(parts: Parts, tmp_path: Path) -> None:
    data = parts.members.pop("graphs/face.fp16.onnx")
    digest = hashlib.sha256(data).hexdigest()
    parts.manifest["face"]["variants"]["fp16"] = {"sha256": digest}
    made = parts.rehash().write(tmp_path / "made.hvia")
    (tmp_path / f"{digest}.onnx").write_bytes(data)
    with open_hvia(made) as avatar:
        assert load_graph(avatar, "face", "fp16", packs=[tmp_path]).data == data
    assert not [found for found in validate_hvia(made, packs=[tmp_path]) if found.level == "error"]
    (finding,) = [found for found in validate_hvia(made) if found.level == "error"]
    assert finding.where == "face.variants.fp16"
    assert "its fp16 face graph" in finding.message


def test_null_is_none(parts: Parts) -> None:
    parts.manifest["motion"]["variants"] = {"fp16": None, "int8": "graphs/motion.int8.onnx"}
    manifest = Manifest.model_validate_json(json.dumps(parts.manifest))
    assert manifest.motion.sources == {"fp32": "graphs/motion.onnx", "int8": "graphs/motion.int8.onnx"}


def test_a_folder_with_variants_is_packed(path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    packed = pack_folder(tmp_path / "folder", tmp_path / "tiny.hvia")
    assert packed.read_bytes() == path.read_bytes()
