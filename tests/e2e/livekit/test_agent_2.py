"""The example of external audio: its pipeline by `visavis run`, its one file, and a viewer who sees and hears."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import numpy as np
import pytest
from visavis.testing.livekit import reading
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import Viewer, watching

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "agent-2"


class Pipeline:
    """`visavis run` in a process of its own."""

    def __init__(self, process: anyio.abc.Process, log: Path) -> None:
        self.process, self._log = process, log

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    async def stop(self) -> int:
        """As Ctrl-C does; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        with anyio.fail_after(30):
            return await self.process.wait()


@asynccontextmanager
async def running(
    server: LiveKitServer, room: str, folder: Path, renderer: str | None = None
) -> AsyncIterator[Pipeline]:
    """The example's pipeline, changed in one word at most."""
    text = (EXAMPLE / "pipeline.yaml").read_text()
    if renderer is not None:
        assert text.count("use: onnxruntime") == 1
        text = text.replace("use: onnxruntime", f"use: {renderer}")
    (folder / "pipeline.yaml").write_text(text)
    env = {**os.environ, "LIVEKIT_URL": server.url, "AVATAR_TOKEN": server.token("avatar", room)}
    log = folder / "run.log"
    with log.open("wb") as out:
        process = await anyio.open_process(
            [sys.executable, "-m", "visavis", "run", "pipeline.yaml"], cwd=folder, env=env, stdout=out, stderr=out
        )
    try:
        yield Pipeline(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


def environment(server: LiveKitServer) -> Mapping[str, str]:
    return {
        **os.environ,
        "LIVEKIT_URL": server.url,
        "LIVEKIT_API_KEY": server.key,
        "LIVEKIT_API_SECRET": server.secret,
    }


async def agent(server: LiveKitServer, room: str, *arguments: str, stdin: bytes = b"") -> list[str]:
    """Run the example's one file; returns the lines it wrote."""
    command = [sys.executable, str(EXAMPLE / "agent.py"), "--room", room, *arguments]
    with anyio.fail_after(120):
        ran = await anyio.run_process(command, env=environment(server), input=stdin, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode().splitlines()


async def heard(viewer: Viewer, seconds: float) -> float:
    """How long the avatar's sound is that the viewer has heard, from its first sample to its last."""
    with anyio.fail_after(60):
        while True:
            found = reading.spans((await viewer.so_far()).of("avatar").sound, pause=0.5)
            if found and found[-1].seconds > seconds - 0.5:
                return found[-1].seconds
            await anyio.sleep(0.5)


def hum(path: Path, seconds: float) -> Path:
    """A steady tone, so that what is missing of it is seen."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        t = np.arange(round(seconds * 24_000)) / 24_000
        file.writeframes((9_000 * np.sin(2 * np.pi * 300 * t)).astype("<i2").tobytes())
    return path


async def test_a_recording_a_text_and_an_interruption(
    livekit_server: LiveKitServer, room_name: str, tmp_path: Path
) -> None:
    recording = str(hum(tmp_path / "hum.wav", 3.0))
    async with running(livekit_server, room_name, tmp_path) as pipeline:
        async with watching(livekit_server, room_name) as viewer:
            said = await agent(livekit_server, room_name, "--file", recording)
            assert [line for line in said if not line.startswith("waiting")] == ["speaking", "finished at 3.00 s"]
            await heard(viewer, 3.0)
            text = "This is a longer sentence, which nobody will ever hear to its end, for somebody cuts in."
            said = await agent(livekit_server, room_name, "--text", text, "--interrupt-after", "0.5")
            assert said[0] == "speaking"
            assert said[1].startswith("interrupted at ")
            assert len(said) == 2
            said = await agent(livekit_server, room_name, stdin=b"One.\nTwo.\n")
            assert [line.split(" at ")[0] for line in said] == ["type, and I say it", *["speaking", "finished"] * 2]
            seen = await viewer.stop()
        assert await pipeline.stop() == 0
    take = seen.of("avatar")
    assert {tuple(size) for size in take.pictures.sizes.tolist()} == {(512, 512)}
    assert len(take.pictures) > 75
    # It was sent as soon as the avatar was seen, and is heard whole, but for what the viewer's own buffer squeezes out.
    first = reading.spans(take.sound, pause=0.5)[0]
    loud = np.abs(take.sound.pcm[: first.last]) > 1_000
    there = np.count_nonzero(np.convolve(loud, np.ones(200), "same")) / 48_000
    out = reading.squeezed(seen, "avatar", first.begin, first.end)
    print(f"heard {there:.3f} s, squeezed out {out:.3f} s")
    assert there + out > 2.96
    assert "Traceback" not in pipeline.said()


async def test_another_renderer_changes_nothing_else(
    livekit_server: LiveKitServer, room_name: str, tmp_path: Path
) -> None:
    """The reference evaluator is far too slow to draw Mira in time: her voice does not wait for it."""
    recording = str(hum(tmp_path / "hum.wav", 2.0))
    async with running(livekit_server, room_name, tmp_path, "reference") as pipeline:
        async with watching(livekit_server, room_name) as viewer:
            said = await agent(livekit_server, room_name, "--file", recording)
            assert said[-2:] == ["speaking", "finished at 2.00 s"]
            await viewer.until("picture", of="avatar", timeout=60)
            await viewer.stop()
        assert await pipeline.stop() == 0


async def test_a_wrong_call_is_told_in_a_line(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    for arguments, without, words in [
        (["--file", "x.wav"], "LIVEKIT_URL", "set LIVEKIT_URL"),
        (["--file", "x.wav"], "LIVEKIT_API_SECRET", "set LIVEKIT_TOKEN, or"),
    ]:
        env = {key: value for key, value in environment(livekit_server).items() if key != without}
        ran = await anyio.run_process([sys.executable, str(EXAMPLE / "agent.py"), *arguments], env=env, check=False)
        assert ran.returncode != 0
        assert words in ran.stderr.decode()
        assert "Traceback" not in ran.stderr.decode()


def test_it_imports_only_livekit() -> None:
    tree = ast.parse((EXAMPLE / "agent.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    strange = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert strange == {"livekit"}


def test_its_pipeline_is_without_mistakes() -> None:
    env = {**os.environ, "LIVEKIT_URL": "ws://127.0.0.1:7880", "AVATAR_TOKEN": "secret"}
    command = [sys.executable, "-m", "visavis", "check", str(EXAMPLE / "pipeline.yaml")]
    ran = subprocess.run(command, env=env, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr.decode()
    assert b"secret" not in ran.stdout + ran.stderr
