"""Many sessions of one server: side by side without a trace of one in another, and after each other without a trace."""

from __future__ import annotations

import asyncio
import colorsys
import gc
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import psutil
import pytest
from livekit import rtc
from livekit.rtc._ffi_client import FfiClient
from visavis.config import serving_deployment
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.testing.livekit.reading import colour, heard, steady, strength
from visavis.testing.livekit.recording import Take
from visavis.testing.livekit.sender import speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching
from visavis.testing.tiny import tiny_avatar, yuv_of
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.server import HttpServer

pytestmark = pytest.mark.anyio

RATE = 24_000
TOGETHER = 8
TONES = [500.0 + 137.0 * n for n in range(TOGETHER)]
DEPLOYMENT = """\
store: {{use: filesystem, root: {avatars}}}
limits: {{max_sessions: 100}}  # a busy test machine would be judged to be full
"""
ONE_AFTER_ANOTHER = 20
SETTLED = 3
"""After so many sessions everything that is made once has been made."""


def colour_of(number: int) -> tuple[int, int, int]:
    """One of eight colours, as far apart as they can be."""
    r, g, b = colorsys.hsv_to_rgb(number / TOGETHER, 0.8, 0.8)
    return round(r * 255), round(g * 255), round(b * 255)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an avatar of each colour."""
    folder = tmp_path_factory.mktemp("colours")
    for number in range(TOGETHER):
        tiny_avatar(folder / f"colour-{number}.hvia", colour=colour_of(number))
    return folder


@dataclass(frozen=True)
class Counts:
    """What one process holds."""

    threads: int
    files: int
    tasks: int
    rooms: int
    rpc_handlers: int
    ffi_listeners: int

    @classmethod
    def now(cls) -> Counts:
        gc.collect()
        process = psutil.Process()
        rooms = [made for made in gc.get_objects() if isinstance(made, rtc.Room)]
        local = [room._local_participant for room in rooms if room._local_participant is not None]
        return cls(
            threads=process.num_threads(),
            files=process.num_fds(),
            tasks=len(asyncio.all_tasks()),
            rooms=len(rooms),
            rpc_handlers=sum(len(one._rpc_handlers) for one in local),
            ffi_listeners=len(FfiClient.instance.queue._subscribers),
        )

    def above(self, other: Counts) -> list[str]:
        """What there is more of than in ``other``."""
        return [
            f"{f.name}: {getattr(self, f.name)} instead of {getattr(other, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) > getattr(other, f.name)
        ]


@asynccontextmanager
async def served(server: LiveKitServer, avatars: Path, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The whole Avatar Server in this process."""
    config = tmp_path / "visavis.yaml"
    config.write_text(DEPLOYMENT.format(avatars=avatars), encoding="utf-8")
    deployment = serving_deployment(Registry.discover(), config)
    options = HttpServerOptions.model_validate(
        {"port": 0, "livekit_url": server.url, "livekit_api_key": server.key, "livekit_api_secret": server.secret}
    )
    http_server = HttpServer(options)
    store = deployment.store.make()
    async with deployment.part(Kind.LAUNCHER).make(deployment, http_server.metrics) as launcher:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(http_server.run, launcher, store)
            await http_server.listening.wait()
            async with httpx.AsyncClient(base_url=http_server.url, timeout=60) as http:
                yield http
            http_server.stop()
    await store.aclose()


async def started(http: httpx.AsyncClient, server: LiveKitServer, room: str, avatar: str) -> Any:
    token = server.token("avatar", room, agent=True, on_behalf_of="agent")
    body = {"avatar_id": avatar, "livekit_url": server.url, "livekit_token": token}
    reply = await http.post("/v1/sessions", json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()


async def test_eight_at_once_hear_and_show_nothing_of_each_other(
    livekit_server: LiveKitServer, colours: Path, tmp_path: Path
) -> None:
    rooms = [f"room-{n}-{secrets.token_hex(4)}" for n in range(TOGETHER)]
    senders: list[Any] = []

    async def speak(number: int) -> None:
        said = await senders[number].say(steady(1.5 + 0.1 * number, RATE, tone=TONES[number]), RATE)
        finish = await said.wait_finished()
        assert (finish.interrupted, finish.position) == (False, pytest.approx(1.5 + 0.1 * number, abs=0.001))

    async with served(livekit_server, colours, tmp_path) as http, AsyncExitStack() as stack:
        viewer = await stack.enter_async_context(watching(livekit_server, *rooms))
        senders += [await stack.enter_async_context(speaking_to(livekit_server, room, "avatar")) for room in rooms]
        for number, room in enumerate(rooms):
            await started(http, livekit_server, room, f"colour-{number}")
        for sender in senders:
            await sender.avatar_seen()
        async with anyio.create_task_group() as tasks:
            for number in range(TOGETHER):
                tasks.start_soon(speak, number)
        for room in rooms:
            await viewer.until("silence", of="avatar", where=partial(is_in, room))
        seen = await viewer.stop()
        assert [len(sender.finishes) for sender in senders] == [1] * TOGETHER
        assert [len(sender.started) for sender in senders] == [1] * TOGETHER
    for number, room in enumerate(rooms):
        judge(seen.of("avatar", room), number)


def is_in(room: str, event: Mapping[str, Any]) -> bool:
    return bool(event["room"] == room)


def judge(take: Take, number: int) -> None:
    """Of eight tones one is heard, of eight colours one is seen: its own."""
    span = heard(take.sound, 0.0, float("inf"))
    assert span is not None
    # By tenths of a second: on a busy machine the receiver stretches and squeezes, and a tone's phase slips.
    tenths = np.arange(span.begin + 0.1, span.end - 0.2, 0.1)
    levels = np.mean([strength(take.sound, t, t + 0.1, TONES) for t in tenths], axis=0)
    assert levels[number] > 0.1
    assert int(np.argmax(levels)) == number
    assert np.delete(levels, number).max() < levels[number] / 8
    hue = np.array(colour(take.pictures)) - 128
    known = np.array([yuv_of(colour_of(n))[1:] for n in range(TOGETHER)]) - 128
    likeness = known @ hue / (np.linalg.norm(known, axis=1) * np.linalg.norm(hue))
    assert int(np.argmax(likeness)) == number
    # Each picture for itself, too: not one frame is another's. (The first may be all black: libwebrtc's own, which it
    # hands over until a track is enabled.)
    real = take.pictures.blocks.mean(axis=(1, 2)) > 0
    assert list(real) == sorted(real)
    each = take.pictures.chroma[real].astype(float) - 128
    nearest = np.argmax(each @ (known / np.linalg.norm(known, axis=1)[:, None]).T, axis=1)
    assert set(nearest.tolist()) == {number}


async def test_twenty_one_after_another_leave_nothing_behind(
    livekit_server: LiveKitServer, colours: Path, tmp_path: Path
) -> None:
    counts: list[Counts] = []
    async with served(livekit_server, colours, tmp_path) as http:
        for number in range(ONE_AFTER_ANOTHER):
            room = f"room-{number}-{secrets.token_hex(4)}"
            session = await started(http, livekit_server, room, "colour-0")
            async with speaking_to(livekit_server, room, "avatar") as sender:
                await sender.avatar_seen()
                said = await sender.say(steady(0.2, RATE), RATE)
                assert (await said.wait_finished()).position == pytest.approx(0.2, abs=0.001)
                await http.delete(f"/v1/sessions/{session['id']}")
                await sender.avatar_gone()
            counts.append(Counts.now())
        most = Counts(*(max(values) for values in zip(*map(astuple, counts[:SETTLED]), strict=True)))
        counts.append(await settled(most))
        assert (await http.get("/health")).json()["active_sessions"] == 0
    print(*counts, sep="\n")
    assert not counts[-1].above(most)


async def settled(most: Counts) -> Counts:
    """The counts now; if there is more than that, what ends by itself is given a moment to do so."""
    now = Counts.now()
    for _ in range(40):
        if not now.above(most):
            break
        await anyio.sleep(0.05)
        now = Counts.now()
    return now
