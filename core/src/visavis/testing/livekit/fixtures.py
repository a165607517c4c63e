"""Fixtures for tests that need a real LiveKit server. VISAVIS_REQUIRE_LIVEKIT=1 turns a missing one into a failure."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from visavis.testing.livekit.server import LiveKitMissing, LiveKitServer, executable


def missing(what: str) -> None:
    """Skip the test, or fail it where LiveKit is required."""
    if os.environ.get("VISAVIS_REQUIRE_LIVEKIT") == "1":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def livekit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """A server for the whole test session, on loopback alone."""
    try:
        executable()
    except LiveKitMissing as error:
        missing(str(error))
    with LiveKitServer(tmp_path_factory.mktemp("livekit")) as server:
        yield server


@pytest.fixture
def room_name() -> str:
    """A name that no other test uses."""
    return f"room-{secrets.token_hex(6)}"
