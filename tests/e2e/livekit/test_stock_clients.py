"""Clients written for other avatar servers, unaltered, through a whole session: start, speak, interrupt, speak, end.

livekit-agents' ``inference.AvatarSession`` and ``livekit-plugins-bithuman`` are the installed ones. Avaluma's plugin is
on no index: here is a client that sends what it sends, byte for byte, with livekit-agents' own audio output.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import anyio
import numpy as np
import pytest
from livekit import api, rtc
from livekit.agents import Agent, AgentSession, inference, utils
from livekit.agents.testing import fake_job_context
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.agents.voice.io import AudioOutput, PlaybackFinishedEvent
from livekit.agents.voice.room_io import RoomOptions
from livekit.plugins import bithuman
from visavis.testing.livekit.reading import sizes, spans, tone
from visavis.testing.livekit.recording import Recording
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

pytestmark = pytest.mark.anyio

RATE = 24_000
API_KEY = "a-key-of-our-own-server"


async def voice(seconds: float, frequency: float, rate: int = RATE) -> AsyncIterator[rtc.AudioFrame]:
    """A tone as a voice would bring it, 20 ms at a time."""
    t = np.arange(round(seconds * rate)) / rate
    pcm = (12_000 * np.sin(2 * np.pi * frequency * t)).astype(np.int16)
    step = rate // 50
    for at in range(0, len(pcm), step):
        block = pcm[at : at + step]
        yield rtc.AudioFrame(block.tobytes(), rate, 1, len(block))


@dataclass
class Told:
    """What the agent's audio output was told by the avatar."""

    started: int = 0
    finished: list[PlaybackFinishedEvent] = field(default_factory=list)
    change: anyio.Event = field(default_factory=anyio.Event)

    def listen(self, output: AudioOutput) -> None:
        output.on("playback_started", self._on_started)
        output.on("playback_finished", self._on_finished)

    def _on_started(self, event: Any) -> None:
        self.started += 1
        self._changed()

    def _on_finished(self, event: PlaybackFinishedEvent) -> None:
        self.finished.append(event)
        self._changed()

    def _changed(self) -> None:
        change, self.change = self.change, anyio.Event()
        change.set()


@dataclass
class Faced:
    """An agent with a face: its room, its session, and who stands in for it."""

    room: rtc.Room
    session: AgentSession[Any]
    identity: str
    told: Told = field(default_factory=Told)

    async def spoken(self, seconds: float, frequency: float) -> PlaybackFinishedEvent:
        """Say a tone to its end."""
        before = len(self.told.finished)
        await self.session.say(f"A tone of {frequency:g} hertz.", audio=voice(seconds, frequency)).wait_for_playout()
        (event,) = self.told.finished[before:]
        return event


def tail_of(session: AgentSession[Any]) -> DataStreamAudioOutput:
    output = session.output.audio
    while output is not None and not isinstance(output, DataStreamAudioOutput):
        output = output.next_in_chain
    assert output is not None, "the client put no data stream at the end of the agent's audio"
    return output


@asynccontextmanager
async def agent_in(server: LiveKitServer, room_name: str) -> AsyncIterator[tuple[rtc.Room, AgentSession[Any]]]:
    """A real AgentSession without models, in a room, not started yet."""
    room = rtc.Room()
    await room.connect(server.url, server.token("agent-1", room_name, agent=True))
    session: AgentSession[Any] = AgentSession()
    try:
        yield room, session
    finally:
        with anyio.CancelScope(shield=True):
            await session.aclose()
            await room.disconnect()


async def begun(faced: Faced) -> None:
    """Start the agent's session as an entrypoint does, after the avatar's."""
    options = RoomOptions(audio_input=False, text_input=False)
    await faced.session.start(Agent(instructions="none"), room=faced.room, room_options=options)
    faced.told.listen(tail_of(faced.session))


@asynccontextmanager
async def gateway_client(server: LiveKitServer, serving: Any, room_name: str, avatar: str) -> AsyncIterator[Faced]:
    """livekit-agents' client of LiveKit Inference, told of another base_url."""
    async with agent_in(server, room_name) as (room, session):
        client = inference.AvatarSession(
            f"visavis/{avatar}", base_url=serving.url, api_key=server.key, api_secret=server.secret
        )
        await client.start(session, room, livekit_url=server.url)
        assert tail_of(session).sample_rate == RATE
        faced = Faced(room, session, client.avatar_identity)
        await begun(faced)
        await client.wait_for_join(timeout=20)
        yield faced
        await client.aclose()


@asynccontextmanager
async def bithuman_client(
    server: LiveKitServer, serving: Any, room_name: str, avatar: str, *, model: Any, query: str = ""
) -> AsyncIterator[Faced]:
    """bitHuman's plugin, told of another api_url; it wants a job."""
    async with AsyncExitStack() as stack:
        room, session = await stack.enter_async_context(agent_in(server, room_name))
        job = stack.enter_context(fake_job_context(room=room))
        stack.callback(job._tempdir.cleanup)
        job._info.token = server.token("agent-1", room_name, agent=True)
        utils.http_context._new_session_ctx()
        stack.push_async_callback(utils.http_context._close_http_ctx)
        client = bithuman.AvatarSession(
            api_url=f"{serving.url}/launch{query}", api_secret=API_KEY, model=model, avatar_id=avatar
        )
        await client.start(
            session,
            room,
            livekit_url=server.url,
            livekit_api_key=server.key,
            livekit_api_secret=server.secret,
        )
        faced = Faced(room, session, client.avatar_identity)
        await begun(faced)
        await client.wait_for_join(timeout=20)
        yield faced
        await client.aclose()


@asynccontextmanager
async def avaluma_client(server: LiveKitServer, serving: Any, room_name: str, avatar: str) -> AsyncIterator[Faced]:
    """What Avaluma's plugin does: its own token, its two requests, sound at 16 kHz, and the states of both sides."""
    identity, headers = f"avatar-{avatar}", {"Content-Type": "application/json", "api-secret": API_KEY}
    async with agent_in(server, room_name) as (room, session), aiohttp.ClientSession() as http:
        token = api.AccessToken(server.key, server.secret).with_kind("agent").with_identity(identity)
        token = token.with_name(identity).with_grants(api.VideoGrants(room_join=True, room=room.name))
        token = token.with_attributes({"lk.publish_on_behalf": room.local_participant.identity})
        body = {"livekit_url": server.url, "livekit_token": token.to_jwt()}
        body |= {"avaluma_key": API_KEY, "avaluma_avatar_id": avatar}
        async with http.post(f"{serving.url}/v1/livekit/start-avatar", headers=headers, json=body) as response:
            assert response.ok, await response.text()
            session_id = (await response.json())["session_id"]

        async def tell(method: str, state: str) -> None:
            await room.local_participant.perform_rpc(destination_identity=identity, method=method, payload=state)

        output = DataStreamAudioOutput(
            room=room,
            destination_identity=identity,
            sample_rate=16_000,
            wait_remote_track=rtc.TrackKind.KIND_VIDEO,
        )
        session.output.audio = output
        faced = Faced(room, session, identity)
        await begun(faced)
        await utils.wait_for_track_publication(room, identity=identity, kind=rtc.TrackKind.KIND_VIDEO)
        for state in ("initializing", "idle", "listening", "thinking", "speaking"):
            await tell("agent_state_changed", state)
        for state in ("speaking", "listening", "away"):
            await tell("user_state_changed", state)
        yield faced
        async with http.post(
            f"{serving.url}/v1/livekit/stop-avatar", headers=headers, json={"session_id": session_id}
        ) as response:
            assert await response.json() == {"status": "stopped"}


CLIENTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "gateway": (gateway_client, {}, "gateway"),
    "bithuman-form": (bithuman_client, {"model": "expression", "query": "?async=false"}, "bithuman"),
    "bithuman-json": (bithuman_client, {"model": "essence"}, "bithuman"),
    "avaluma": (avaluma_client, {}, "avaluma"),
}
FIRST, CUT, LAST = 440.0, 880.0, 1320.0


@pytest.fixture
def environment(livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker has in its environment."""
    monkeypatch.setenv("LIVEKIT_URL", livekit_server.url)
    monkeypatch.setenv("LIVEKIT_API_KEY", livekit_server.key)
    monkeypatch.setenv("LIVEKIT_API_SECRET", livekit_server.secret)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_whole_session(
    livekit_server: LiveKitServer, serve: Any, room_name: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, options, dialect = CLIENTS[name]
    # A gateway's client shows a JWT; the others show a key, so that there is one. Each sees its own sessions.
    guarded = dialect != "gateway"
    env = {"VISAVIS_API_KEYS": API_KEY} if guarded else {}
    shown = {"Authorization": f"Bearer {API_KEY}"} if guarded else {}
    serving = await anyio.to_thread.run_sync(partial(serve, env=env))
    caplog.set_level(logging.WARNING)
    async with watching(livekit_server, room_name) as viewer:
        async with client(livekit_server, serving, room_name, "mira", **options) as faced:
            await viewer.until("picture", of=faced.identity)
            whole = await faced.spoken(0.8, FIRST)
            await viewer.until("silence", of=faced.identity)
            asked = viewer.mark("asked")
            handle = faced.session.say("A long story.", audio=voice(8.0, CUT))
            await viewer.until("sound", of=faced.identity, after=asked)
            await anyio.sleep(0.8)
            handle.interrupt()
            await handle.wait_for_playout()
            assert len(faced.told.finished) == 2
            cut = faced.told.finished[1]
            await viewer.until("silence", of=faced.identity, after=asked)
            again = await faced.spoken(0.6, LAST)
            (entry,) = serving.get("/v1/sessions", headers=shown).json()["sessions"]
            assert (entry["status"], entry["dialect"], entry["avatar_id"]) == ("running", dialect, "mira")
            assert entry["agent_identity"] == "agent-1"
            assert entry["avatar_identity"] == faced.identity
        await viewer.until("left", of=faced.identity, timeout=10)
        seen = await viewer.stop()

    told = faced.told
    assert told.started == len(told.finished) == 3
    assert "more times than playback segments" not in caplog.text
    assert (whole.interrupted, whole.playback_position) == (False, pytest.approx(0.8, abs=0.001))
    assert (again.interrupted, again.playback_position) == (False, pytest.approx(0.6, abs=0.001))
    assert cut.interrupted
    judge(seen, faced.identity, cut.playback_position)
    (entry,) = serving.get("/v1/sessions", headers=shown).json()["sessions"]
    assert entry["status"] in ("completed", "cancelled"), entry
    assert entry["reason"], entry
    assert serving.get("/health").json()["active_sessions"] == 0


def judge(seen: Recording, identity: str, cut: float) -> None:
    """What the viewer got: whole pictures, three sounds of the right tones, as long as the agent was told."""
    take = seen.of(identity)
    assert set(sizes(take.pictures)) == {(512, 512)}
    found = [span for span in spans(take.sound, pause=0.2) if span.seconds > 0.1]
    tones = [tone(take.sound, span.begin, span.end) for span in found]
    assert tones == [pytest.approx(hz, abs=25) for hz in (FIRST, CUT, LAST)]
    # On a busy machine a receiver stretches what it hears: the bench measures by how much, here nothing may be missing.
    assert [span.seconds for span in found] == [pytest.approx(s, abs=0.4) for s in (0.8, cut, 0.6)]
