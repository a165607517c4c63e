"""A session is offered until a worker takes it, and however often it was offered, one begins it."""

from __future__ import annotations

import secrets
from typing import Any

import anyio
import pytest
from visavis.config import make_deployment
from visavis.config.deployment import SERVING_USE
from visavis.interfaces.session import SessionRequest
from visavis.metrics import NoMetrics
from visavis.registry import Registry
from visavis_launcher_livekit.agent import TARGET, told_load
from visavis_launcher_livekit.host import Host
from visavis_launcher_livekit.launcher import DispatchLauncher
from visavis_launcher_livekit.order import Order, read_metadata

pytestmark = pytest.mark.anyio


def deployment(works: Any, most: int = 3) -> Any:
    sections = {"store": {"use": "filesystem", "root": str(works.avatars)}, "limits": {"max_sessions": most}}
    return make_deployment(sections, Registry.discover(), defaults=SERVING_USE)


class Untaken(NoMetrics):
    """Counts offers that were taken back."""

    def __init__(self) -> None:
        self.offers = 0

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        self.offers += name == "visavis_dispatches_untaken_total"


async def test_offers_that_are_taken_back_too_soon_begin_nothing_twice(works: Any) -> None:
    hasty, untaken = works.options.model_copy(update={"take_timeout_s": 0.005}), Untaken()
    before = works.joined
    async with DispatchLauncher(hasty, deployment(works), metrics=untaken) as launcher:
        token = works.server.token("avatar", f"room-{secrets.token_hex(6)}", agent=True)
        session = await launcher.start(
            SessionRequest(avatar="ada", transport={"url": works.server.url, "token": token})
        )
        assert untaken.offers >= 1
        await anyio.sleep(2)  # whatever was offered before would have begun by now
        assert [held.id for held in await launcher.sessions()] == [session.id]
        assert works.joined - before == 1
        await session.close("the test is over")
        await session.wait()


async def test_a_worker_leaves_to_others_what_those_have_more_room_for(works: Any) -> None:
    options = works.options.model_copy(update={"control_room": "visavis-control-offers"})
    async with Host(options, deployment(works, 2)) as host:
        assert await host.would_take(Order(below=0.1))
        with host.expecting("a job"):
            assert not await host.would_take(Order(below=0.5))
            assert await host.would_take(Order())
            with host.expecting("another"):
                assert not await host.would_take(Order())
        assert await host.would_take(Order(below=0.1))


async def test_a_session_is_not_begun_before_its_server_wants_it(works: Any) -> None:
    options = works.options.model_copy(update={"control_room": "visavis-control-offers"})
    async with Host(options, deployment(works, 2)) as host:
        told: list[dict[str, Any]] = []

        class Service:
            async def tell(self, message: dict[str, Any]) -> None:
                told.append(message)
                with pytest.raises(Exception, match="not wait for that session"):
                    await host._answer({"session": "s", "attempt": 6, "wanted": True}, b"")
                await host._answer({"session": "s", "attempt": 7, "wanted": False}, b"")

        async def service(server: str) -> Any:
            return Service()

        host._service = service  # type: ignore[method-assign]
        request, _ = read_metadata('{"avatar": "ada"}')
        await host.run_job(request, Order(id="s", server="server-1", attempt=7), "room-of-the-host")
        assert told == [{"taken": "s", "attempt": 7}]
        assert (await host.launcher.capacity()).running == 0


@pytest.mark.parametrize(("load", "told"), [(0.0, 0.0), (0.5, TARGET / 2), (0.99, TARGET * 0.99), (1.0, 1.0)])
async def test_only_a_full_worker_is_beyond_the_load_at_which_livekit_offers_nothing(load: float, told: float) -> None:
    assert told_load(load) == pytest.approx(told)
    assert (told_load(load) < 0.7) == (load < 1)  # LiveKit's agents.target_load
