"""The audience makes rooms of its own, counts what arrives there, and is gone afterwards."""

from __future__ import annotations

import os
import signal

import anyio
import psutil
import pytest
from visavis.errors import ConfigError, TransportError
from visavis.interfaces.audience import Seat, Sight
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit import audience as audiences
from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.audience import Account, LiveKitAudience

from .conftest import avatar_in

pytestmark = pytest.mark.anyio


def audience(server: LiveKitServer) -> LiveKitAudience:
    return LiveKitAudience(Account(server.url, server.key, server.secret))


async def until_seen(watching: LiveKitAudience, seat: Seat, frames: int) -> Sight:
    """Wait until so many pictures have come to that seat."""
    with anyio.fail_after(30):
        while (sight := await watching.seen()).seats[seat.room].frames < frames:  # noqa: ASYNC110 - it is asked, and tells nothing by itself
            await anyio.sleep(0.1)
    return sight


async def test_each_seat_is_a_room_of_its_own_and_counts_for_itself(livekit_server: LiveKitServer) -> None:
    async with audience(livekit_server) as watching:
        one, other = await watching.take_seat(), await watching.take_seat()
        assert one.room != other.room
        assert one.room.startswith("visavis-bench-")
        assert "token" not in repr(one)
        claims = tokens.read(one.transport["token"])
        assert claims is not None
        assert (claims.identity, claims.room) == ("avatar", one.room)
        async with avatar_in(livekit_server, one.room, token=one.transport["token"]) as avatar:
            await avatar.publish()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(avatar.talk, 1_000, 0.1)
                sight = await until_seen(watching, one, 20)
                assert sight.seats[other.room].frames == 0
                assert sight.seats[one.room].fps > 0
                assert 0 < sight.seats[one.room].longest_gap <= sight.seats[one.room].seconds
                await watching.begin()
                counted = sight.seats[one.room].frames
                assert (await watching.seen()).seats[one.room].frames < counted
                tasks.cancel_scope.cancel()
        await watching.leave_seat(one)
        assert list((await watching.seen()).seats) == [other.room]
        (pid,) = watching.processes
    assert not psutil.pid_exists(pid)


async def test_a_process_more_for_more_rooms(livekit_server: LiveKitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiences, "ROOMS_EACH", 1)
    async with audience(livekit_server) as watching:
        seats = [await watching.take_seat() for _ in range(2)]
        assert len(watching.processes) == 2
        assert set((await watching.seen()).seats) == {seat.room for seat in seats}
        await watching.leave_seat(seats[0])
        await watching.take_seat()  # where there is room again
        pids = list(watching.processes)
        assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_ctrl_c_does_not_reach_it_and_its_death_is_told(livekit_server: LiveKitServer) -> None:
    async with audience(livekit_server) as watching:
        (pid,) = watching.processes
        await watching.seen()
        os.kill(pid, signal.SIGINT)
        await watching.seen()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransportError, match="the process of the subscribers has ended"):
            await watching.seen()


async def test_a_room_that_cannot_be_joined_is_a_sentence(livekit_server: LiveKitServer) -> None:
    async with LiveKitAudience(Account(livekit_server.url, livekit_server.key, "wrong")) as watching:
        with pytest.raises(TransportError, match=r"another secret|refused its token"):
            await watching.take_seat()


def test_what_the_environment_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="LIVEKIT_API_KEY, LIVEKIT_API_SECRET must be set") as told:
        Account.of({"LIVEKIT_URL": "ws://127.0.0.1:7880"})
    assert "livekit-server --dev" in told.value.hint
    account = Account.of({"LIVEKIT_URL": "ws://h", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "secret"})
    assert "secret" not in repr(account)
