"""Connections that are lost: what comes back, and what is said if it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from livekit import api, rtc
from livekit.rtc._ffi_client import FfiClient
from visavis.testing.livekit.fixtures import missing
from visavis.testing.livekit.server import LiveKitMissing, LiveKitServer, executable

from .conftest import Avatar, Guest, avatar_in, guest_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveKitServer]:
    """One that may be killed."""
    try:
        executable()
    except LiveKitMissing as error:
        missing(str(error))
    with LiveKitServer(tmp_path) as server:
        yield server


class Ear:
    """Counts the loud blocks of the avatar's sound, whichever track brings it."""

    def __init__(self, guest: Guest) -> None:
        self.loud = 0
        self._guest = guest
        self._streams: list[rtc.AudioStream] = []
        self._tracks: set[str] = set()

    async def listen(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                there = self._guest.seen()
                for publication in [] if there is None else list(there.track_publications.values()):
                    track = publication.track
                    if track is not None and track.kind == rtc.TrackKind.KIND_AUDIO and track.sid not in self._tracks:
                        self._tracks.add(track.sid)
                        tasks.start_soon(self._follow, rtc.AudioStream(track))
                await anyio.sleep(0.05)

    async def _follow(self, stream: rtc.AudioStream) -> None:
        try:
            async for block in stream:
                self.loud += max(block.frame.data) > 4000
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async def hears(self) -> None:
        """Wait for half a second of sound from now on."""
        before = self.loud
        await self._guest.until(lambda: self.loud >= before + 50)


def subscriptions() -> int:
    """How many queues the SDK fills with its events."""
    return len(FfiClient.instance.queue._subscribers)


async def still_there(avatar: Avatar) -> bool:
    with anyio.move_on_after(0.2) as waiting:
        await avatar.session.closed()
    return waiting.cancelled_caught


async def test_a_server_that_was_killed_and_restarted(own_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(own_server, room_name, agent="agent", agent_grace_s=0.5, reconnect_grace_s=20) as avatar:
        await avatar.publish()
        await avatar.session.announce(avatar="mira")
        back = anyio.Event()
        avatar.room.on("reconnected", lambda: back.set())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(avatar.talk, 1500, 0.25)
            await anyio.sleep(1)
            own_server.kill()
            await anyio.sleep(2)
            own_server.start()
            with anyio.fail_after(40):
                await back.wait()
            async with guest_in(own_server, room_name, "agent", subscribe=True) as guest:
                ear = Ear(guest)
                tasks.start_soon(ear.listen)
                await ear.hears()
                await guest.until(lambda: guest.told("visavis.avatar") == "mira")
                assert guest.told("lk.publish_on_behalf") == "agent"
                assert await still_there(avatar)
            tasks.cancel_scope.cancel()
        assert avatar.metrics.total("visavis_reconnecting_total") == 1


async def test_a_network_that_is_gone_for_a_while(own_server: LiveKitServer, room_name: str) -> None:
    async with (
        guest_in(own_server, room_name, subscribe=True) as guest,
        avatar_in(own_server, room_name) as avatar,
    ):
        await avatar.publish()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(avatar.talk, 1500, 0.25)
            ear = Ear(guest)
            tasks.start_soon(ear.listen)
            await ear.hears()
            most = 0
            with own_server.frozen():
                for _ in range(50):
                    await anyio.sleep(0.1)
                    most = max(most, avatar.session.held())
            assert most <= 0.5 * 48_000  # what nobody gets is not kept for later
            await ear.hears()
            assert await still_there(avatar)
            tasks.cancel_scope.cancel()


async def test_a_server_that_was_shut_down_and_started_again(own_server: LiveKitServer, room_name: str) -> None:
    """Where it says goodbye in time, the SDK does not try to reconnect: then the room is joined again."""
    before = subscriptions()
    async with avatar_in(own_server, room_name, rejoin_timeout_s=60.0) as avatar:
        await avatar.publish()
        avatar.room.local_participant.register_rpc_method("ask", lambda call: "answer")
        await avatar.session.announce(avatar="mira")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(avatar.talk, 3000, 0.25)
            for times in (1, 2):
                await anyio.to_thread.run_sync(own_server.stop)
                own_server.start()
                async with guest_in(own_server, room_name, subscribe=True) as guest:
                    await guest.until(lambda: guest.seen() is not None, patience=60)
                    ear = Ear(guest)
                    async with anyio.create_task_group() as listening:
                        listening.start_soon(ear.listen)
                        await ear.hears()
                        listening.cancel_scope.cancel()
                    await guest.until(lambda guest=guest: guest.told("visavis.avatar") == "mira")  # type: ignore[misc]
                    us = guest.room.local_participant
                    assert await us.perform_rpc(destination_identity="avatar", method="ask", payload="") == "answer"
                assert await still_there(avatar)
                ways = ("visavis_rejoins_total", "visavis_reconnecting_total")
                assert sum(avatar.metrics.total(way) for way in ways) >= times
            tasks.cancel_scope.cancel()
    assert subscriptions() == before


async def test_a_room_that_was_deleted_leaves_nothing_behind(livekit_server: LiveKitServer, room_name: str) -> None:
    before = subscriptions()
    async with avatar_in(livekit_server, room_name) as avatar:
        await avatar.publish()
        async with api.LiveKitAPI(livekit_server.http_url, livekit_server.key, livekit_server.secret) as admin:
            await admin.room.delete_room(api.DeleteRoomRequest(room=room_name))
        with anyio.fail_after(20):
            assert await avatar.session.closed() == "the room was deleted"
    assert subscriptions() == before


async def test_a_room_that_cannot_be_joined_again_is_given_up(own_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(own_server, room_name, rejoin_timeout_s=2.0) as avatar:
        await avatar.publish()
        with own_server.frozen():
            avatar.room.emit("disconnected", rtc.DisconnectReason.CONNECTION_TIMEOUT)
            with anyio.fail_after(20):
                reason = await avatar.session.closed()
        assert reason.startswith("the connection to the room was lost (")
        assert "could not be joined" in reason
