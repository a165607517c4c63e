"""The SDK runs on asyncio alone; and an Avatar Server as a user runs it: `visavis serve` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from visavis.testing.livekit.server import LiveKitServer, free_port


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Serving:
    """A running `visavis serve`: where it listens, its process, and what it writes."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=60, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return httpx.delete(self.url + path, timeout=60, **options)

    def said(self) -> str:
        """What it has written so far."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))

    def stop(self) -> None:
        """End it as a supervisor of processes would: TERM, and KILL if that does not help."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Serve = Callable[..., Serving]


@pytest.fixture
def serve(livekit_server: LiveKitServer, tmp_path: Path) -> Iterator[Serve]:
    """Start `visavis serve` in a folder of its own, told of LiveKit by the environment; returns once it is ready.

    ``avatars`` is what stands at ./assets/avatars, ``config`` the text of a deployment file, ``env`` more environment.
    """
    with ExitStack() as stack:

        def start(
            *arguments: str, avatars: Path | None = None, config: str | None = None, env: dict[str, str] | None = None
        ) -> Serving:
            folder = tmp_path / f"server-{time.monotonic_ns()}"
            (folder / "assets").mkdir(parents=True)
            if avatars is not None:
                (folder / "assets" / "avatars").symlink_to(avatars, target_is_directory=True)
            command = [sys.executable, "-m", "visavis", "serve", *arguments]
            if config is not None:
                (folder / "visavis.yaml").write_text(config, encoding="utf-8")
                command.append("visavis.yaml")
            port = free_port()
            known = {
                "LIVEKIT_URL": livekit_server.url,
                "LIVEKIT_API_KEY": livekit_server.key,
                "LIVEKIT_API_SECRET": livekit_server.secret,
            }
            log = folder / "serve.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [*command, "--port", str(port)],
                    cwd=folder,
                    env={**os.environ, **known, **(env or {})},
                    stdout=out,
                    stderr=out,
                    stdin=subprocess.DEVNULL,
                )
            serving = Serving(f"http://127.0.0.1:{port}", process, log)
            stack.callback(serving.stop)
            _until_ready(serving)
            return serving

        yield start


def _until_ready(serving: Serving) -> None:
    for _ in range(600):
        if serving.process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if serving.get("/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"visavis serve is not ready: {serving.said()[-3000:]}")
