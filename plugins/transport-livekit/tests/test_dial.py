"""`visavis dial`: each step, and what is said of the one that fails."""

from __future__ import annotations

import anyio
import pytest
from visavis.testing.livekit.server import LiveKitServer, free_port
from visavis_transport_livekit import minting
from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.dialling import Call, Finding, walk

pytestmark = pytest.mark.anyio

STEPS = ["name", "port", "server", "token", "join", "publish", "media"]


async def dialled(url: str, *, token: str = "", key: str = "", secret: str = "", room: str = "r") -> list[Finding]:
    findings: list[Finding] = []
    await walk(Call(url, token, key, secret, room, 8.0), findings.append)
    return findings


async def test_all_the_way_to_a_second_participant(livekit_server: LiveKitServer, room_name: str) -> None:
    server = livekit_server
    found = await dialled(server.url, key=server.key, secret=server.secret, room=room_name)
    assert [f.step for f in found if f.fine] == STEPS, found
    assert "a second participant sees and hears it" in found[-1].said
    assert "media goes by udp" in found[-1].said


async def test_with_a_token_alone(livekit_server: LiveKitServer, room_name: str) -> None:
    found = await dialled(livekit_server.url, token=livekit_server.token("me", room_name))
    assert [f.step for f in found if f.fine] == STEPS, found
    assert found[3].said == f"taken for me in the room {room_name}"


async def test_the_step_that_fails_is_the_last(livekit_server: LiveKitServer, room_name: str) -> None:
    server = livekit_server
    expired = server.token("me", room_name, ttl=-100)
    for url, token, step, words in (
        ("gopher://nowhere", "", "name", "no address"),
        ("ws://no-such-host.invalid", "", "name", "not known"),
        (f"ws://127.0.0.1:{free_port()}", "", "port", "nothing answers"),
        (server.url.replace("ws:", "wss:"), "", "port", "TLS"),
        (server.url, "", "token", "there is no token"),
        (server.url, "hello", "token", "not a LiveKit token"),
        (server.url, expired, "token", "expired"),
        (server.url, minting.mint(server.key, "another secret", "me", room_name), "token", "another secret"),
    ):
        found = await dialled(url, token=token)
        last = found[-1]
        assert (last.step, last.fine) == (step, False), found
        assert words in last.said
        assert last.hint
        assert all(f.fine for f in found[:-1])
        assert token[20:60] not in str(found) or not token[20:]


async def test_something_else_than_livekit(anyio_backend: str) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive()
            except anyio.EndOfStream:  # the step that only looks whether somebody answers
                return
            await stream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        found = await dialled(f"ws://127.0.0.1:{port}")
        tasks.cancel_scope.cancel()
    assert (found[-1].step, found[-1].fine) == ("server", False)
    assert "404" in found[-1].said


def test_a_minted_token_says_who_and_where() -> None:
    assert tokens.read(minting.mint("key", "secret", "me", "there")) == tokens.Claims("me", "there")


def test_a_call_shows_no_secret() -> None:
    call = Call("ws://host?access_token=hidden", "tok", "key", "sec", "room", 1.0)
    assert repr(call) == "Call('ws://host')"
