"""Sessions on many machines: an Avatar Server, workers as processes, a real LiveKit server that hands out the jobs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import numpy as np
import pytest
from livekit import api, rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.testing import fake_job_context
from livekit.plugins import visavis
from visavis.testing.livekit.reading import steady
from visavis.testing.livekit.sender import Sender, Utterance, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching
from visavis.testing.tiny import tiny_avatar

pytestmark = pytest.mark.anyio

RATE = 24_000
TWELVE = 12
LONG = 8.0
WORKER = """\
store: {{use: filesystem, root: {avatars}}}
limits: {{max_sessions: {most}, idle_timeout_s: null}}
prewarm: [tiny]
launcher: {{use: livekit-dispatch, agent_name: {agent}, drain_timeout_s: 1.0}}
"""
SERVER = """\
store: {{use: filesystem, root: {avatars}}}
limits: {{max_sessions: 40}}
launcher: {{use: livekit-dispatch, agent_name: {agent}}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avatars")
    tiny_avatar(folder / "tiny.hvia")
    return folder


@dataclass
class Worker:
    """A `visavis worker` in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def sessions(self) -> set[str]:
        """Ids of the sessions that it has joined a room for."""
        return {
            line.split("session ")[1].split(":")[0] for line in self.said().splitlines() if "joined the room" in line
        }

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
            return
        self.process.kill()
        self.process.wait()


@dataclass
class Fleet:
    """A server, its workers, and what they are called."""

    server: LiveKitServer
    serve: Any
    folder: Path
    avatars: Path
    stack: ExitStack
    agent: str = field(default_factory=lambda: f"visavis-{secrets.token_hex(4)}")
    workers: list[Worker] = field(default_factory=list)

    def hire(self, most: int = TWELVE) -> Worker:
        """Start a worker; returns once LiveKit knows it."""
        folder = self.folder / f"worker-{len(self.workers)}"
        folder.mkdir()
        (folder / "worker.yaml").write_text(WORKER.format(avatars=self.avatars, agent=self.agent, most=most))
        log = folder / "log"
        known = {"LIVEKIT_URL": self.server.url, "LIVEKIT_API_KEY": self.server.key}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "visavis", "worker", "worker.yaml"],
                cwd=folder,
                env={**os.environ, **known, "LIVEKIT_API_SECRET": self.server.secret},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        self.stack.callback(worker.stop)
        for _ in range(600):
            assert process.poll() is None, worker.said()
            if "visavis: worker AW_" in worker.said():
                return worker
            time.sleep(0.1)
        raise AssertionError(f"the worker is not ready: {worker.said()}")

    def open(self) -> Any:
        """Start a server; returns once it would start a session."""
        serving = self.serve(config=SERVER.format(avatars=self.avatars, agent=self.agent))
        self.stack.callback(lambda: print(serving.said()[-4000:]))
        return serving


@pytest.fixture
def fleet(livekit_server: LiveKitServer, serve: Any, tiny: Path, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(livekit_server, serve, tmp_path, tiny, stack)


@dataclass
class Call:
    """A room with an agent in it, and the session of its avatar."""

    session: str
    sender: Sender

    async def says(self, seconds: float = 0.4) -> None:
        said = await self.sender.say(steady(seconds, RATE), RATE)
        finish = await said.wait_finished()
        assert not finish.interrupted
        assert finish.position == pytest.approx(seconds, abs=0.001)


def begin(serving: Any, server: LiveKitServer, room: str) -> str:
    token = server.token("avatar", room, agent=True, on_behalf_of="agent")
    reply = serving.post("/v1/sessions", json={"avatar_id": "tiny", "livekit_url": server.url, "livekit_token": token})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


@asynccontextmanager
async def calls(fleet: Fleet, serving: Any, count: int) -> AsyncIterator[list[Call]]:
    """So many rooms, each with an agent that has heard its avatar."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            room = f"room-{secrets.token_hex(4)}"
            sender = await stack.enter_async_context(
                speaking_to(fleet.server, room, "avatar", agent=False)  # rooms of agents alone are closed
            )
            session = await anyio.to_thread.run_sync(begin, serving, fleet.server, room)
            await sender.avatar_seen()
            made.append(Call(session, sender))
        yield made


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - a log is read, no event tells of it
            await anyio.sleep(0.05)


async def test_one_session_is_all_that_it_would_be_in_the_server_itself(fleet: Fleet) -> None:
    worker = fleet.hire()
    serving = fleet.open()
    async with calls(fleet, serving, 1) as (call,):
        await call.says()
        url = f"/v1/sessions/{call.session}"
        pcm = (3000 * np.sin(np.arange(RATE // 2) / 10)).astype("<i2").tobytes()
        headers = {"content-type": f"audio/pcm;rate={RATE};channels=1"}
        reply = await anyio.to_thread.run_sync(
            lambda: serving.post(f"{url}/speak?wait=true", content=pcm, headers=headers)
        )
        assert (reply.status_code, reply.json()["status"], reply.json()["position_s"]) == (200, "played", 0.5)
        said = await call.sender.say(steady(5.0, RATE), RATE)
        await said.wait_started()
        assert (await anyio.to_thread.run_sync(serving.post, f"{url}/interrupt")).status_code == 200
        assert (await said.wait_finished()).interrupted
        shown = (await anyio.to_thread.run_sync(serving.get, url)).json()
        assert (shown["status"], shown["stats"]["segments"]) == ("running", 3)
        swap = await anyio.to_thread.run_sync(lambda: httpx.put(serving.url + f"{url}/avatar", json={"avatar_id": "x"}))
        assert swap.json()["code"] == "AVATAR_NOT_FOUND"
        figures = (await anyio.to_thread.run_sync(serving.get, "/metrics")).text
        assert "visavis_frames_total" in figures
        assert "visavis_workers 1.0" in figures
        await anyio.to_thread.run_sync(serving.delete, url)
        await call.sender.avatar_gone()
        dispatches = await listed(fleet, call.sender.room.name)
    assert all("eyJ" not in each.metadata for each in dispatches)
    assert "eyJ" not in worker.said()
    wrong = fleet.server.token("avatar", "elsewhere", agent=True)[:-4] + "AAAA"
    reply = serving.post("/v1/sessions", json={"avatar_id": "tiny", "livekit_token": wrong})
    assert reply.status_code >= 400


async def listed(fleet: Fleet, room: str) -> list[Any]:
    server = fleet.server
    async with api.LiveKitAPI(server.http_url, server.key, server.secret) as lk:
        return list(await lk.agent_dispatch.list_dispatch(room))


async def test_whoever_dispatches_by_hand_needs_no_server_of_ours(fleet: Fleet) -> None:
    worker = fleet.hire()
    room, server = f"room-{secrets.token_hex(4)}", fleet.server
    async with api.LiveKitAPI(server.http_url, server.key, server.secret) as lk:
        for metadata in ('{"avatar": 7}', json.dumps({"avatar": "tiny", "limits": {"max_duration_s": 30}})):
            wanted = api.CreateAgentDispatchRequest(agent_name=fleet.agent, room=room, metadata=metadata)
            await lk.agent_dispatch.create_dispatch(wanted)
        await until(lambda: "joined the room" in worker.said())
        assert "the job's metadata is no session request: avatar" in worker.said()
        avatar = worker.said().split("joined the room ")[1].split(" as ")[1].split()[0]
        async with speaking_to(server, room, avatar, identity="someone") as sender:
            await sender.avatar_seen()
            said = await sender.say(steady(0.4, RATE), RATE)
            assert (await said.wait_finished()).position == pytest.approx(0.4, abs=0.001)


@pytest.mark.slow
async def test_twelve_sessions_survive_the_death_of_a_worker(fleet: Fleet) -> None:
    first, second = fleet.hire(), fleet.hire()
    serving = fleet.open()
    async with calls(fleet, serving, TWELVE) as made:
        async with anyio.create_task_group() as tasks:
            for call in made:
                tasks.start_soon(call.says)
        assert len(first.sessions) + len(second.sessions) == TWELVE
        assert abs(len(first.sessions) - len(second.sessions)) <= 2
        dying, living = (first, second) if len(first.sessions) <= len(second.sessions) else (second, first)
        ours = {room_of(serving, call): call for call in made}
        lost = [call for name, call in ours.items() if f"joined the room {name} " in dying.said()]
        kept = [call for call in made if call not in lost]
        # All talk when it dies: what was cut off is finished as interrupted, the others are heard to their end.
        speeches: list[tuple[Call, Utterance]] = []

        async def talks(call: Call) -> None:
            speech = await call.sender.say(steady(LONG, RATE), RATE)
            speeches.append((call, speech))
            await speech.wait_started()

        async with anyio.create_task_group() as tasks:
            for call in made:
                tasks.start_soon(talks, call)
        os.kill(dying.process.pid, signal.SIGKILL)
        died = time.monotonic()
        back: dict[str, float] = {}

        async def returns(call: Call) -> None:
            name = call.sender.room.name
            await until(lambda: f"joined the room {name} " in living.said())
            back[call.session] = time.monotonic() - died

        async with anyio.create_task_group() as tasks:
            for call in lost:
                tasks.start_soon(returns, call)
        print(f"{len(lost)} sessions are back after {sorted(round(s, 1) for s in back.values())} s")
        for call, speech in speeches:
            finish = await speech.wait_finished()
            assert finish.interrupted == (call in lost)
            if call in kept:
                assert finish.position == pytest.approx(LONG, abs=0.001)
            else:
                assert 0 < finish.position < LONG
        for call in made:
            await call.sender.avatar_seen()
            await call.says()
            told = await anyio.to_thread.run_sync(serving.get, f"/v1/sessions/{call.session}")
            assert told.json()["status"] == "running"
        assert len(back) == len(lost)


async def test_a_worker_is_filled_to_its_last_place(fleet: Fleet) -> None:
    worker = fleet.hire(most=4)
    serving = fleet.open()
    for _ in range(4):
        await anyio.to_thread.run_sync(begin, serving, fleet.server, f"room-{secrets.token_hex(4)}")
    assert len(worker.sessions) == 4
    token = fleet.server.token("avatar", "one-too-many", agent=True)
    asked = {"avatar_id": "tiny", "livekit_url": fleet.server.url, "livekit_token": token}
    reply = await anyio.to_thread.run_sync(lambda: serving.post("/v1/sessions", json=asked))
    assert (reply.status_code, reply.json()["code"]) == (503, "AT_CAPACITY")


def room_of(serving: Any, call: Call) -> str:
    return str(serving.get(f"/v1/sessions/{call.session}").json()["room_name"])


@pytest.mark.slow
async def test_a_drain_loses_no_sentence(fleet: Fleet) -> None:
    first = fleet.hire()
    serving = fleet.open()
    async with calls(fleet, serving, 3) as made:
        for call in made:
            await call.says()
        second = fleet.hire()
        speeches = [await call.sender.say(steady(4.0, RATE), RATE) for call in made]
        for speech in speeches:
            await speech.wait_started()
        first.process.send_signal(signal.SIGTERM)
        for speech in speeches:
            finish = await speech.wait_finished()
            assert not finish.interrupted
            assert finish.position == pytest.approx(4.0, abs=0.001)
        await until(lambda: len(second.sessions) == 3)
        assert first.process.wait(30) == 0
        for call in made:
            await call.sender.avatar_seen()
            await call.says()
            told = await anyio.to_thread.run_sync(serving.get, f"/v1/sessions/{call.session}")
            assert told.json()["status"] == "running"


async def speech(seconds: float) -> AsyncIterator[rtc.AudioFrame]:
    pcm = steady(seconds, RATE)
    yield rtc.AudioFrame(pcm.tobytes(), RATE, 1, len(pcm))


@pytest.mark.slow
async def test_an_agent_keeps_its_session_when_the_worker_dies(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    server, name = fleet.server, f"room-{secrets.token_hex(4)}"
    known = {"URL": server.url, "API_KEY": server.key, "API_SECRET": server.secret}
    for what, value in known.items():
        monkeypatch.setenv(f"LIVEKIT_{what}", value)
    first = fleet.hire()
    serving = fleet.open()
    told: list[str] = []
    async with watching(server, name) as viewer:
        room, session = rtc.Room(), AgentSession[None]()
        await room.connect(server.url, server.token("agent", name, agent=True))
        with fake_job_context(room=room) as context:
            avatar = visavis.AvatarSession(avatar_id="tiny", avatar_server_url=serving.url)
            for event in ("avatar_available", "avatar_unavailable"):
                avatar.on(event, lambda _, event=event: told.append(event))
            await avatar.start(session, room=room)
            await session.start(Agent(instructions="Be brief."), room=room)
            await session.say("One.", audio=speech(1.0))
            second = await anyio.to_thread.run_sync(fleet.hire)
            first.process.kill()
            await until(lambda: told == ["avatar_available", "avatar_unavailable", "avatar_available"])
            await session.say("Two.", audio=speech(1.0))
            (shown,) = (await anyio.to_thread.run_sync(serving.get, "/v1/sessions")).json()["sessions"]
            told_of = (await anyio.to_thread.run_sync(serving.get, f"/v1/sessions/{shown['id']}")).json()
            assert first.sessions == second.sessions
            await avatar.aclose()
            await session.aclose()
            context._tempdir.cleanup()
        await room.disconnect()
        await viewer.stop()
    assert (told_of["status"], told_of["stats"]["segments"]) == ("running", 1)  # those of the worker that is there
