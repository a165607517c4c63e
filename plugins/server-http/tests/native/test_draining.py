"""Stopping: nothing new, sentences to their end, and not for ever."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest

pytestmark = pytest.mark.anyio

PCM = {"content-type": "audio/pcm;rate=16000"}


def tone(seconds: float) -> bytes:
    t = np.arange(int(seconds * 16_000))
    return (np.where(t // 20 % 2, 12_000, -12_000)).astype("<i2").tobytes()


async def test_sentences_finish_and_nothing_new_begins(serving: Any) -> None:
    async with serving() as bench:
        made = await bench.start()
        path = f"/v1/sessions/{made['id']}/speak"
        replies: list[Any] = []

        async def speak() -> None:
            replies.append(await bench.http.post(path, params={"wait": "true"}, content=tone(1.5), headers=PCM))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            while not np.abs(bench.room.ways[0].sound()[-4_800:]).any():  # noqa: ASYNC110
                await anyio.sleep(0.02)
            bench.server.stop()
            while not (ready := await bench.http.get("/ready")).json()["code"]:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            assert (ready.status_code, ready.json()["code"]) == (503, "SERVER_DRAINING")
            refused = await bench.http.post("/v1/sessions", json=bench.wanted())
            assert bench.told(refused) == (503, "SERVER_DRAINING")
            assert "retry-after" in refused.headers
            assert (await bench.http.get("/health")).status_code == 200
        assert replies[0].json()["status"] == "played"
        assert replies[0].json()["position_s"] == pytest.approx(1.5)
        assert len(bench.room.asked) == 1


async def test_who_says_nothing_leaves_at_once(serving: Any) -> None:
    async with serving(drain_timeout_s=3_600) as bench:
        for _ in range(3):
            await bench.start()
        bench.server.stop()
        with anyio.fail_after(60):
            while any(way.closes == 0 for way in bench.room.ways):  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_starts_that_are_under_way_are_told_to_go_elsewhere(serving: Any) -> None:
    async with serving() as bench:
        bench.room.gate = anyio.Event()
        replies: list[Any] = []

        async def ask() -> None:
            replies.append(await bench.http.post("/v1/sessions", json=bench.wanted()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not bench.room.asked:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            bench.server.stop()
        assert bench.told(replies[0]) == (503, "SERVER_DRAINING")
        assert "retry-after" in replies[0].headers


@pytest.mark.parametrize("hurry", [True, False])
async def test_it_does_not_wait_for_ever(serving: Any, hurry: bool) -> None:
    async with serving(drain_timeout_s=300 if hurry else 0.3) as bench:
        made = await bench.start()
        path = f"/v1/sessions/{made['id']}/speak"
        await bench.http.post(path, content=tone(30), headers=PCM)
        bench.server.stop()
        if hurry:
            bench.server.stop()
        with anyio.fail_after(60):
            while bench.room.ways[0].closes == 0:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert await bench.launcher.sessions() == []


async def test_a_cancelled_server_leaves_nothing(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    with anyio.CancelScope() as scope:
        async with serving() as bench:
            await bench.start()
            room = bench.room
            scope.cancel()
    assert room.ways[0].closes == 1
    assert [vars(r)["reason"] for r in caplog.records if r.name == "visavis.usage"] == ["shutdown"]
