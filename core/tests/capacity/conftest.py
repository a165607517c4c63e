"""The module of fakes beside this one. Minutes of talk pass on trio's virtual clock; a test may ask for asyncio."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def anyio_backend() -> object:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
