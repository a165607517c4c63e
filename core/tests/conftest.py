"""Every async test runs on asyncio, and on trio with a virtual clock unless it asks for real time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio.testing
from visavis import workers


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio"


@pytest.fixture(autouse=True)
def inline_workers() -> Iterator[None]:
    """No threads under the virtual clock."""
    with workers.inline():
        yield
