"""A worker's own view: how full it is, and when it is of no use any more."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from visavis.config import make_deployment
from visavis.config.deployment import SERVING_USE
from visavis.interfaces.session import SessionRequest
from visavis.registry import Registry
from visavis_launcher_livekit.host import FULL, Host
from visavis_launcher_livekit.order import Order, read_metadata

pytestmark = pytest.mark.anyio


def deployment(works: Any, most: int) -> Any:
    sections = {"store": {"use": "filesystem", "root": str(works.avatars)}, "limits": {"max_sessions": most}}
    return make_deployment(sections, Registry.discover(), defaults=SERVING_USE)


async def until(condition: Any) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - a count is polled, no event tells of it
            await anyio.sleep(0.02)


async def test_the_load_is_the_share_of_sessions_that_it_takes(works: Any) -> None:
    options = works.options.model_copy(update={"control_room": "visavis-control-host"})
    async with Host(options, deployment(works, 2)) as host:
        assert host.load == 0
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                request, _ = read_metadata('{"avatar": "ada"}')
                tasks.start_soon(host.run_job, request, Order(id=f"job-{number}"), "room-of-the-host")
                await until(lambda number=number: host.load == (number + 1) / 2)
            assert host.load == FULL
            assert not await host.would_take(Order())
            tasks.cancel_scope.cancel()
        await until(lambda: host.load == 0)
        assert await host.would_take(Order())
        await host.run_job(SessionRequest(avatar="nobody"), Order(id="job-3"), "room-of-the-host")
        assert await host.would_take(Order())
        await host.drain()
        assert host.load == FULL
        assert not await host.would_take(Order())


async def test_a_worker_whose_renderer_hangs_ends_itself(works: Any) -> None:
    options = works.options.model_copy(update={"control_room": "visavis-control-host"})
    hung = anyio.Event()
    async with Host(options, deployment(works, 2), hung=hung.set) as host:
        host.launcher.supervisor.batcher._began = anyio.current_time() - options.hang_s - 1
        with anyio.fail_after(30):
            await hung.wait()
