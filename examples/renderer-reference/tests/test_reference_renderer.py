"""The example draws what ONNX Runtime draws, and is found by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from visavis.component import NoOptions
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import Renderer, RenderInput
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.testing.tiny import tiny_avatar
from visavis_example_renderer_reference import make as make_reference
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime

FRAMES = 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path / "cache"))


def pictures(renderer: Renderer, path: Path) -> list[np.ndarray]:
    with open_hvia(path) as avatar:
        loaded = renderer.load(avatar)
    session = loaded.open(seed=3)
    sound = np.random.default_rng(0).normal(0, 0.2, (FRAMES, loaded.format.hop)).astype(np.float32)
    drawn = [renderer.step([session], [RenderInput(pcm)])[0] for pcm in sound]
    session.close()
    loaded.close()
    return [frame.data for frame in drawn if frame is not None]


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_pictures_match_onnx_runtime_within_one_level(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    path = tiny_avatar(tmp_path, inputs=inputs)
    ours = pictures(make_reference(NoOptions()), path)
    theirs = pictures(make_onnxruntime(OnnxRuntimeOptions()), path)
    assert len(ours) == len(theirs) == FRAMES
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert np.abs(ours[0].astype(int) - ours[-1]).max() > 20  # it does move


def test_its_entry_point_is_found() -> None:
    assert Registry.discover().get(Kind.RENDERER, "reference").factory is make_reference
