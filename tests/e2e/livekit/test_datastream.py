"""The data stream source in a real room: stock clients, the bare SDK, and those who mean no good.

Pictures and sound go to a recorder in this process: what is tested here is the protocol. What a subscriber gets of it
is tested with the LiveKit transport.
"""

from __future__ import annotations

import asyncio  # the SDK's callbacks are on its loop
import contextlib
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import numpy as np
import pytest
from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.rtc._ffi_client import FfiClient
from numpy.typing import NDArray
from visavis.component import ComponentConfig, NoOptions
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.transport import Pacing, Transport
from visavis.media import AudioFormat
from visavis.metrics import MemoryMetrics
from visavis.pipeline.batcher import Batcher
from visavis.session import Session
from visavis.testing.fakes import FakeRenderer, Recorder
from visavis.testing.livekit.sender import Sender, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis_source_datastream import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.source import DataStreamSource

pytestmark = pytest.mark.anyio


class RoomRecorder(Recorder):
    """Joins a room and publishes nothing."""

    def __init__(self, room: rtc.Room, url: str, token: str) -> None:
        super().__init__(Pacing.REALTIME, AudioFormat(24_000, 1))
        self.room, self._url, self._token = room, url, token

    async def open(self, context: SessionContext) -> None:
        await self.room.connect(self._url, self._token, rtc.RoomOptions(auto_subscribe=False))

    async def aclose(self, error: BaseException | None = None) -> None:
        await super().aclose(error)
        await self.room.disconnect()


class RoomTransport(Transport):
    """Makes one of those and shares its room."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> RoomRecorder:
        room = rtc.Room()
        context.provide(rtc.Room, room)
        return RoomRecorder(room, self._url, self._token)


@dataclass
class Avatar:
    """A session that is under way."""

    identity: str
    session: Session
    metrics: MemoryMetrics

    @property
    def recorder(self) -> RoomRecorder:
        way_out = self.session._way_out
        assert isinstance(way_out, RoomRecorder)
        return way_out

    def heard(self) -> NDArray[np.float32]:
        """The sound that was not silence, float32 ``[n]``."""
        sound = self.recorder.sound()[:, 0]
        return sound[np.abs(sound) > 0.001]


@asynccontextmanager
async def avatar_in(
    server: LiveKitServer,
    room: str,
    options: DataStreamOptions | None = None,
    *,
    identity: str | None = None,
    on_behalf_of: str | None = None,
) -> AsyncIterator[Avatar]:
    us = f"avatar-{secrets.token_hex(4)}"
    transport = RoomTransport(server.url, server.token(us, room, on_behalf_of=on_behalf_of))
    source = DataStreamSource(options or DataStreamOptions(), DataStreamSessionOptions(identity=identity))
    renderer, metrics = FakeRenderer(fps=25), MemoryMetrics()
    context = SessionContext("s", SessionRequest(), metrics)
    session = Session(context, renderer.load(), Batcher(renderer), transport, NoOptions(), [source])
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        try:
            yield Avatar(us, session, metrics)
        finally:
            await session.close()


@asynccontextmanager
async def sender_in(server: LiveKitServer, room: str, avatar: Avatar, identity: str = "") -> AsyncIterator[Sender]:
    async with speaking_to(
        server, room, avatar.identity, identity=identity or f"agent-{secrets.token_hex(4)}"
    ) as sender:
        yield sender


def ramp(seconds: float, rate: int = 24_000) -> NDArray[np.int16]:
    """Every sample is different from its neighbours, none is silent."""
    count = round(seconds * rate)
    return (2_000 + np.arange(count) % 20_011).astype(np.int16)


async def spoken(agent: Sender, avatar: Avatar, seconds: float = 0.5) -> None:
    """All is well: an utterance is heard to its end."""
    finish = await (await agent.say(ramp(seconds), 24_000)).wait_finished()
    assert (finish.position, finish.interrupted) == (seconds, False)


# -- the bare SDK


async def test_what_is_sent_is_heard_to_the_sample(livekit_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(livekit_server, room_name) as avatar, sender_in(livekit_server, room_name, avatar) as agent:
        first = await agent.say(ramp(1.0), 24_000)
        second = await agent.say(ramp(0.5), 24_000, chunk_ms=7.3)
        third = await agent.say(ramp(0.3), 24_000, chunk_ms=None)
        ends = [await said.wait_finished() for said in (first, second, third)]
        assert [(end.position, end.interrupted) for end in ends] == [(1.0, False), (0.5, False), (0.3, False)]
        assert len(agent.started) == 3
        wanted = np.concatenate([ramp(1.0), ramp(0.5), ramp(0.3)])
        np.testing.assert_allclose(avatar.heard(), wanted / 32_768, atol=1e-6)


async def test_what_is_pushed_as_the_avatar_comes_in_is_heard_whole(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    """The earliest moment at which a client can know of it."""
    room = rtc.Room()
    come: list[str] = []
    seen = anyio.Event()

    def joined(participant: rtc.RemoteParticipant) -> None:
        come.append(participant.identity)
        seen.set()

    room.on("participant_connected", joined)
    await room.connect(livekit_server.url, livekit_server.token(f"agent-{room_name}", room_name))
    ends: list[str] = []
    heard = anyio.Event()

    def finished(call: rtc.RpcInvocationData) -> str:
        ends.append(call.payload)
        heard.set()
        return "ok"

    room.local_participant.register_rpc_method("lk.playback_finished", finished)

    async def push() -> None:
        await seen.wait()
        stream = await room.local_participant.stream_bytes(
            name="a",
            topic="lk.audio_stream",
            destination_identities=come,
            attributes={"sample_rate": "24000", "num_channels": "1"},
        )
        await stream.write(ramp(1.0).tobytes())
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(push)
        async with avatar_in(livekit_server, room_name) as avatar:
            with anyio.fail_after(20):
                await heard.wait()
            np.testing.assert_allclose(avatar.heard(), ramp(1.0) / 32_768, atol=1e-6)
    assert ends == ['{"playback_position": 1.0, "interrupted": false}']
    await room.disconnect()


async def test_calls_and_streams_keep_their_order(livekit_server: LiveKitServer, room_name: str) -> None:
    """However close a call and a stream follow each other, the source sees them as they came."""
    async with avatar_in(livekit_server, room_name) as avatar, sender_in(livekit_server, room_name, avatar) as agent:
        room: Any = avatar.recorder.room
        (source,) = avatar.session._sources
        came, seen = [], []
        on_event, on_call, arrive = room._on_room_event, room._on_rpc_method_invocation, source._arrive  # type: ignore[attr-defined]

        def event(event: Any) -> None:
            if event.WhichOneof("message") == "byte_stream_opened":
                came.append("_Opened")
            on_event(event)

        def call(invocation: Any) -> None:
            if invocation.method == "lk.clear_buffer":  # all rooms of a process hear of all calls
                came.append("_Cleared")
            on_call(invocation)

        def note(arrival: Any) -> None:
            seen.append(type(arrival).__name__)
            arrive(arrival)

        room._on_room_event, room._on_rpc_method_invocation, source._arrive = event, call, note  # type: ignore[attr-defined]
        for _ in range(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.interrupt)
                await (await agent.open(24_000)).close()
        assert seen == came
        assert sorted(seen) == ["_Cleared"] * 40 + ["_Opened"] * 40
        await anyio.sleep(0.2)
        assert len(agent.finishes) == 40


async def test_an_interrupt_ends_all_that_was_opened_and_nothing_after(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with avatar_in(livekit_server, room_name) as avatar, sender_in(livekit_server, room_name, avatar) as agent:
        for turn in range(5):
            old = [await agent.open(24_000) for _ in range(3)]
            await old[2].write(ramp(5.0))
            if turn % 2:
                await old[2].wait_started()
            await agent.interrupt()
            await old[2].write(ramp(1.0))  # it has not heard yet
            new = await agent.say(ramp(0.1), 24_000)
            assert (await new.wait_finished()).position == 0.1
            assert all(said.finish is not None for said in old)
            assert old[2].finish is not None
            assert old[2].finish.interrupted
            await old[2].close()
        await spoken(agent, avatar)
        assert len(agent.finishes) == 5 * 4 + 1


async def test_nothing_is_left_of_many_sessions(livekit_server: LiveKitServer, room_name: str) -> None:
    """One after the other in one process: the counts are those after the third."""
    counts = []
    queue = FfiClient.instance.queue
    for number in range(6):
        room = f"{room_name}-{number}"
        async with avatar_in(livekit_server, room) as avatar, sender_in(livekit_server, room, avatar) as agent:
            await spoken(agent, avatar, 0.1)
            old = await agent.open(24_000)
            await old.write(ramp(1.0))
            await old.wait_started()
            await agent.interrupt()
            await agent.open(24_000)  # and is left open
            us = avatar.recorder.room.local_participant
        assert us._rpc_handlers == {}
        assert avatar.recorder.room._byte_stream_handlers == {}
        assert not any(events for events in avatar.recorder.room._events.values())
        counts.append((len(asyncio.all_tasks()), len(queue._subscribers), threads()))
    assert counts[3:] == [counts[2]] * 3


# -- stock clients


@pytest.mark.parametrize("waits", [True, False])
async def test_livekits_own_audio_output(livekit_server: LiveKitServer, room_name: str, waits: bool) -> None:
    """Speak, interrupt, speak again, as agents do it; ``waits`` for ``lk.playback_started`` or not."""
    async with avatar_in(livekit_server, room_name, on_behalf_of=f"agent-{room_name}") as avatar:
        room = rtc.Room()
        await room.connect(livekit_server.url, livekit_server.token(f"agent-{room_name}", room_name, agent=True))
        output = DataStreamAudioOutput(
            room,
            destination_identity=avatar.identity,
            sample_rate=24_000,
            wait_playback_start=waits,
            clear_buffer_timeout=None if waits else 2.0,
        )
        events: list[Any] = []
        output.on("playback_started", lambda event: events.append("started"))
        output.on("playback_finished", lambda event: events.append((event.playback_position, event.interrupted)))

        async def capture(seconds: float) -> None:
            pcm = ramp(seconds)
            for at in range(0, len(pcm), 1_200):
                await output.capture_frame(rtc.AudioFrame(pcm[at : at + 1_200].tobytes(), 24_000, 1, 1_200))
            output.flush()

        with anyio.fail_after(30):
            await capture(0.5)
            assert (await output.wait_for_playout()).playback_position == 0.5
            await capture(30.0)
            await anyio.sleep(0.7)
            output.clear_buffer()
            cut = await output.wait_for_playout()
            assert cut.interrupted
            assert 0 < cut.playback_position < 30
            await capture(0.5)
            await capture(0.25)
            assert (await output.wait_for_playout()).playback_position == 0.25
        ends = [event for event in events if event != "started"]
        assert ends == [(0.5, False), (cut.playback_position, True), (0.5, False), (0.25, False)]
        assert events.count("started") == 4
        await room.disconnect()


# -- those who mean no good


async def test_one_bad_stream_hurts_nobody(livekit_server: LiveKitServer, room_name: str) -> None:
    """Malformed, huge, endless, too many: each is refused with a message to its sender, and the next one is heard."""
    options = DataStreamOptions(max_segment_s=3.0, max_streams=12, max_streams_per_second=100.0)
    async with (
        avatar_in(livekit_server, room_name, options) as avatar,
        sender_in(livekit_server, room_name, avatar) as agent,
    ):
        errors: list[dict[str, Any]] = []
        hear_errors(agent.room, errors)
        for attributes in ({"sample_rate": "banana"}, {"sample_rate": "1000000000"}, {"num_channels": "99"}):
            said = await agent.open(24_000, attributes=attributes)
            await said.write(ramp(0.2))
            await said.close()
            assert (await said.wait_finished()).interrupted
        await until(lambda: len(errors) >= 3)  # they come on another way than the events
        assert [error["code"] for error in errors] == ["BAD_FORMAT"] * 3
        assert "sample_rate is 'banana', not a whole number" in errors[0]["error"]
        await spoken(agent, avatar)
        bare = await agent.say(ramp(0.2), 24_000, attributes={})
        assert (await bare.wait_finished()).position == 0.2

        endless = await agent.open(24_000)
        for _ in range(50):
            await endless.write(ramp(0.5))
        end = await endless.wait_finished()
        assert end.interrupted
        assert end.position <= 3.0
        await until(lambda: len(errors) >= 4)
        assert errors[3]["code"] == "TOO_LONG"
        await endless.close()
        await spoken(agent, avatar)

        for size in (100, 100_000):  # headers that lie
            stream = await agent.room.local_participant.stream_bytes(
                "lie", total_size=size, topic="lk.audio_stream", destination_identities=[avatar.identity]
            )
            before = len(agent.finishes)
            with contextlib.suppress(rtc.StreamError):
                await stream.write(ramp(0.2).tobytes())
                await stream.aclose()
            agent.said.append(endless)  # keeps segments and finishes in step
            await until(lambda before=before: len(agent.finishes) > before)
        await spoken(agent, avatar)

        async with sender_in(livekit_server, room_name, avatar) as other:
            hear_errors(other.room, errors)
            for _ in range(30):
                await other.open(24_000)  # each ends the one before it
            await spoken(agent, avatar)
        await until(lambda: len(errors) >= 5)
        assert {error["code"] for error in errors[4:]} == {"TOO_MANY_STREAMS"}


async def test_streams_of_others_are_refused(livekit_server: LiveKitServer, room_name: str) -> None:
    server, served = livekit_server, f"agent-{room_name}"
    async with (
        avatar_in(server, room_name, identity=served) as avatar,
        sender_in(server, room_name, avatar, served) as agent,
        sender_in(server, room_name, avatar) as stranger,
    ):
        errors: list[dict[str, Any]] = []
        hear_errors(stranger.room, errors)
        said = await agent.say(ramp(1.0), 24_000)
        await said.wait_started()
        await stranger.say(ramp(1.0), 24_000)
        with pytest.raises(rtc.RpcError) as refused:
            await stranger.interrupt()
        assert refused.value.code == 403
        assert (await said.wait_finished()).position == 1.0
        assert [error["code"] for error in errors] == ["NOT_SERVED"]
        np.testing.assert_allclose(avatar.heard(), ramp(1.0) / 32_768, atol=1e-6)
        assert await agent.room.local_participant.perform_rpc(
            destination_identity=avatar.identity, method="agent_state_changed", payload="thinking"
        )


async def test_several_speak_at_the_same_time(livekit_server: LiveKitServer, room_name: str) -> None:
    """In a room where anyone may: one after the other, each whole."""
    async with avatar_in(livekit_server, room_name) as avatar, AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(sender_in(livekit_server, room_name, avatar)) for _ in range(3)]

        async def twice(number: int, agent: Sender) -> None:
            for _ in range(2):
                await agent.say(np.full(12_000, 3_000 * (number + 1), np.int16), 24_000)

        async with anyio.create_task_group() as tasks:
            for number, agent in enumerate(senders):
                tasks.start_soon(twice, number, agent)
        for agent in senders:
            for said in agent.said:
                assert (await said.wait_finished()).position == 0.5
        levels = np.round(avatar.heard() * 32_768 / 3_000).astype(int)
        changes = np.flatnonzero(np.diff(levels))
        runs = np.diff([0, *(changes + 1), len(levels)])
        assert set(runs % 12_000) == {0}, "somebody was cut into"
        assert sorted(np.unique(levels)) == [1, 2, 3]
        assert len(levels) == 6 * 12_000


SENDER = """
import asyncio, sys
from livekit import rtc

async def main():
    room = rtc.Room()
    await room.connect(sys.argv[1], sys.stdin.readline().strip())
    stream = await room.local_participant.stream_bytes(
        name="a", topic="lk.audio_stream", destination_identities=[sys.argv[2]],
        attributes={"sample_rate": "24000", "num_channels": "1"},
    )
    while True:
        await stream.write(bytes([7]) * 4800)
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


async def test_a_sender_that_is_killed_in_mid_stream(livekit_server: LiveKitServer, room_name: str) -> None:
    """LiveKit misses it only after a while; until then its stream has stalled."""
    async with (
        avatar_in(livekit_server, room_name, DataStreamOptions(stalled_s=2.0)) as avatar,
        sender_in(livekit_server, room_name, avatar) as agent,
    ):
        token = livekit_server.token("doomed", room_name)
        command = [sys.executable, "-c", SENDER, livekit_server.url, avatar.identity]
        process = await anyio.open_process(command, stderr=subprocess.DEVNULL)
        assert process.stdin is not None
        await process.stdin.send(f"{token}\n".encode())
        await until(lambda: len(avatar.heard()) > 12_000)
        process.kill()
        await process.aclose()
        said = await agent.say(ramp(0.5), 24_000)
        assert (await said.wait_finished()).position == 0.5
        assert (await avatar.session.stats()).segments == 2


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(0.05)


def threads() -> list[str]:
    """Python's own threads; those of the SDK appear and vanish as "Dummy"."""
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("Dummy"))


def hear_errors(room: rtc.Room, into: list[dict[str, Any]]) -> None:
    """Keep what the avatar says about refused streams."""
    tasks = set()

    async def read(reader: rtc.TextStreamReader) -> None:
        into.append(json.loads(await reader.read_all()))

    def opened(reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.get_running_loop().create_task(read(reader))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    room.register_text_stream_handler("visavis.error", opened)
