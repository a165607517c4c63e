"""The example draws what ONNX Runtime draws, and is found by its name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from visavis.component import NoOptions
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import Renderer, RenderInput
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.testing.rig import vowel
from visavis.testing.tiny import tiny_avatar
from visavis_example_renderer_reference import make as make_reference
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime

FRAMES = 20
SPEC = find_spec("visavis_store_filesystem")
SAMPLES = sorted(Path(SPEC.origin).parent.glob("avatars/*.hvia")) if SPEC and SPEC.origin else []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path / "cache"))


def pictures(renderer: Renderer, path: Path) -> list[np.ndarray]:
    with open_hvia(path) as avatar:
        loaded = renderer.load(avatar)
    session = loaded.open(seed=3)
    sound = vowel(FRAMES * loaded.format.hop, loaded.format.sample_rate).reshape(FRAMES, -1).astype(np.float32)
    drawn = [renderer.step([session], [RenderInput(pcm)])[0] for pcm in sound]
    session.close()
    loaded.close()
    return [frame.data for frame in drawn if frame is not None]


def compare(path: Path) -> None:
    ours = pictures(make_reference(NoOptions()), path)
    theirs = pictures(make_onnxruntime(OnnxRuntimeOptions()), path)
    assert len(ours) == len(theirs) == FRAMES
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert np.abs(ours[0].astype(int) - ours[-1]).max() > 20  # it does move


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_pictures_match_onnx_runtime_within_one_level(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    compare(tiny_avatar(tmp_path, inputs=inputs))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_avatars_match_too(path: Path) -> None:
    compare(path)


def test_its_entry_point_is_found() -> None:
    assert Registry.discover().get(Kind.RENDERER, "reference").factory is make_reference
