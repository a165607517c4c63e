"""Processes killed with SIGKILL and a network that is gone: each session ends or recovers, and none is left behind.

As the transport documents it: an avatar leaves three seconds after its agent has, and notices by itself that it was
killed; without an agent of its own it stays for whoever speaks next; a lost room is joined again for half a minute.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from visavis.testing.livekit.reading import steady
from visavis.testing.livekit.sender import Sender, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching
from visavis.testing.tiny import tiny_avatar

pytestmark = pytest.mark.anyio

RATE = 24_000
TALKER = """
import asyncio, sys
from livekit import rtc

async def main(url, token, to, seconds):
    room = rtc.Room()
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    room.local_participant.register_rpc_method("lk.playback_started", lambda call: "ok")
    room.local_participant.register_rpc_method("lk.playback_finished", lambda call: "ok")
    while not any(p.track_publications for p in room.remote_participants.values() if p.identity == to):
        await asyncio.sleep(0.02)
    stream = await room.local_participant.stream_bytes(
        name="AUDIO_1", topic="lk.audio_stream", destination_identities=[to],
        attributes={"sample_rate": "24000", "num_channels": "1"},
    )
    for _ in range(int(seconds * 10)):
        await stream.write(b"\\0\\x20" * 1200 + b"\\0\\xe0" * 1200)
    print("sent", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avatars")
    tiny_avatar(folder / "tiny.hvia")
    return folder


@asynccontextmanager
async def talker(server: LiveKitServer, token: str, seconds: float) -> AsyncIterator[anyio.abc.Process]:
    """A process that has sent so much sound, its stream still open."""
    command = [sys.executable, "-c", TALKER, server.url, token, "avatar", str(seconds)]
    async with await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None) as process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(60):
                assert b"sent" in await process.stdout.receive()
            yield process
        finally:
            if process.returncode is None:
                process.kill()


def begin(serving: Any, server: LiveKitServer, room: str, *, agent: str | None) -> str:
    """Start a session; returns its id."""
    token = server.token("avatar", room, agent=True, on_behalf_of=agent)
    body = {"avatar_id": "tiny", "livekit_url": server.url, "livekit_token": token}
    reply = serving.post("/v1/sessions", json=body)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


async def ended(serving: Any, session_id: str) -> dict[str, Any]:
    """The session's record, once it is over."""
    told: dict[str, Any] = {}
    for _ in range(400):
        told = serving.get(f"/v1/sessions/{session_id}").json()
        if told["status"] != "running":
            break
        await anyio.sleep(0.1)
    assert told["status"] != "running", told
    return told


async def speaks(sender: Sender, seconds: float = 0.4) -> None:
    """All is well: what is said now is played to its end."""
    await sender.avatar_seen()
    said = await sender.say(steady(seconds, RATE), RATE)
    finish = await said.wait_finished()
    assert not finish.interrupted
    assert finish.position == pytest.approx(seconds, abs=0.001)


async def cut_off(sender: Sender) -> None:
    """Interrupt what the same agent said before it was lost: it went on meanwhile, and is finished once."""
    await sender.interrupt()
    with anyio.fail_after(10):
        while not sender.finishes:
            await sender.change.wait()
    (finish,) = sender.finishes
    assert finish.interrupted
    assert 0 < finish.position < 60
    sender.finishes.clear()


async def agent_killed(server: LiveKitServer, serving: Any, room: str) -> None:
    """The avatar leaves after it, and the server says why."""
    async with watching(server, room) as viewer:
        session_id = begin(serving, server, room, agent="agent")
        async with talker(server, server.token("agent", room, agent=True), 60.0) as process:
            await viewer.until("sound", of="avatar")
            await anyio.sleep(8)  # by then the room lists the agent and it has answered: only such a one is judged
            process.kill()
            # LiveKit itself takes some twenty seconds to believe it; the avatar, which asks the agent, is gone before.
            await viewer.until("left", of="avatar", timeout=60)
            assert not [e for e in viewer.events if e["event"] == "left" and e["identity"] == "agent"]
    told = await ended(serving, session_id)
    assert (told["status"], told["error"]) == ("completed", None)
    assert "agent" in told["reason"]


async def sender_killed(server: LiveKitServer, serving: Any, room: str) -> None:
    """Its stream is given up, the session lives, and somebody else is heard."""
    async with watching(server, room, decode=False) as viewer:
        session_id = begin(serving, server, room, agent=None)
        async with talker(server, server.token("someone", room), 2.0) as process:
            await viewer.until("sound", of="avatar")
            process.kill()
        async with speaking_to(server, room, "avatar", identity="other", agent=False) as sender:
            await speaks(sender)
        assert serving.get(f"/v1/sessions/{session_id}").json()["status"] == "running"
        await anyio.to_thread.run_sync(serving.delete, f"/v1/sessions/{session_id}")
        await viewer.until("left", of="avatar")
    assert (await ended(serving, session_id))["status"] == "cancelled"


async def livekit_killed(server: LiveKitServer) -> None:
    server.kill()
    await anyio.sleep(5)
    await anyio.to_thread.run_sync(server.start)


async def network_gone(server: LiveKitServer) -> None:
    with server.frozen():
        await anyio.sleep(10)


async def survived(serving: Any, server: LiveKitServer, room: str, loss: Callable[[LiveKitServer], Any]) -> None:
    """The avatar comes back by itself, has gone on with its sentence meanwhile, and can be spoken through again."""
    session_id = begin(serving, server, room, agent="agent")
    async with speaking_to(server, room, "avatar") as sender:
        await speaks(sender)
        await sender.say(steady(60.0, RATE), RATE)
        await loss(server)
    async with speaking_to(server, room, "avatar") as sender:
        await sender.avatar_seen(timeout=60)
        await cut_off(sender)
        await speaks(sender)
        assert serving.get(f"/v1/sessions/{session_id}").json()["status"] == "running"
    assert "agent" in (await ended(serving, session_id))["reason"]


@pytest.mark.slow
async def test_an_agent_and_a_sender_are_killed(livekit_server: LiveKitServer, serve: Any, tiny: Path) -> None:
    serving = serve(avatars=tiny)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent_killed, livekit_server, serving, f"room-{secrets.token_hex(4)}")
        tasks.start_soon(sender_killed, livekit_server, serving, f"room-{secrets.token_hex(4)}")
    assert serving.get("/health").json()["active_sessions"] == 0


@pytest.mark.slow
async def test_two_rooms_are_lost(serve: Any, tiny: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("killed", "frozen")]
    for folder in folders:
        folder.mkdir()
    with LiveKitServer(folders[0]) as killed, LiveKitServer(folders[1]) as frozen:
        losses = ((killed, livekit_killed), (frozen, network_gone))
        servings = [serve(avatars=tiny, env={"LIVEKIT_URL": server.url}) for server, _ in losses]
        async with anyio.create_task_group() as tasks:
            for serving, (server, loss) in zip(servings, losses, strict=True):
                tasks.start_soon(survived, serving, server, f"room-{secrets.token_hex(4)}", loss)
        assert [serving.get("/health").json()["active_sessions"] for serving in servings] == [0, 0]
