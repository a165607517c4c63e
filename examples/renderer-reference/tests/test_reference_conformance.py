"""The example does what every renderer must."""

from __future__ import annotations

from pathlib import Path

import pytest
from visavis.component import NoOptions
from visavis.testing import RendererCase, RendererKit
from visavis.testing.tiny import tiny_avatar
from visavis_example_renderer_reference import make


class TestReference(RendererKit):
    @pytest.fixture
    def renderer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RendererCase:
        monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path))
        return RendererCase(make=lambda: make(NoOptions()), avatar=tiny_avatar(tmp_path))
