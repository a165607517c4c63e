"""An agent's pulse: who is taken for dead, who is not, and what becomes of the avatar."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from livekit import api, rtc
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit import pulse
from visavis_transport_livekit.pulse import Pulse

from .conftest import Avatar, avatar_in, guest_in

pytestmark = pytest.mark.anyio

AGENT = """
import asyncio, select, sys
from livekit import rtc

async def main(url, token):
    room = rtc.Room()
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    print("in", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    select.select([], [], [], 6)  # nothing else runs in this loop meanwhile
    print("back", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@dataclass
class FakeLine:
    """Answers by a script, whose last entry holds on; each call of the agent takes one."""

    answering: list[bool]
    echoes: bool = True
    flows: bool = True
    sid: str = "PA_1"
    on_call: Callable[[int], None] = lambda number: None
    calls: int = 0
    packets: int = 0
    after: anyio.Event = field(default_factory=anyio.Event)

    async def answers(self) -> bool:
        await anyio.lowlevel.checkpoint()
        self.calls += 1
        self.on_call(self.calls)
        if self.calls >= len(self.answering) + 3:
            self.after.set()
        return self.answering[min(self.calls, len(self.answering)) - 1]

    async def echo(self) -> bool:
        return self.echoes

    async def arrived(self) -> int:
        self.packets += self.flows
        return self.packets

    def who(self) -> str:
        return self.sid


async def felt(line: FakeLine, *, judges: bool = True, departs_at: int = 0) -> list[Literal["found", "lost"]]:
    """What was told until three calls after the script's end, without repetitions."""
    told: list[Literal["found", "lost"]] = []
    feeling = Pulse(
        line, 0.001, judges=lambda: judges, found=lambda: told.append("found"), lost=lambda since: told.append("lost")
    )
    line.on_call = lambda number: feeling.departed() if number == departs_at else None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feeling.feel)
        await line.after.wait()
        tasks.cancel_scope.cancel()
    return [word for index, word in enumerate(told) if index == 0 or told[index - 1] != word]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Nothing is waited for where nothing is real."""
    if "livekit_server" not in request.fixturenames:
        monkeypatch.setattr(pulse, "ARRIVAL_PATIENCE", 0.01)


async def test_an_agent_that_falls_silent_is_lost_once() -> None:
    assert await felt(FakeLine([True, True, False])) == ["found", "lost"]


async def test_one_silence_is_none() -> None:
    assert await felt(FakeLine([True, False, True])) == ["found"]


async def test_an_agent_that_answers_again_is_found_again() -> None:
    assert await felt(FakeLine([True, False, False, False, True])) == ["found", "lost", "found"]


async def test_an_agent_that_never_answered_is_not_judged() -> None:
    assert await felt(FakeLine([False])) == []


async def test_the_silence_of_the_room_is_not_the_agents() -> None:
    assert await felt(FakeLine([True, False], echoes=False)) == ["found"]


async def test_requests_alone_do_not_prove_the_room() -> None:
    assert await felt(FakeLine([True, False], flows=False)) == ["found"]


async def test_after_a_doubt_about_the_room_silence_is_no_proof_for_a_while() -> None:
    class Mended(FakeLine):
        async def echo(self) -> bool:
            return self.calls > 2

    assert await felt(Mended([True, False, False, False, False])) == ["found"]


async def test_silence_does_not_count_while_the_connection_is_being_mended() -> None:
    assert await felt(FakeLine([True, False]), judges=False) == ["found"]


async def test_an_agent_that_joined_anew_must_have_answered_first() -> None:
    class Rejoined(FakeLine):
        def who(self) -> str:
            return "PA_1" if self.calls < 1 else "PA_2"

    assert await felt(Rejoined([True, False])) == ["found"]


async def test_an_answer_that_was_on_its_way_does_not_bring_an_agent_back() -> None:
    assert await felt(FakeLine([True, False]), departs_at=1) == []


async def test_a_call_that_fails_in_the_sdk_proves_nothing() -> None:
    class Broken(FakeLine):
        async def arrived(self) -> int:
            raise RuntimeError("the room is half gone")

    assert await felt(Broken([True, False])) == ["found"]


# -- in a room


@asynccontextmanager
async def agent_process(server: LiveKitServer, room: str) -> AsyncIterator[anyio.abc.Process]:
    """An agent in a process of its own, in the room."""
    command = [sys.executable, "-c", AGENT, server.url, server.token("agent", room, agent=True)]
    async with await anyio.open_process(command, stdin=subprocess.PIPE, stderr=None) as process:
        try:
            await said(process, b"in")
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def said(process: anyio.abc.Process, word: bytes) -> None:
    """Wait until it says so."""
    assert process.stdout is not None
    heard = b""
    with anyio.fail_after(60):
        while word not in heard:
            heard += await process.stdout.receive()


async def met(avatar: Avatar) -> None:
    """Wait until the avatar knows that its agent is there: servers do not list who publishes nothing."""
    presence = avatar.session._stay._presence
    assert presence is not None
    with anyio.fail_after(20):
        while "agent" not in presence:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.05)


async def test_an_agent_that_is_busy_is_served_on_and_one_that_was_killed_is_not(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    departed: list[str] = []
    async with avatar_in(livekit_server, room_name, agent="agent", agent_grace_s=1.0, pulse_s=0.5) as avatar:
        avatar.room.on("participant_disconnected", lambda who: departed.append(who.identity))
        await avatar.publish()
        async with agent_process(livekit_server, room_name) as agent:
            await met(avatar)
            assert agent.stdin is not None
            await agent.stdin.send(b"\n")
            await said(agent, b"back")
            assert avatar.metrics.total("visavis_agent_silences_total") == 0
            agent.kill()
            with anyio.fail_after(60):
                assert await avatar.session.closed() == "its agent agent left the room"
        assert avatar.metrics.total("visavis_agent_silences_total") == 1
        assert not departed  # the server did not know yet


@pytest.mark.usefixtures("livekit_server")  # which says so where there is none
async def test_a_room_that_stands_still_is_not_the_agents_death(tmp_path: Path, room_name: str) -> None:
    with LiveKitServer(tmp_path) as server:
        await frozen(server, room_name)


async def frozen(server: LiveKitServer, room_name: str) -> None:
    async with (
        guest_in(server, room_name, "agent", agent=True),
        avatar_in(server, room_name, agent="agent", agent_grace_s=0.5, pulse_s=0.5) as avatar,
    ):
        await avatar.publish()
        await met(avatar)
        with server.frozen():
            await anyio.sleep(6)
        with anyio.move_on_after(4) as stayed:
            await avatar.session.closed()
        assert stayed.cancelled_caught
        assert avatar.metrics.total("visavis_agent_silences_total") == 0


async def test_somebody_who_joins_is_a_sign_of_life(livekit_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(livekit_server, room_name) as avatar:
        async with guest_in(livekit_server, room_name, "agent", agent=True) as agent:
            await agent.room.local_participant.publish_track(
                rtc.LocalAudioTrack.create_audio_track("voice", source := rtc.AudioSource(24_000, 1))
            )
            await agent.until(lambda: "agent" in avatar.room.remote_participants)
            assert avatar.context.last_sign == float("-inf")
            async with guest_in(livekit_server, room_name) as guest:
                await guest.until(lambda: avatar.context.last_sign > 0)
            await source.aclose()


async def test_an_agent_that_may_send_no_data_any_more_is_not_judged(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with (
        guest_in(livekit_server, room_name, "agent", agent=True) as agent,
        avatar_in(livekit_server, room_name, agent="agent", agent_grace_s=0.5, pulse_s=0.5) as avatar,
    ):
        await avatar.publish()
        track = rtc.LocalAudioTrack.create_audio_track("voice", source := rtc.AudioSource(24_000, 1))
        await agent.room.local_participant.publish_track(track)
        await agent.until(lambda: "agent" in avatar.room.remote_participants)
        await anyio.sleep(1.5)  # it has answered
        url = "http" + livekit_server.url.removeprefix("ws")
        async with api.LiveKitAPI(url, livekit_server.key, livekit_server.secret) as rooms:
            may = api.ParticipantPermission(can_subscribe=True, can_publish=True, can_publish_data=False)
            change = api.UpdateParticipantRequest(room=room_name, identity="agent", permission=may)
            await rooms.room.update_participant(change)
        with anyio.move_on_after(6) as stayed:
            await avatar.session.closed()
        assert stayed.cancelled_caught
        assert avatar.metrics.total("visavis_agent_silences_total") == 0
        await source.aclose()
