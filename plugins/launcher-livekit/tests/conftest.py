"""A real livekit-server and a real `visavis worker`, for as long as the module's tests run."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.tiny import tiny_avatar
from visavis_launcher_livekit.options import DispatchOptions

CONFIG = """\
store: {{use: filesystem, root: {avatars}}}
limits: {{max_sessions: 50, idle_timeout_s: null}}
prewarm: [ada, bob]
launcher: {{use: livekit-dispatch, agent_name: {agent}}}
"""


@pytest.fixture
def anyio_backend() -> str:
    """The SDK runs on asyncio alone."""
    return "asyncio"


@dataclass
class Works:
    """A worker, and how a launcher finds it."""

    server: LiveKitServer
    options: DispatchOptions
    avatars: Path
    log: Path

    @property
    def joined(self) -> int:
        """Rooms that it has joined so far."""
        return self.log.read_text(errors="replace").count("joined the room")


@pytest.fixture(scope="module")
def works(livekit_server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    folder = tmp_path_factory.mktemp("works")
    (folder / "avatars").mkdir()
    for number, name in enumerate(("ada", "bob")):
        tiny_avatar(folder / "avatars" / f"{name}.hvia", seed=number)
    agent = f"visavis-{secrets.token_hex(4)}"
    (folder / "worker.yaml").write_text(CONFIG.format(avatars=folder / "avatars", agent=agent))
    known = {
        "LIVEKIT_URL": livekit_server.url,
        "LIVEKIT_API_KEY": livekit_server.key,
        "LIVEKIT_API_SECRET": livekit_server.secret,
    }
    log = folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "visavis", "worker", "worker.yaml"]
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **known}, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        for _ in range(600):
            if process.poll() is not None or "visavis: worker AW_" in log.read_text(errors="replace"):
                break
            time.sleep(0.1)
        assert "visavis: worker AW_" in log.read_text(errors="replace"), log.read_text(errors="replace")
        options = DispatchOptions(
            url=livekit_server.url,
            api_key=livekit_server.key,
            api_secret=SecretStr(livekit_server.secret),
            agent_name=agent,
            await_workers_s=30.0,
        )
        yield Works(livekit_server, options, folder / "avatars", log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
