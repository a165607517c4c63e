"""An AgentSession with a face: at an Avatar Server, inside its own process, and without one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectionError, APIConnectOptions, APIStatusError
from livekit.agents.testing import fake_job_context
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.agents.voice.io import PlaybackFinishedEvent
from livekit.plugins import visavis
from visavis.testing.livekit.reading import heard, sizes, steady, tone
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

pytestmark = pytest.mark.anyio
RATE = 24_000
TEXT = "One two three four five six seven eight."
ONCE = APIConnectOptions(max_retry=0)


@pytest.fixture(autouse=True)
def environment(livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_URL", livekit_server.url)
    monkeypatch.setenv("LIVEKIT_API_KEY", livekit_server.key)
    monkeypatch.setenv("LIVEKIT_API_SECRET", livekit_server.secret)


async def sound(seconds: float, frequency: float) -> AsyncIterator[rtc.AudioFrame]:
    pcm = steady(seconds, RATE, tone=frequency)
    for at in range(0, len(pcm), RATE // 10):
        piece = pcm[at : at + RATE // 10]
        yield rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece))


@dataclass
class Talk:
    """An agent in a room, and what it was told about its avatar."""

    room: rtc.Room
    session: AgentSession[None]
    finished: list[PlaybackFinishedEvent] = field(default_factory=list)
    told: list[object] = field(default_factory=list)

    async def start(self, avatar: visavis.AvatarSession) -> None:
        for event in ("avatar_available", "avatar_unavailable", "metrics_collected"):
            avatar.on(event, self.told.append)
        await avatar.start(self.session, room=self.room)
        await self.session.start(Agent(instructions="Be brief."), room=self.room)
        assert self.session.output.audio is not None
        self.session.output.audio.on("playback_finished", self.finished.append)

    async def say(self, seconds: float, frequency: float) -> Any:
        """Say it to its end; never for ever."""
        with anyio.fail_after(60):
            handle = self.session.say(TEXT, audio=sound(seconds, frequency))
            await handle.wait_for_playout()
        return handle

    async def until_told(self, kind: type, timeout: float = 60) -> None:
        with anyio.fail_after(timeout):
            while not any(isinstance(event, kind) for event in self.told):  # noqa: ASYNC110 - a callback tells
                await anyio.sleep(0.05)


@asynccontextmanager
async def agent_in(server: LiveKitServer, name: str, *, job: bool = True) -> AsyncIterator[Talk]:
    room = rtc.Room()
    await room.connect(server.url, server.token("agent", name, agent=True))
    session: AgentSession[None] = AgentSession()
    try:
        if job:
            with fake_job_context(room=room) as context:
                try:
                    yield Talk(room, session)
                finally:
                    context._tempdir.cleanup()
        else:
            yield Talk(room, session)
    finally:
        await session.aclose()
        await room.disconnect()
        await anyio.sleep(0.2)
        gc.collect()


@pytest.mark.parametrize("where", ["server", "here"])
async def test_a_face_speaks_for_the_agent(
    where: str,
    livekit_server: LiveKitServer,
    room_name: str,
    serve: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`say` returns when heard, positions are exact, an interruption cuts sound and text, one pair of tracks."""
    if where == "server":
        avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url=serve().url)
    else:
        avatar = visavis.AvatarSession(avatar="mira")
    assert isinstance(avatar, BaseAvatarSession)
    async with watching(livekit_server, room_name) as viewer, agent_in(livekit_server, room_name) as talk:
        await talk.start(avatar)
        first = await talk.say(2.0, 440)
        assert not first.interrupted
        identity = avatar.avatar_identity
        cut = talk.session.say(TEXT, audio=sound(6.0, 660))
        await anyio.sleep(2.5)
        cut.interrupt()
        await cut.wait_for_playout()
        await talk.say(1.0, 880)
        await avatar.aclose()
        assert where == "here" or identity not in talk.room.remote_participants
        await avatar.aclose()
        assert "failed to remove" not in caplog.text
        if where == "server":  # the agent's room knows; LiveKit tells each participant by itself
            await viewer.until("left", of=identity)
        seen = await viewer.stop()

    assert (identity == "agent") is (where == "here")
    positions = [(round(event.playback_position, 3), event.interrupted) for event in talk.finished]
    assert positions[0] == (2.0, False)
    assert positions[2] == (1.0, False)
    assert positions[1][1]
    assert 0.5 < positions[1][0] < 4.0
    said = [item.text_content for item in talk.session.history.items if item.type == "message"]
    assert said[0] == said[2] == TEXT
    assert TEXT.startswith(said[1] or "?")
    assert said[1] != TEXT
    take = seen.of(identity)
    assert set(sizes(take.pictures)) == {(512, 512)}
    kinds = [e["kind"] for e in seen.events if e["event"] == "published" and e["identity"] == identity]
    assert sorted(kinds)[: len(kinds)] in (["audio", "video"], ["audio", "audio", "video"])
    whole = heard(take.sound, 0, 1e12)
    assert whole is not None
    first_part = heard(take.sound, whole.begin, whole.begin + 1.9)
    assert first_part is not None
    assert tone(take.sound, whole.begin + 0.5, whole.begin + 1.5) == pytest.approx(440, abs=3)
    metrics = [event for event in talk.told if getattr(event, "type", "") == "avatar_metrics"]
    assert metrics[0].metadata.model_provider == "visavis"  # type: ignore[attr-defined]
    assert any(m.playback_latency for m in metrics)  # type: ignore[attr-defined]


async def test_transcripts_follow_the_lips(livekit_server: LiveKitServer, room_name: str) -> None:
    """Words come one after another while they are said, not all at once when they are known."""
    words: list[tuple[float, str]] = []
    readers: set[asyncio.Task[None]] = set()

    async def read(reader: rtc.TextStreamReader) -> None:
        with suppress(Exception):
            async for part in reader:
                words.append((anyio.current_time(), part))  # noqa: PERF401 - each with its time

    def opened(reader: rtc.TextStreamReader, identity: str) -> None:
        readers.add(task := asyncio.get_running_loop().create_task(read(reader)))
        task.add_done_callback(readers.discard)

    user = rtc.Room()
    user.register_text_stream_handler("lk.transcription", opened)
    await user.connect(livekit_server.url, livekit_server.token("user", room_name))
    async with agent_in(livekit_server, room_name) as talk:
        avatar = visavis.AvatarSession(avatar="mira")
        await talk.start(avatar)
        await avatar.wait_for_join()
        await talk.say(4.0, 440)
        await anyio.sleep(0.3)
        await avatar.aclose()
    await user.disconnect()
    assert "".join(part for _, part in words).strip() == TEXT
    assert len(words) >= 6
    assert words[-1][0] - words[0][0] > 1.5  # of four seconds


@contextmanager
def restarted(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another server where one was killed."""
    port = str(urlsplit(url).port)
    with (folder / "again.log").open("wb") as log:
        command = [sys.executable, "-m", "visavis", "serve", "--port", port]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


async def test_a_server_killed_in_mid_sentence(
    livekit_server: LiveKitServer, room_name: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """The sentence goes on from the agent's own track, as does the next; the avatar comes back with its server."""
    serving = serve()
    avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url=serving.url)
    async with watching(livekit_server, room_name) as viewer, agent_in(livekit_server, room_name) as talk:
        await talk.start(avatar)
        sentence = talk.session.say(TEXT, audio=sound(6.0, 440))
        await viewer.until("sound", of=avatar.avatar_identity)
        await anyio.sleep(1.0)
        os.kill(serving.process.pid, signal.SIGKILL)
        with anyio.fail_after(60):
            await sentence.wait_for_playout()
        await talk.until_told(visavis.AvatarUnavailable)
        viewer.mark("next")
        await talk.say(1.5, 660)
        viewer.mark("said")
        talk.told.clear()
        with restarted(serving.url, tmp_path):
            await talk.until_told(visavis.AvatarAvailable)
            viewer.mark("back")
            await talk.say(1.5, 880)
            seen = await viewer.so_far()
            await avatar.aclose()
        await viewer.stop()

    assert not sentence.interrupted
    assert [round(e.playback_position, 1) for e in talk.finished] == [6.0, 1.5, 1.5]
    own = seen.of("agent").sound
    rest = heard(own, 0, seen.marks["next"])
    assert rest is not None
    assert rest.end - rest.begin > 2.0  # what the avatar had not said
    assert tone(own, rest.begin + 0.5, rest.begin + 1.5) == pytest.approx(440, abs=3)
    after = heard(own, seen.marks["next"] + 0.3, seen.marks["said"] + 0.5)
    assert after is not None
    assert tone(own, seen.marks["next"] + 0.5, seen.marks["said"] - 0.2) == pytest.approx(660, abs=3)
    back = seen.of(avatar.avatar_identity).sound
    assert tone(back, seen.marks["back"] + 0.6, seen.marks["back"] + 1.4) == pytest.approx(880, abs=100)


async def test_no_server_no_face_and_a_voice(livekit_server: LiveKitServer, room_name: str) -> None:
    """Nobody listens at that address: the agent starts, says so, and is heard from its own track."""
    gone = "http://user:pass@127.0.0.1:9"
    async with watching(livekit_server, room_name, decode=False) as viewer, agent_in(livekit_server, room_name) as talk:
        avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url=gone, conn_options=ONCE)
        await talk.start(avatar)
        assert not (await talk.say(1.0, 440)).interrupted
        told = next(event for event in talk.told if isinstance(event, visavis.AvatarUnavailable))
        assert told.retrying
        assert "127.0.0.1:9 cannot be reached" in told.reason
        assert "pass" not in f"{told}"
        await avatar.aclose()
        await talk.say(1.0, 660)  # without an avatar there is still a voice
        seen = await viewer.stop()
    assert [e.playback_position for e in talk.finished] == [1.0, 1.0]
    whole = heard(seen.of("agent").sound, 0, 1e12)
    assert whole is not None
    assert whole.last - whole.first == pytest.approx(2 * 48_000, rel=0.06)


async def test_without_the_fall_back_errors_are_raised(
    livekit_server: LiveKitServer, room_name: str, serve: Callable[..., Any]
) -> None:
    url = serve().url
    async with agent_in(livekit_server, room_name, job=False) as talk:
        lost = visavis.AvatarSession(
            avatar_id="mira", avatar_server_url="http://127.0.0.1:9", voice_fallback=False, conn_options=ONCE
        )
        with pytest.raises(APIConnectionError, match="cannot be reached"):
            await lost.start(talk.session, room=talk.room)
        unknown = visavis.AvatarSession(avatar_id="nobody", avatar_server_url=url, voice_fallback=False)
        with pytest.raises(APIStatusError, match="AVATAR_NOT_FOUND") as refused:
            await unknown.start(talk.session, room=talk.room)
        assert refused.value.status_code == 404
        assert talk.session.output.audio is None
        asked = visavis.AvatarSession(avatar_id="nobody", avatar_server_url=url)
        await talk.start(asked)
        with pytest.raises(APIStatusError, match="AVATAR_NOT_FOUND"):
            await asked.wait_for_join()
        await asked.aclose()


async def test_the_avatar_leaves_with_its_agent(
    livekit_server: LiveKitServer, room_name: str, serve: Callable[..., Any]
) -> None:
    """Nobody closes anything: the agent disconnects, and the avatar is not left behind."""
    serving = serve()
    async with watching(livekit_server, room_name) as viewer:
        room = rtc.Room()
        await room.connect(livekit_server.url, livekit_server.token("agent", room_name, agent=True))
        talk = Talk(room, AgentSession())
        avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url=serving.url)
        await talk.start(avatar)
        await viewer.until("picture", of=avatar.avatar_identity)
        await room.disconnect()
        await viewer.until("left", of=avatar.avatar_identity, timeout=40)
        await viewer.stop()
        for _ in range(100):
            sessions = serving.get("/v1/sessions").json()["sessions"]
            if all(entry["status"] != "running" for entry in sessions):
                break
            await anyio.sleep(0.1)
        assert [entry["status"] for entry in sessions] == ["completed"]
        await avatar.aclose()
        await talk.session.aclose()


async def test_one_after_another_leaves_nothing_behind(
    livekit_server: LiveKitServer, room_name: str, serve: Callable[..., Any]
) -> None:
    """In one agent's process: tasks, handlers and tracks return to their counts."""
    url = serve().url
    counts: list[tuple[int, int, int]] = []
    for number in range(4):
        async with agent_in(livekit_server, f"{room_name}-{number}", job=False) as talk:
            here = number % 2
            avatar = (
                visavis.AvatarSession(avatar="mira")
                if here
                else visavis.AvatarSession(avatar_id="mira", avatar_server_url=url)
            )
            await talk.start(avatar)
            await avatar.wait_for_join()
            await talk.say(0.3, 440)
            await avatar.aclose()
            assert not talk.room.local_participant.track_publications
        handlers = len(DataStreamAudioOutput._playback_finished_handlers)
        started = len(DataStreamAudioOutput._playback_started_handlers)
        counts.append((len(asyncio.all_tasks()), handlers, started))
    assert counts[-1][1:] == counts[0][1:]
    assert counts[-1][0] <= counts[1][0]
