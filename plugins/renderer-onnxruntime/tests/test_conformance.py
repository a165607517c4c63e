"""The ONNX Runtime renderer does what every renderer must."""

from __future__ import annotations

from pathlib import Path

import pytest
from visavis.testing import PackagingCase, PackagingKit, RendererCase, RendererKit, tiny_avatar
from visavis_renderer_onnxruntime import OnnxRuntimeOptions, make


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


class TestFixedFace(RendererKit):
    @pytest.fixture(params=[1, 16], ids=["alone", "batched"])
    def renderer(self, request: pytest.FixtureRequest, avatars: Path) -> RendererCase:
        options = OnnxRuntimeOptions(max_batch=request.param)
        return RendererCase(make=lambda: make(options), avatar=tiny_avatar(avatars / "fixed.hvia"))


class TestFaceOnItsBase(RendererKit):
    @pytest.fixture
    def renderer(self, avatars: Path) -> RendererCase:
        inputs = ("expression", "pose", "base_y", "base_uv")
        avatar = tiny_avatar(avatars / "follows.hvia", seed=3, inputs=inputs)
        return RendererCase(make=lambda: make(OnnxRuntimeOptions()), avatar=avatar)


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-renderer-onnxruntime")
