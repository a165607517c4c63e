"""The commands that the README shows do what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import wave
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import pytest
from visavis_server_http.options import HttpServerOptions

pytestmark = pytest.mark.anyio
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_commands(serving: Any, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    script = next(block for block in blocks if "curl" in block)
    pcm = (np.sin(np.arange(3_200) / 5) * 9_000).astype("<i2").tobytes()
    (tmp_path / "speech.pcm").write_bytes(pcm)
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm)
    async with serving() as bench:
        mine = script.replace("http://127.0.0.1:8080", bench.server.url).replace('"mira"', '"anna"')

        def run() -> subprocess.CompletedProcess[str]:
            whole = ["bash", "-euo", "pipefail", "-c", mine]
            return subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

        done = await anyio.to_thread.run_sync(run)
        assert done.returncode == 0, done.stdout + done.stderr
        for said in ('"status":"running"', '"status":"played"', '"status":"accepted"', '"status":"cancelled"'):
            assert said in done.stdout


def test_every_option_stands_in_the_readme() -> None:
    told = README.read_text(encoding="utf-8")
    assert [name for name in HttpServerOptions.model_fields if f"`{name}`" not in told] == []


def test_every_code_stands_in_the_readme() -> None:
    told = README.read_text(encoding="utf-8")
    source = Path(__file__).parents[2] / "src" / "visavis_server_http"
    files = [p for p in source.rglob("*.py") if not {"dialects", "page"} & set(p.relative_to(source).parts)]
    codes = {
        code for path in files for code in re.findall(r'"([A-Z]{3,}(?:_[A-Z]+)+)"', path.read_text(encoding="utf-8"))
    }
    unheard = {
        "LIVEKIT_URL",
        "LIVEKIT_API_KEY",
        "LIVEKIT_API_SECRET",
        "VISAVIS_API_KEYS",
        "BAD_REQUEST",
        "INTERNAL_ERROR",
    }
    assert {code for code in codes if f"`{code}`" not in told} <= unheard
    assert len(codes) > 20
