"""Asking a server: what is tried again and when, what is not, and what an error says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from aiohttp import web
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, APIStatusError
from visavis_source_agentsession import client
from visavis_source_agentsession.client import AvatarServer, ServerBusy

pytestmark = pytest.mark.anyio
BODY = {"avatar_id": "mira", "livekit_token": "tok-secret"}
QUICK = APIConnectOptions(max_retry=3, retry_interval=0.5, timeout=2.0)


@dataclass
class Desk:
    """A server that answers as it was told to, and remembers what it was asked."""

    answers: list[Callable[[], web.Response]]
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    async def post(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.bodies.append(await request.json())
        return self.answers[min(len(self.asked), len(self.answers)) - 1]()

    async def delete(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return self.answers[0]()


@asynccontextmanager
async def served(
    *answers: Callable[[], web.Response], key: str | None = None
) -> AsyncIterator[tuple[Desk, AvatarServer]]:
    desk = Desk(list(answers))
    app = web.Application()
    app.router.add_post("/v1/sessions", desk.post)
    app.router.add_delete("/v1/sessions/{id}", desk.delete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server = AvatarServer(f"http://127.0.0.1:{port}", api_key=key, conn_options=QUICK)
    try:
        yield desk, server
    finally:
        await server.aclose()
        await runner.cleanup()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(client.anyio, "sleep", sleep)
    return waited


def granted(**more: Any) -> Callable[[], web.Response]:
    return lambda: web.json_response({"id": "sess_1", **more}, status=201)


def refused(status: int, code: str = "FULL", **headers: str) -> Callable[[], web.Response]:
    said = {"error": "all sessions are taken", "code": code, "details": {}}
    return lambda: web.json_response(said, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_a_start(waits: list[float]) -> None:
    async with served(granted(), key="key-1") as (desk, server):
        reply = await server.start(BODY)
    assert (reply.id, reply.sample_rate) == ("sess_1", 24_000)
    assert desk.bodies == [BODY]
    assert desk.asked[0].headers["Authorization"] == "Bearer key-1"
    assert waits == []


async def test_a_proxys_credentials_may_stand_in_the_address() -> None:
    async with served(granted()) as (desk, server):
        named = AvatarServer(server.name.replace("://", "://user:p%40ss@"), conn_options=QUICK)
        await named.start(BODY)
        await named.aclose()
    assert desk.asked[0].headers["Authorization"] == "Basic dXNlcjpwQHNz"


async def test_the_server_may_want_another_rate() -> None:
    async with served(granted(sample_rate=16_000)) as (_, server):
        assert (await server.start(BODY)).sample_rate == 16_000


async def test_a_full_server_is_asked_again_when_it_says(waits: list[float]) -> None:
    async with served(refused(503, Retry_After="3"), refused(503, Retry_After="1.5"), granted()) as (desk, server):
        await server.start(BODY)
    assert waits == [3.0, 1.5]
    assert len({request.headers["Idempotency-Key"] for request in desk.asked}) == 1


async def test_without_a_time_it_waits_ever_longer(waits: list[float]) -> None:
    async with served(refused(503), refused(500), refused(429), granted()) as (desk, server):
        await server.start(BODY)
        await server.start(BODY)
    assert waits[:3] == [0.1, 0.5, 1.0]
    keys = [request.headers["Idempotency-Key"] for request in desk.asked]
    assert keys[0] == keys[3] != keys[4]


async def test_it_gives_up_after_its_number_of_retries(waits: list[float]) -> None:
    async with served(refused(503, "AT_CAPACITY", Retry_After="2")) as (desk, server):
        with pytest.raises(ServerBusy, match="all sessions are taken \\(503, AT_CAPACITY\\)") as caught:
            await server.start(BODY)
    assert len(desk.asked) == 4
    assert caught.value.status_code == 503
    assert caught.value.retry_after == 2.0
    assert isinstance(caught.value, APIStatusError)


async def test_a_caller_in_a_hurry_does_not_wait_for_long(waits: list[float]) -> None:
    async with served(refused(503, Retry_After="20")) as (desk, server):
        with pytest.raises(ServerBusy):
            await server.start(BODY, patience=10)
    assert len(desk.asked) == 1
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
async def test_what_will_not_pass_is_not_tried_again(status: int, waits: list[float]) -> None:
    async with served(refused(status, "NO")) as (desk, server):
        with pytest.raises(APIStatusError, match="refused the session") as caught:
            await server.start(BODY)
    assert len(desk.asked) == 1
    assert caught.value.status_code == status
    assert not caught.value.retryable


async def test_nobody_there_and_no_secret_told(waits: list[float]) -> None:
    server = AvatarServer("http://name:word@127.0.0.1:9", api_key="key-1", conn_options=QUICK)
    with pytest.raises(APIConnectionError) as caught:
        await server.start(BODY, patience=1.0)
    await server.aclose()
    assert str(caught.value).startswith("the avatar server at http://127.0.0.1:9 cannot be reached")
    assert not [word for word in ("word", "key-1", "tok-secret") if word in f"{caught.value} {caught.value!r}"]
    assert waits == [0.1, 0.5]


async def test_something_else_answers() -> None:
    async with served(lambda: web.Response(text="<html>hello")) as (_, server):
        with pytest.raises(APIError, match="does not answer as an Avatar Server"):
            await server.start(BODY)


@pytest.mark.parametrize("status", [200, 404, 409])
async def test_ending_a_session_that_has_ended_is_fine(status: int) -> None:
    async with served(refused(status)) as (desk, server):
        await server.stop("sess_1")
        assert desk.asked[0].path == "/v1/sessions/sess_1"


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("5", 5, 5), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e6, 1e15)],
)
def test_retry_after(said: str, least: float, most: float) -> None:
    seconds = client._seconds(said)
    assert seconds is not None
    assert least <= seconds <= most


def test_retry_after_may_be_nonsense() -> None:
    assert client._seconds("soon") is None


@pytest.mark.parametrize("url", ["ftp://host", "http://", "", "ws://host:1"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:8080"):
        AvatarServer(url)


async def test_a_silent_server_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REQUEST_SECONDS", 0.2)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    options = APIConnectOptions(max_retry=0)
    server = AvatarServer(f"127.0.0.1:{port}", conn_options=options)
    with pytest.raises(APIError, match="did not answer in time"):
        await server.start(BODY)
    await server.aclose()
    await listener.aclose()
