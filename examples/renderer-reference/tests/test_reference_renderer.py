"""The example draws what ONNX Runtime draws, and is found by its name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from visavis.component import NoOptions
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.testing.parity import expect_parity, filmed
from visavis.testing.tiny import tiny_avatar
from visavis_example_renderer_reference import make as make_reference
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime

SPEC = find_spec("visavis_store_filesystem")
SAMPLES = sorted(Path(SPEC.origin).parent.glob("avatars/*.hvia")) if SPEC and SPEC.origin else []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path / "cache"))


def compare(path: Path, sessions: int, seconds: float) -> None:
    truth = filmed(
        lambda: make_onnxruntime(OnnxRuntimeOptions(precision="fp32")), path, sessions=sessions, seconds=seconds
    )
    ours = filmed(lambda: make_reference(NoOptions()), path, sessions=sessions, seconds=seconds)
    assert expect_parity(truth, ours).levels <= 1


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_pictures_match_onnx_runtime_within_one_level(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    compare(tiny_avatar(tmp_path, inputs=inputs), sessions=3, seconds=3.0)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_avatars_match_too(path: Path) -> None:
    compare(path, sessions=1, seconds=0.8)


def test_its_entry_point_is_found() -> None:
    assert Registry.discover().get(Kind.RENDERER, "reference").factory is make_reference
