"""The tiny avatar's file, made once, and the modules that take it apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from visavis.testing.tiny import tiny_avatar

sys.path.insert(0, str(Path(__file__).parent))

from hvia_forge import Parts, take_apart


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("tiny") / "tiny.hvia")


@pytest.fixture
def parts(tiny: Path) -> Parts:
    return take_apart(tiny)
