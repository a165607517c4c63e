"""Fixtures for tests that need a real LiveKit server or a browser.

VISAVIS_REQUIRE_LIVEKIT=1 turns a missing one into a failure; without it such a test is skipped.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest

from visavis.testing.livekit import browser
from visavis.testing.livekit.server import LiveKitMissing, LiveKitServer, executable

_status: dict[int, int] = {}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the run ended."""
    _status[id(session.config)] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave at once: the SDK's native threads do not always survive the interpreter's own way out (SIGABRT)."""
    status = _status.get(id(config))
    if status is not None and "livekit.rtc" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def missing(what: str) -> NoReturn:
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


@pytest.fixture(scope="session")
def chromium() -> browser.Chromium:
    """A Chromium: ``playwright.chromium.launch(**chromium.options)``."""
    try:
        return browser.find()
    except browser.ChromiumMissing as error:
        missing(str(error))
