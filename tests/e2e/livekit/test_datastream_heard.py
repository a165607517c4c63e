"""What a viewer hears of data streams through the LiveKit transport: from the first moment, and after an interrupt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import SecretStr
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.pipeline.batcher import Batcher
from visavis.session import Session
from visavis.testing.fakes import FakeRenderer
from visavis.testing.livekit import reading
from visavis.testing.livekit.fixtures import missing
from visavis.testing.livekit.recording import Recording
from visavis.testing.livekit.sender import Sender, speaking_to
from visavis.testing.livekit.server import LiveKitMissing, LiveKitServer, executable
from visavis.testing.livekit.viewer import Viewer, watching
from visavis_source_datastream import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.source import DataStreamSource
from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.transport import LiveKitTransport

pytestmark = pytest.mark.anyio

RATE = 24_000


@asynccontextmanager
async def avatar_in(server: LiveKitServer, room: str) -> AsyncIterator[Session]:
    """A session in this process: the LiveKit transport, and a renderer that costs nothing."""
    where = LiveKitSessionOptions(url=server.url, token=SecretStr(server.token("avatar", room)))
    renderer = FakeRenderer(fps=25)
    session = Session(
        SessionContext("s", SessionRequest()),
        renderer.load(),
        Batcher(renderer),
        LiveKitTransport(LiveKitTransportOptions()),
        where,
        [DataStreamSource(DataStreamOptions(), DataStreamSessionOptions())],
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(session.run)
        try:
            yield session
        finally:
            await session.close()


def marked() -> NDArray[np.int16]:
    """A second of sound that begins with 100 ms of 1500 Hz and ends with 100 ms of 2500 Hz."""
    tones = [(0.1, 1_500.0), (0.8, 500.0), (0.1, 2_500.0)]
    return np.concatenate([reading.steady(seconds, RATE, tone=tone) for seconds, tone in tones])


def holds(seen: Recording, tone: float) -> bool:
    """Whether 20 ms of that tone were heard."""
    pcm = seen.of("avatar").sound.pcm.astype(np.float64) / 32_768
    blocks = pcm[: len(pcm) // 960 * 960].reshape(-1, 960)
    level = np.abs(blocks @ np.exp(-2j * np.pi * tone * np.arange(960) / 48_000)) * 2 / 960
    return bool(level.max(initial=0.0) > 0.2)


async def until_heard(viewer: Viewer, tone: float) -> Recording:
    """What the viewer has got once that tone has come through, or after 10 s."""
    with anyio.move_on_after(10):
        while not holds(await viewer.so_far(), tone):  # noqa: ASYNC110 - it is asked of another process
            await anyio.sleep(0.2)
    return await viewer.stop()


async def as_it_comes(sender: Sender) -> None:
    """Until the avatar is a participant: it has published nothing then."""
    while sender.avatar is None:
        await sender.change.wait()


async def test_what_is_pushed_as_the_avatar_comes_is_heard_whole(livekit_server: LiveKitServer, room_name: str) -> None:
    """By a viewer who has yet to subscribe to its sound."""
    for number in range(3):
        room = f"{room_name}-{number}"
        async with (
            watching(livekit_server, room, decode=False) as viewer,
            speaking_to(livekit_server, room, "avatar") as sender,
            anyio.create_task_group() as tasks,
        ):
            pushed = anyio.Event()

            async def push(sender: Sender = sender, pushed: anyio.Event = pushed) -> None:
                await as_it_comes(sender)
                await sender.say(marked(), RATE)
                pushed.set()

            tasks.start_soon(push)
            async with avatar_in(livekit_server, room):
                await pushed.wait()
                assert (await sender.said[0].wait_finished()).position == 1.0
                seen = await until_heard(viewer, 2_500)
        assert [holds(seen, tone) for tone in (1_500, 500, 2_500)] == [True] * 3


async def test_an_interrupt_is_heard(livekit_server: LiveKitServer, room_name: str) -> None:
    """Nothing of what was sent before it comes after it, and the next segment is whole."""
    async with (
        watching(livekit_server, room_name, decode=False) as viewer,
        speaking_to(livekit_server, room_name, "avatar") as sender,
        avatar_in(livekit_server, room_name),
    ):
        await sender.avatar_seen()
        long = await sender.open(RATE)
        await long.write(reading.steady(0.1, RATE, tone=1_500))
        await long.write(reading.steady(8.0, RATE, tone=500))
        await long.write(reading.steady(0.1, RATE, tone=3_500))
        waiting = await sender.say(reading.steady(2.0, RATE, tone=4_500), RATE)
        await viewer.until("sound", of="avatar")
        await sender.interrupt()
        cut, unheard = await long.wait_finished(), await waiting.wait_finished()
        assert cut.interrupted
        assert cut.position < 8.0
        assert (unheard.interrupted, unheard.position) == (True, 0.0)
        await viewer.until("silence", of="avatar")
        said = await sender.say(marked(), RATE)
        assert (await said.wait_finished()).position == 1.0
        assert len(sender.started) == 2
        seen = await until_heard(viewer, 2_500)
    assert [holds(seen, tone) for tone in (1_500, 500, 2_500)] == [True] * 3
    assert [holds(seen, tone) for tone in (3_500, 4_500)] == [False, False]


async def test_a_server_that_comes_back_is_told_of_the_end(room_name: str, tmp_path: Path) -> None:
    """LiveKit dies in mid-sentence and is started again: the sender hears of the end once, and speaks on."""
    try:
        executable()
    except LiveKitMissing as error:
        missing(str(error))
    with LiveKitServer(tmp_path) as server:
        async with speaking_to(server, room_name, "avatar") as sender, avatar_in(server, room_name) as session:
            await sender.avatar_seen()
            said = await sender.say(reading.steady(2.0, RATE), RATE)
            await said.wait_started()
            server.kill()
            await anyio.sleep(0.5)
            server.start()
            finish = await said.wait_finished(60)
            assert (finish.position, finish.interrupted) == (2.0, False)
            while sender.avatar is None:
                await sender.change.wait()
            assert (await (await sender.say(marked(), RATE)).wait_finished()).position == 1.0
            assert len(sender.finishes) == 2
            assert not session.over
