"""The page docs/hvia.md is enough to read an avatar: a reader written from it alone draws what visavis draws."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from visavis.hvia import ARKIT_52, LIMITS, Manifest, open_hvia
from visavis.hvia.graphs import IR_VERSIONS, OPERATORS, OPSETS, load_graphs
from visavis.testing.tiny import tiny_avatar

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
READER = HERE / "independent_reader.py"
PAGE = (ROOT / "docs" / "hvia.md").read_text("utf-8")
MIRA = ROOT / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"
ALLOWED = {"zipfile", "json", "hashlib", "numpy", "av", "onnxruntime", "cv2", "argparse", "io", "re"}


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_reader", READER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["mira", "tiny", "tiny with every input"])
def avatar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "mira":
        assert MIRA.is_file(), "the sample avatar is not shipped"
        return MIRA
    inputs = ("expression",) if request.param == "tiny" else ("expression", "pose", "base_y", "base_uv")
    return tiny_avatar(tmp_path_factory.mktemp("tiny") / "tiny.hvia", seed=2, inputs=inputs)


def test_it_is_short_and_on_its_own() -> None:
    text = READER.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 120
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= ALLOWED


def product_picture(path: Path, coefficients: dict[str, float], index: int) -> tuple[Any, Any]:
    """What visavis draws, and the base frame alone: both RGB."""
    from visavis.graphs1.clips import ClipSource, open_clip
    from visavis.graphs1.compose import Compositor, Region, spots_of

    with open_hvia(path) as opened:
        manifest, graphs, placement = opened.manifest, load_graphs(opened), opened.placement(opened.manifest.idle.id)
        data = opened.read(manifest.idle.video)
    video, face = manifest.video, manifest.face
    frames = open_clip(
        ClipSource(
            data=lambda: data,
            sha256=next(member.sha256 for member in manifest.members if member.path == manifest.idle.video),
            width=video.width,
            height=video.height,
            frames=manifest.idle.frames,
        )
    )
    compositor = Compositor(video.width, video.height, face.width, face.height)
    spot = spots_of(placement)[index]
    y, uv = compositor.lift(frames[index], spot)
    names = manifest.motion.coefficients
    feeds = {
        "expression": np.array([[coefficients.get(name, 0) for name in names]], np.float32),
        "pose": placement.pose[index : index + 1].astype(np.float32),
        "base_y": y[None, None],
        "base_uv": uv[None],
    }
    engine = onnxruntime.InferenceSession(graphs.face.data, providers=["CPUExecutionProvider"])
    out = dict(zip(graphs.face.outputs, engine.run(None, {name: feeds[name] for name in face.inputs}), strict=True))
    region = Region(out["y"][0, 0], out["uv"][0], out["alpha"][0, 0] if face.alpha else None)
    drawn = compositor.lay(frames[index], spot, region)
    return tuple(cv2.cvtColor(np.asarray(i420), cv2.COLOR_YUV2RGB_I420) for i420 in (drawn, frames[index]))


def test_it_draws_what_visavis_draws(reader: ModuleType, avatar: Path) -> None:
    manifest, files = reader.open_avatar(avatar)
    frames = manifest["clips"][0]["frames"]
    for index in (0, 3, frames * 7 // 10):
        for coefficients in ({}, {"jawOpen": 0.7, "eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.4}):
            picture = reader.draw(manifest, files, coefficients, index)
            ours, _ = product_picture(avatar, coefficients, index)
            assert picture.shape == (manifest["video"]["height"], manifest["video"]["width"], 3)
            assert picture.dtype == np.uint8
            apart = np.abs(picture.astype(int) - ours)
            # Where the face is turned, hard edges show the 32nds of a pixel in which OpenCV counts.
            a, b, tx, c, d, ty = reader.parsed(files[manifest["clips"][0]["placement"]])["affine"][index]
            copied = (a, b, c, d) == (1, 0, 0, 1) and tx % 2 == ty % 2 == 0
            assert apart.mean() < 0.5
            assert np.percentile(apart, 99.9) <= (2 if copied else 16)


def test_the_picture_is_a_face(reader: ModuleType, avatar: Path) -> None:
    """Not blank, not noise; the jaw and the lids move, and nothing does outside of the rectangle."""
    manifest, files = reader.open_avatar(avatar)
    rest = reader.draw(manifest, files, {})
    assert rest.std() > 8
    smooth = np.abs(np.diff(rest.astype(int), axis=1)).mean()
    assert smooth < 20, "noise"
    _, _, _, (x, top, w, h), _ = reader.base_frame(manifest, files, 0)
    outside = np.ones(rest.shape[:2], bool)
    outside[top : top + h, x : x + w] = False
    for name, where in (("jawOpen", slice(top + h // 2, top + h)), ("eyeBlinkRight", slice(top, top + h * 2 // 3))):
        moved = np.abs(reader.draw(manifest, files, {name: 1.0}).astype(int) - rest)
        assert moved[where, x : x + w].max() > 40, name
        # The change lies where that part of the face is, not anywhere.
        inside = moved[top : top + h, x : x + w].sum()
        assert moved[where, x : x + w].sum() > 0.6 * inside, name
        # Chroma is half as large: a pixel beside the rectangle may share its colour.
        assert moved[outside].max() <= 2, name


def test_from_the_command_line(avatar: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    command = [sys.executable, str(READER), str(avatar), str(out), "--frame", "2", "--set", "jawOpen=0.5"]
    subprocess.run(command, check=True)
    assert cv2.imread(str(out)).std() > 8


def test_it_refuses(reader: ModuleType, avatar: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.hvia"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(reader.RefusedError, match="not a zip"):
        reader.open_avatar(path)
    with zipfile.ZipFile(avatar) as source:
        files = {name: source.read(name) for name in source.namelist()}
    for change, words in (
        ({"clips/idle.json": b"{}"}, "another size"),
        ({"extra": b""}, "lists other members"),
        ({"manifest.json": files["manifest.json"].replace(b"hvia/1", b"hvia/9")}, "another format"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**files, **change}.items():
                archive.writestr(name, data)
        with pytest.raises(reader.RefusedError, match=words):
            reader.open_avatar(path)


def test_the_page_lists_the_operators() -> None:
    listed = re.search(r"<!-- operators -->(.*?)<!-- /operators -->", PAGE, re.DOTALL)
    assert listed
    assert re.findall(r"\w+", listed[1]) == sorted(OPERATORS)
    assert f"IR version {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}" in PAGE
    assert f"opset {OPSETS.start}\nto {OPSETS.stop - 1}" in PAGE


def test_the_page_lists_the_coefficients() -> None:
    quoted = " ".join(line[1:] for line in PAGE.splitlines() if line.startswith(">"))
    assert re.findall(r"\w+", quoted) == list(ARKIT_52)


def test_the_page_names_every_field() -> None:
    for name in Manifest.model_fields:
        assert re.search(rf"`{name}[`.]|\"{name}\"", PAGE), name
    for section in ("motion", "face", "video"):
        for name in Manifest.model_fields[section].annotation.model_fields:  # type: ignore[union-attr]
            assert f"`{section}.{name}`" in PAGE or f"`.{name}`" in PAGE, f"{section}.{name}"


def test_the_page_gives_the_limits() -> None:
    mega, kilo = 1024 * 1024, 1024
    said = {
        "file": f"| the file | {LIMITS.file // mega} MiB |",
        "member": f"| one member, unpacked | {LIMITS.member // mega} MiB |",
        "unpacked": f"| all members, unpacked | {LIMITS.unpacked // mega // 1024} GiB |",
        "ratio": f"may be | {LIMITS.ratio} times |",
        "members": f"| members, the manifest included | {LIMITS.members} |",
        "manifest": f"| `manifest.json` | {LIMITS.manifest // kilo} KiB |",
        "placement": f"| a placement | {LIMITS.placement // mega} MiB |",
        "signature": f"| `manifest.json.sig` | {LIMITS.signature // kilo} KiB |",
        "json_depth": f"nested at most {LIMITS.json_depth} deep",
        "clip_frames": f"| frames of a clip | {LIMITS.clip_frames:,} |",
        "decoded": f"(1.5 bytes a pixel) | {LIMITS.decoded // mega // 1024} GiB |",
        "graph": f"| one graph | {LIMITS.graph // mega} MiB,",
        "graph_nodes": f"{LIMITS.graph_nodes:,} nodes",
        "graph_fields": f"{LIMITS.graph_fields:,} protobuf fields",
        "typed_tensor": f"`raw_data`, but for {LIMITS.typed_tensor // mega} MiB in all",
        "activation": f"| one tensor of a graph, for B = 1 | {LIMITS.activation // mega} MiB |",
        "macs": f"| one call of a graph, for B = 1 | {LIMITS.macs // 1_000_000:,} million multiply-accumulates |",
    }
    assert set(said) == {field.name for field in fields(LIMITS)}
    for name, words in said.items():
        assert words in PAGE, name
