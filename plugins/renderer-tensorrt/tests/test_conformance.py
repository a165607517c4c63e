"""The TensorRT renderer does what every renderer must, on a device that computes as a GPU would."""

from __future__ import annotations

from pathlib import Path

import pytest
from computing import computing_device
from visavis.testing import PackagingCase, PackagingKit, RendererCase, RendererKit, tiny_avatar
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.renderer import TensorRTRenderer


@pytest.fixture(scope="session")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


class TestFixedFace(RendererKit):
    @pytest.fixture(params=[1, 16], ids=["alone", "batched"])
    def renderer(self, request: pytest.FixtureRequest, avatars: Path) -> RendererCase:
        options = TensorRTOptions(max_batch=request.param)
        avatar = tiny_avatar(avatars / "fixed.hvia")
        return RendererCase(make=lambda: TensorRTRenderer(options, device=computing_device()), avatar=avatar)


class TestFaceOnItsBase(RendererKit):
    @pytest.fixture
    def renderer(self, avatars: Path) -> RendererCase:
        inputs = ("expression", "pose", "base_y", "base_uv")
        avatar = tiny_avatar(avatars / "follows.hvia", seed=3, inputs=inputs)
        return RendererCase(make=lambda: TensorRTRenderer(device=computing_device(records=False)), avatar=avatar)


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-renderer-tensorrt")
