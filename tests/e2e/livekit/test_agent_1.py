"""The example agent-1 as a user runs it, offline: greeted, asked, interrupted; its avatar at a server or in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from livekit import rtc
from visavis.testing import tiny_avatar
from visavis.testing.livekit.fixtures import missing
from visavis.testing.livekit.reading import sizes, spans
from visavis.testing.livekit.server import LiveKitServer, free_port
from visavis.testing.livekit.viewer import Viewer, watching

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[3]
AGENT = ROOT / "examples" / "agent-1"
GREETING = "Hello, I am Mira."
ANSWER = "I am a face for a voice"


@contextmanager
def agent_one(server: LiveKitServer, room: str, folder: Path, **environment: str) -> Iterator[None]:
    """agent.py as its own process, in that room."""
    known = {
        "LIVEKIT_URL": server.url,
        "LIVEKIT_API_KEY": server.key,
        "LIVEKIT_API_SECRET": server.secret,
        "AGENT_PORT": str(free_port()),
    }
    command = [sys.executable, str(AGENT / "agent.py"), "connect", "--room", room, "--offline"]
    log = folder / "agent.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **known, **environment},
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # it has children of its own
        )
    try:
        yield
    except BaseException:
        print(log.read_text(errors="replace")[-6000:])
        raise
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Onlookers(LiveKitServer):
    """The same server, seen by a viewer that is no user: an agent listens to the first user that it finds."""

    def __init__(self, server: LiveKitServer) -> None:
        self._server, self.url = server, server.url

    def token(self, identity: str, room: str, **given: Any) -> str:
        return self._server.token(identity, room, **{**given, "agent": True})


class User:
    """A participant with a microphone."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.source = rtc.AudioSource(16_000, 1, queue_size_ms=400)

    async def join(self, server: LiveKitServer, room: str) -> None:
        await self.room.connect(server.url, server.token("user", room), rtc.RoomOptions(auto_subscribe=False))
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self.room.local_participant.publish_track(track, options)

    async def say(self, seconds: float) -> None:
        """A person's voice for so long, then a pause."""
        with wave.open(str(ROOT / "bench" / "speech" / "synth-slt.wav")) as file:
            pcm = file.readframes(int(16_000 * seconds)) + bytes(2 * 16_000 // 2)
        for at in range(0, len(pcm), 640):
            part = pcm[at : at + 640]
            await self.source.capture_frame(rtc.AudioFrame(part, 16_000, 1, len(part) // 2))

    async def leave(self) -> None:
        await self.room.disconnect()
        await self.source.aclose()


def texts(viewer: Viewer) -> list[str]:
    return [row["text"] for row in viewer.events if row["event"] == "transcription"]


async def greeted(viewer: Viewer) -> str:
    """Wait for the greeting; returns who had the face."""
    face = str((await viewer.until("picture", timeout=90))["identity"])
    await viewer.until("transcription", timeout=90, where=lambda row: row["text"].startswith(GREETING))
    return face


async def converse(viewer: Viewer, user: User) -> str:
    """Be greeted, ask, and interrupt the answer; returns who had the face."""
    face = await greeted(viewer)
    await anyio.sleep(3.0)  # LiveKit takes no interruption in an agent's first seconds
    viewer.mark("asked")
    await user.say(1.6)
    await viewer.until("sound", of=face, after=viewer.marks["asked"], timeout=60)
    await anyio.sleep(2.0)
    await user.say(2.4)
    await viewer.until("transcription", timeout=60, where=lambda row: row["text"].startswith(ANSWER))
    return face


@pytest.mark.parametrize("where", ["server", "here"])
async def test_a_conversation(
    where: str, livekit_server: LiveKitServer, room_name: str, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    """A user's real voice begins a turn, and cuts the answer short."""
    espeak_is_there()
    environment = {"VISAVIS_URL": serve().url} if where == "server" else {}
    user = User()
    async with watching(Onlookers(livekit_server), room_name) as viewer:
        await user.join(livekit_server, room_name)
        with agent_one(livekit_server, room_name, tmp_path, **environment):
            face = await converse(viewer, user)
            seen = await viewer.so_far()
            await user.leave()  # which ends the agent's session, and that the avatar
            await viewer.until("left" if where == "server" else "unpublished", of=face, timeout=40)
        await viewer.stop()

    take = seen.of(face)
    assert set(sizes(take.pictures)) == {(512, 512)}
    answer = next(text for text in texts(viewer) if text.startswith(ANSWER))
    assert not answer.rstrip().endswith("to do so.")  # it was cut short where the user began to speak
    assert [span for span in spans(take.sound) if span.end > seen.marks["asked"]]
    assert face.startswith("visavis-avatar") is (where == "server")


@pytest.mark.parametrize("renderer", ["onnxruntime", "reference"])
async def test_the_reference_pipeline_and_another_renderer(
    renderer: str, livekit_server: LiveKitServer, room_name: str, tmp_path: Path
) -> None:
    """The same file but for ``renderer.use``, with an avatar that is drawn quickly even by a slow renderer."""
    espeak_is_there()
    tiny_avatar(tmp_path / "mira.hvia")
    text = (AGENT / "pipeline.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("{use: filesystem} ", f"{{use: filesystem, root: {tmp_path}}} "),
        ("{use: onnxruntime, device: cpu, threads: 1}", f"{{use: {renderer}}}"),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "pipeline.yaml"
    file.write_text(text, encoding="utf-8")
    async with watching(livekit_server, room_name) as viewer:
        with agent_one(livekit_server, room_name, tmp_path, VISAVIS_PIPELINE=str(file)):
            face = await greeted(viewer)
            seen = await viewer.stop()
    take = seen.of(face)
    assert len(take.pictures) > 10
    assert len(sizes(take.pictures)) == 1
    assert (512, 512) not in sizes(take.pictures)
    assert spans(take.sound)


def espeak_is_there() -> None:
    if shutil.which("espeak-ng") is None:
        missing("espeak-ng is not installed")
