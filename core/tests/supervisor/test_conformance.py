"""The launcher ``local`` keeps the promises of every launcher."""

from __future__ import annotations

from pathlib import Path

import pytest
from visavis.testing import LauncherCase, LauncherKit
from visavis.testing.saboteurs import launcher


class TestLocal(LauncherKit):
    @pytest.fixture
    def launcher(self, tmp_path: Path) -> LauncherCase:
        return launcher.correct(tmp_path)
