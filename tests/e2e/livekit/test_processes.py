"""The launcher `process` in rooms: a worker process is killed while all talk, and while one only listens."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest
from visavis.testing.livekit.reading import steady
from visavis.testing.livekit.sender import Sender, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.tiny import tiny_avatar

pytestmark = pytest.mark.anyio

RATE = 24_000
SERVER = """\
store: {{use: filesystem, root: {avatars}}}
limits: {{max_sessions: 40}}  # a busy test machine would be judged to be full
launcher: {{use: process, workers: 2}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avatars")
    tiny_avatar(folder / "tiny.hvia")
    return folder


def begin(serving: Any, server: LiveKitServer, room: str) -> str:
    token = server.token("avatar", room, agent=True, on_behalf_of="agent")
    reply = serving.post("/v1/sessions", json={"avatar_id": "tiny", "livekit_url": server.url, "livekit_token": token})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


@asynccontextmanager
async def rooms(serving: Any, server: LiveKitServer, count: int) -> AsyncIterator[dict[str, Sender]]:
    """So many rooms with an agent and its avatar, by the session's id."""
    async with AsyncExitStack() as stack:
        made = {}
        for _ in range(count):
            name = f"room-{secrets.token_hex(4)}"
            sender = await stack.enter_async_context(speaking_to(server, name, "avatar", agent=False))
            made[await anyio.to_thread.run_sync(begin, serving, server, name)] = sender
            await sender.avatar_seen()
        yield made


async def says(sender: Sender, seconds: float = 0.4) -> None:
    said = await sender.say(steady(seconds, RATE), RATE)
    finish = await said.wait_finished()
    assert not finish.interrupted
    assert finish.position == pytest.approx(seconds, abs=0.001)


def workers(serving: Any) -> list[psutil.Process]:
    """The server's worker processes."""
    found = []
    for child in psutil.Process(serving.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "visavis.processes" in child.cmdline():
                found.append(child)
    return found


@pytest.mark.slow
async def test_a_killed_worker_process_costs_a_sentence_of_its_own_sessions(
    livekit_server: LiveKitServer, serve: Any, tiny: Path
) -> None:
    serving = serve(config=SERVER.format(avatars=tiny))
    async with rooms(serving, livekit_server, 4) as talking:
        for sender in talking.values():
            await says(sender)
        speeches = [await sender.say(steady(12.0, RATE), RATE) for sender in talking.values()]
        for speech in speeches:
            await speech.wait_started()
        dead = workers(serving)[0]
        os.kill(dead.pid, signal.SIGKILL)
        cut, whole = [], []
        for speech in speeches:
            finish = await speech.wait_finished()
            (cut if finish.interrupted else whole).append(finish)
            assert finish.interrupted or finish.position == pytest.approx(12.0, abs=0.001)
        assert len(cut) == len(whole) == 2  # they were spread evenly, and only those of the dead one were cut off
        assert all(0 < finish.position < 12.0 for finish in cut)
        for session_id, sender in talking.items():
            await sender.avatar_seen()
            await says(sender)
            told = await anyio.to_thread.run_sync(serving.get, f"/v1/sessions/{session_id}")
            assert told.json()["status"] == "running"
        figures = (await anyio.to_thread.run_sync(serving.get, "/metrics")).text
        assert "visavis_sessions_begun_again_total 2.0" in figures
        assert "visavis_workers_lost_total 1.0" in figures
        # A drain lets sentences finish, as ever; then the workers are gone with the server.
        left = workers(serving)
        last = [await sender.say(steady(2.0, RATE), RATE) for sender in talking.values()]
        for speech in last:
            await speech.wait_started()
        serving.process.send_signal(signal.SIGTERM)
        for speech in last:
            assert not (await speech.wait_finished()).interrupted
        assert await anyio.to_thread.run_sync(serving.process.wait, 40) == 0
    assert "eyJ" not in serving.said()
    assert len(left) == 2
    assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def test_workers_do_not_outlive_a_server_that_is_killed(
    livekit_server: LiveKitServer, serve: Any, tiny: Path
) -> None:
    serving = serve(config=SERVER.format(avatars=tiny))
    async with rooms(serving, livekit_server, 1) as talking:
        (sender,) = talking.values()
        await says(sender)
        left = workers(serving)
        serving.process.kill()
        await sender.avatar_gone()
        with anyio.fail_after(30):
            while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in left):  # noqa: ASYNC110
                await anyio.sleep(0.1)
