"""The control room: messages of any size arrive whole and in order, and whoever is gone is gone."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from visavis.errors import TransportError
from visavis.remote.wire import WireClosed
from visavis_launcher_livekit.control import ControlRoom, RoomWire

pytestmark = pytest.mark.anyio


async def test_two_talk_in_order_and_notice_when_one_leaves(works: Any) -> None:
    options = works.options.model_copy(update={"control_room": "visavis-control-test"})
    heard: dict[str, list[RoomWire]] = {"server": [], "worker": []}
    server = ControlRoom(options, "server", "worker", heard["server"].append)
    worker = ControlRoom(options, "worker", "server", heard["worker"].append)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        scope = anyio.CancelScope()

        async def stays(*, task_status: Any) -> None:
            with scope:
                await worker.run(task_status=task_status)

        await tasks.start(stays)
        ours = worker.wire(server.identity)  # it need not wait to be told that the server is there
        assert ours is not None
        sizes = [0, 1, 13_999, 14_000, 14_001, 200_000]
        with anyio.fail_after(30):
            # What is said before the ways are open may be lost, but never in part: one hears from some message on.
            said = 0
            while not heard["server"]:
                await ours.send({"n": said})
                said += 1
                await anyio.sleep(0.05)
            for number, size in enumerate(sizes, said):
                await ours.send({"n": number}, bytes(size))
            theirs = heard["server"][0]
            message, _ = await theirs.receive()
            for number in range(message["n"] + 1, said + len(sizes)):
                message, payload = await theirs.receive()
                assert message == {"n": number}
                assert len(payload) == (0 if number < said else sizes[number - said])
            await theirs.send({"back": True}, b"x" * 50_000)
            assert (await ours.receive()) == ({"back": True}, b"x" * 50_000)
            assert await server.answers()
            while worker.identity not in server._room.remote_participants:  # type: ignore[union-attr]  # noqa: ASYNC110
                await anyio.sleep(0.1)  # LiveKit announces those who publish nothing up to three seconds late
            scope.cancel()
            with pytest.raises(WireClosed, match="left the control room"):
                await theirs.receive()
        assert server.wire("somebody") is None
        tasks.cancel_scope.cancel()


async def test_a_lost_packet_ends_the_wire() -> None:
    wire = RoomWire(None, "us", "them")  # type: ignore[arg-type]
    packets: list[bytes] = []

    async def publish(packet: bytes) -> None:
        packets.append(packet)

    class Connected:
        def isconnected(self) -> bool:
            return True

    wire._room, wire._publish = Connected(), publish  # type: ignore[assignment, method-assign]
    await wire.send({}, bytes(60_000))
    await wire.send({"second": True})
    other = RoomWire(None, "them", "us")  # type: ignore[arg-type]
    for packet in packets[2:]:  # the beginning of the first message was said before anybody listened
        other.take(packet)
    assert await other.receive() == ({"second": True}, b"")
    again = RoomWire(None, "us", "them")  # type: ignore[arg-type]
    again._room, again._publish = Connected(), publish  # type: ignore[assignment, method-assign]
    await again.send({"anew": True})  # an end that has begun a new wire is heard, too
    other.take(packets[-1])
    assert await other.receive() == ({"anew": True}, b"")
    broken = RoomWire(None, "them", "us")  # type: ignore[arg-type]
    for packet in [*packets[:2], *packets[3:6]]:
        broken.take(packet)
    with pytest.raises(WireClosed, match="lost on the way"):
        await broken.receive()


async def test_a_control_room_that_cannot_be_joined_is_explained(works: Any) -> None:
    options = works.options.model_copy(update={"url": "ws://127.0.0.1:9"})
    room = ControlRoom(options, "server", "worker", lambda wire: None)
    with pytest.raises(TransportError, match=r"could not be joined.*visavis dial"):
        await room.run()
