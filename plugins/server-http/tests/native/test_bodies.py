"""Bodies and headers that are too long, too slow, or no HTTP: each is told, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


async def raw(bench: Any, *pieces: bytes, pause: float = 0.0) -> tuple[int, dict[str, Any]]:
    """Send bytes as they are; what comes back until the server closes, as status and body."""
    host, port = bench.server.address
    async with await anyio.connect_tcp(host, port) as stream:
        for piece in pieces:
            try:
                await stream.send(piece)
            except anyio.BrokenResourceError:
                break  # it has been answered
            await anyio.sleep(pause)
        answer = b""
        with anyio.fail_after(30):
            try:
                while True:
                    answer += await stream.receive()
            except anyio.EndOfStream:
                pass
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


async def test_long_bodies(serving: Any) -> None:
    async with serving(max_body_bytes=10_000) as bench:
        padded = json.dumps({"avatar_id": "x" * 20_000}).encode()
        assert bench.told(await bench.http.post("/v1/sessions", content=padded, headers=JSON)) == (
            413,
            "BODY_TOO_LARGE",
        )

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1_000

        assert bench.told(await bench.http.post("/v1/sessions", content=chunks(), headers=JSON)) == (
            413,
            "BODY_TOO_LARGE",
        )
        # Said to be long, and never sent.
        status, body = await raw(
            bench, head("/v1/sessions", "Content-Type: application/json", "Content-Length: 99999999999")
        )
        assert (status, body["code"]) == (413, "BODY_TOO_LARGE")
        assert (await bench.http.get("/health")).status_code == 200


async def test_a_connection_outlives_a_body_that_was_not_read(serving: Any) -> None:
    async with serving(max_header_bytes=4_096) as bench:
        async with await anyio.connect_tcp(*bench.server.address) as stream:
            # It is answered by its head alone; the rest is its body, however long, and no next head.
            await stream.send(head("/nope", "Content-Length: 50000") + b"[" * 1_000)
            assert (await stream.receive()).startswith(b"HTTP/1.1 404")
            for _ in range(49):
                await stream.send(b"[" * 1_000)
            await stream.send(head("/health", method="GET"))
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


async def test_half_sent_bodies(serving: Any) -> None:
    async with serving(body_timeout_s=0.3) as bench:
        begun = head("/v1/sessions", "Content-Type: application/json", "Content-Length: 100")
        status, body = await raw(bench, begun, b'{"avatar_id":')
        assert (status, body["code"]) == (408, "BODY_TIMEOUT")
        # A body that trickles is given as long in all.
        status, body = await raw(bench, begun, *[b" "] * 10, pause=0.06)
        assert (status, body["code"]) == (408, "BODY_TIMEOUT")
        made = await bench.start()
        spoken = head(
            f"/v1/sessions/{made['id']}/speak",
            "Content-Type: audio/pcm;rate=16000",
            "Transfer-Encoding: chunked",
        )
        status, body = await raw(bench, spoken, b"400\r\n" + b"\1\0" * 512 + b"\r\n")
        assert (status, body["code"]) == (408, "BODY_TIMEOUT")
        assert (await bench.http.get(f"/v1/sessions/{made['id']}")).json()["status"] == "running"


async def test_slow_and_long_headers(serving: Any) -> None:
    async with serving(header_timeout_s=0.3, max_header_bytes=4_096) as bench:
        status, body = await raw(bench, b"GET /health HTTP/1.1\r\n", *[b"X-Slow: 1\r\n"] * 10, pause=0.05)
        assert (status, body["code"]) == (408, "HEADER_TIMEOUT")
        status, body = await raw(bench)
        assert (status, body["code"]) == (408, "HEADER_TIMEOUT")
        status, body = await raw(bench, head("/health", "X-Long: " + "x" * 100_000, method="GET"))
        assert (status, body["code"]) == (431, "HEADERS_TOO_LARGE")
        # A connection that is kept is held to the same: its next request must come whole.
        asked = head("/health", method="GET")
        host, port = bench.server.address
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(asked)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            await stream.send(b"GET /health HT")
            answer = b""
            with anyio.fail_after(10):
                try:
                    while True:
                        answer += await stream.receive()
                except anyio.EndOfStream:
                    pass
        assert answer.startswith(b"HTTP/1.1 408")


async def test_what_is_no_http(serving: Any) -> None:
    async with serving() as bench:
        for nonsense in (
            b"hello\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
            b"GET /health HTTP/1.1\r\n\r\n",  # no Host
            b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            status, body = await raw(bench, nonsense)
            assert (status, body["code"]) == (400, "MALFORMED_REQUEST"), nonsense
        broken = head(
            "/v1/sessions", "Content-Type: application/json", "Transfer-Encoding: chunked", "Connection: close"
        )
        status, body = await raw(bench, broken + b"zz\r\n")
        assert status == 400
        assert (await bench.http.get("/health")).status_code == 200


async def test_too_many_connections(serving: Any) -> None:
    async with serving(max_connections=3) as bench:
        host, port = bench.server.address
        async with anyio.create_task_group() as tasks:
            held = anyio.Event()

            async def hold() -> None:
                async with await anyio.connect_tcp(host, port):
                    await held.wait()

            for _ in range(3):
                tasks.start_soon(hold)
            await anyio.sleep(0.1)
            status, body = await raw(bench)
            assert (status, body["code"]) == (503, "TOO_MANY_CONNECTIONS")
            held.set()
        await anyio.sleep(0.1)
        assert (await bench.http.get("/health")).status_code == 200


async def test_unknown_routes_and_methods(serving: Any) -> None:
    async with serving() as bench:
        for path in ("/nope", "/v1", "/v1/sessions/", "/v1/avatars/../../etc/passwd", "/%00", "/v1/sessions/%2e%2e/x"):
            assert bench.told(await bench.http.get(path)) == (404, "NOT_FOUND"), path
        for path in ("/v1/avatars/..%2fanna", "/v1/avatars/%00", "/v1/avatars/" + "a" * 5_000):
            assert bench.told(await bench.http.get(path))[0] == 404, path[:40]
        reply = await bench.http.patch("/v1/sessions")
        assert bench.told(reply) == (405, "METHOD_NOT_ALLOWED")
        assert reply.headers["allow"] == "GET, HEAD, POST"
        assert (await bench.http.request("BREW", "/v1/sessions")).status_code == 405
        assert (await bench.http.head("/health")).status_code == 200


async def test_an_open_server_serves_this_machine_alone(serving: Any) -> None:
    async with serving() as bench:
        near = ("localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "LOCALHOST.")
        for host in near:
            assert (await bench.http.get("/health", headers={"host": host})).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8080", "[::2]", "0.0.0.0:8080"):
            assert bench.told(await bench.http.get("/health", headers={"host": host})) == (403, "HOST_NOT_ALLOWED"), (
                host
            )
        posted = {"json": {}, "headers": {"origin": "https://evil.example"}}
        assert bench.told(await bench.http.post("/v1/sessions", **posted)) == (403, "ORIGIN_NOT_ALLOWED")
        posted["headers"] = {"origin": bench.server.url}
        assert bench.told(await bench.http.post("/v1/sessions", **posted)) == (400, "MISSING_PARAMETER")
    async with serving(api_keys=["k"], headers={"authorization": "Bearer k"}) as bench:
        far = {"host": "avatars.example", "origin": "https://elsewhere.example"}
        assert bench.told(await bench.http.post("/v1/sessions", json={}, headers=far)) == (400, "MISSING_PARAMETER")


async def test_a_client_that_leaves_in_the_middle(serving: Any) -> None:
    async with serving() as bench:
        host, port = bench.server.address
        for _ in range(5):
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.send(head("/v1/sessions", "Content-Type: application/json", "Content-Length: 100") + b"{")
        async with httpx.AsyncClient(base_url=bench.server.url) as other:
            assert (await other.get("/health")).status_code == 200
