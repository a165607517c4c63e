"""`visavis bench capacity` against a real LiveKit server: what it counts, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from livekit import api
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.tiny import FPS, tiny_avatar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tiny avatar where `visavis serve` would look for it."""
    tiny_avatar(tmp_path / "assets" / "avatars")
    return tmp_path


def bench(server: LiveKitServer, folder: Path, *words: str) -> subprocess.Popen[str]:
    known = {"LIVEKIT_URL": server.url, "LIVEKIT_API_KEY": server.key, "LIVEKIT_API_SECRET": server.secret}
    return subprocess.Popen(
        [sys.executable, "-m", "visavis", "-v", "bench", "capacity", "--avatar", "tiny", *words],
        cwd=folder,
        env={**os.environ, **known},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def rooms(server: LiveKitServer) -> list[str]:
    async with api.LiveKitAPI(server.http_url, server.key, server.secret) as calls:
        listed = await calls.room.list_rooms(api.ListRoomsRequest())
    return [room.name for room in listed.rooms if room.name.startswith("visavis-bench-")]


async def forgotten(server: LiveKitServer) -> bool:
    """Whether the rooms of a bench are gone, at the latest after a while."""
    for _ in range(60):
        if not await rooms(server):
            return True
        await anyio.sleep(0.25)
    return False


@pytest.mark.anyio
async def test_it_counts_what_subscribers_get(livekit_server: LiveKitServer, folder: Path) -> None:
    # A machine that is busy with other tests may be late: that is not what is looked at here.
    run = bench(livekit_server, folder, "--seconds", "3", "--most", "2", "--late-percent", "100", "--json")
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    assert (found["avatar"], found["renderer"], found["launcher"]) == ("tiny", "onnxruntime", "local")
    assert found["steps"][0]["sessions"] == 1
    for step in found["steps"]:
        assert step["rate"] == FPS
        # Of all frames that fell due in that time each is counted once, in every session.
        assert step["frames"] == pytest.approx(FPS * step["seconds"] * step["sessions"], rel=0.3)
        assert 0 < step["fps"] <= 1.3 * FPS
        assert step["cores"] > 0
        assert step["audience_cores"] > 0
        assert step["drawing"] is not None
        assert step["behind"] is not None
        assert step["memory"] > 20_000_000
        assert step["admitted"] >= 1
    assert found["floor"]["talking_cores"] > 0
    assert found["limit"]["said"]
    assert livekit_server.secret not in out + err
    assert await forgotten(livekit_server)


@pytest.mark.anyio
async def test_ctrl_c_leaves_nothing_behind(livekit_server: LiveKitServer, folder: Path) -> None:
    with bench(livekit_server, folder, "--seconds", "600", "--most", "2") as run:
        try:
            assert run.stderr is not None
            for line in run.stderr:
                if "talking for" in line:
                    break
            children = psutil.Process(run.pid).children(recursive=True)
            assert children
            assert await rooms(livekit_server)  # the floor's room may not be forgotten yet
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "Traceback" not in out + err
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert await forgotten(livekit_server)


def test_without_livekit_it_says_what_is_needed(folder: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
    ran = subprocess.run(
        [sys.executable, "-m", "visavis", "bench", "capacity"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET must be set" in ran.stderr
    assert "livekit-server --dev" in ran.stderr
    (folder / "file.yaml").write_text("transport: {use: file}\nsource: {use: file}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "visavis", "bench", "capacity", "file.yaml"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "the transport 'file' has no rooms" in ran.stderr


def test_wrong_words_are_told(folder: Path) -> None:
    for words, said in [
        (["--speech", "nothing.wav"], "nothing.wav cannot be read as a WAV file"),
        (["nothing.yaml"], "nothing.yaml"),
        (["--most", "0"], "--most"),
    ]:
        ran = subprocess.run(
            [sys.executable, "-m", "visavis", "bench", "capacity", *words],
            cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
        assert "Traceback" not in ran.stderr
