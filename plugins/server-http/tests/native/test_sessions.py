"""``/v1/sessions``: what is started, found, refused and ended; and what nobody gets to see."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from visavis.config.deployment import Limits

pytestmark = pytest.mark.anyio


async def test_a_session_from_its_start_to_its_end(serving: Any) -> None:
    async with serving() as bench:
        wanted = bench.wanted(agent_identity="agent-1", idle_timeout_s=60, livekit_token=bench.token("face", "hall"))
        reply = await bench.http.post("/v1/sessions", json=wanted)
        made = reply.json()
        assert reply.status_code == 201
        assert made["status"] == "running"
        assert (made["avatar_id"], made["room_name"], made["avatar_identity"]) == ("anna", "hall", "face")
        assert made["agent_identity"] == "agent-1"
        # The smaller of two limits applies, and is said.
        assert made["limits"] == {"idle_timeout_s": 60, "max_duration_s": None}
        assert made["dialect"] == "native"
        assert bench.room.asked[0].agent == "agent-1"
        assert bench.room.asked[0].token.get_secret_value() == wanted["livekit_token"]

        seen = (await bench.http.get(f"/v1/sessions/{made['id']}")).json()
        assert seen["status"] == "running"
        assert seen["stats"]["state"] == "running"
        listed = (await bench.http.get("/v1/sessions")).json()["sessions"]
        assert [one["id"] for one in listed] == [made["id"]]

        ended = await bench.http.delete(f"/v1/sessions/{made['id']}")
        assert ended.status_code == 200
        assert (ended.json()["status"], ended.json()["reason"]) == ("cancelled", "stop_request")
        assert bench.room.ways[0].closes == 1
        again = await bench.http.delete(f"/v1/sessions/{made['id']}")
        assert again.json() | {"stats": None} == ended.json() | {"stats": None}
        assert await bench.launcher.sessions() == []


async def test_the_far_end_leaves(serving: Any) -> None:
    async with serving() as bench:
        made = await bench.start()
        bench.room.ways[0].far_end_gone.set()
        ended = await bench.until(made["id"], status="completed")
        assert ended["reason"]
        assert ended["ended_at"] >= ended["started_at"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"avatar_id": None}, 400, "MISSING_PARAMETER"),
    ({"livekit_token": None}, 400, "MISSING_PARAMETER"),
    ({"avatar_id": 7}, 422, "INVALID_PARAMETER"),
    ({"avatar_id": "\ud800"}, 400, "MALFORMED_JSON"),
    ({"surprise": 1}, 422, "INVALID_PARAMETER"),
    ({"idle_timeout_s": -1}, 422, "INVALID_PARAMETER"),
    ({"max_duration_s": 1e300}, 422, "INVALID_PARAMETER"),
    ({"seed": 2**63}, 422, "INVALID_PARAMETER"),
    ({"avatar_id": "nobody"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "../anna"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "/etc/passwd"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "anna.hvia"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "anna\u0000"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "..\\anna"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "%2e%2e%2fanna"}, 404, "AVATAR_NOT_FOUND"),
    ({"avatar_id": "a" * 201}, 422, "INVALID_PARAMETER"),
    ({"livekit_token": "nonsense"}, 400, "INVALID_LIVEKIT_TOKEN"),
    ({"livekit_token": "a.b.c"}, 400, "INVALID_LIVEKIT_TOKEN"),
    ({"livekit_url": "ws://10.0.0.1:7880"}, 403, "LIVEKIT_URL_NOT_ALLOWED"),
    ({"livekit_url": "wss://example.com"}, 403, "LIVEKIT_URL_NOT_ALLOWED"),
    ({"livekit_url": "ftp://127.0.0.1"}, 422, "INVALID_PARAMETER"),
    ({"livekit_url": "ws://me:pass@127.0.0.1"}, 422, "INVALID_PARAMETER"),
]


async def test_what_is_refused_before_anything_is_joined(serving: Any) -> None:
    async with serving() as bench:
        for change, status, code in REFUSED:
            content = json.dumps(bench.wanted(**change)).encode()  # httpx refuses half a surrogate pair
            reply = await bench.http.post("/v1/sessions", content=content, headers={"content-type": "application/json"})
            assert bench.told(reply) == (status, code), change
        assert bench.room.asked == []
        assert (await bench.http.get("/v1/sessions")).json() == {"sessions": []}


async def test_tokens_that_cannot_work(serving: Any, token: Callable[..., str]) -> None:
    async with serving() as bench:
        cases = {
            "LIVEKIT_TOKEN_EXPIRED": [token(exp=1_000_000)],
            "INVALID_LIVEKIT_TOKEN": [
                token(secret="another-secret-of-32-characters--"),
                token(video={"roomJoin": True}),
                token(video={"room": "lounge"}),
                token(video=7),
                token(video={"roomJoin": True, "room": "r", "canPublish": False}),
                token(nbf=2**40),
            ],
        }
        for code, tokens in cases.items():
            for bad in tokens:
                reply = await bench.http.post("/v1/sessions", json=bench.wanted(livekit_token=bad))
                assert bench.told(reply) == (400, code)
                assert bad not in reply.text
        assert bench.room.asked == []


async def test_a_body_that_is_none(serving: Any) -> None:
    async with serving() as bench:
        cases: list[tuple[bytes, str, int, str]] = [
            (b"{", "application/json", 400, "MALFORMED_JSON"),
            (b"", "application/json", 400, "MALFORMED_JSON"),
            (b"\xff\xfe", "application/json", 400, "MALFORMED_JSON"),
            (b"[" * 100_000, "application/json", 400, "MALFORMED_JSON"),
            (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "application/json", 400, "MALFORMED_JSON"),
            (b'{"seed":' + b"9" * 5000 + b"}", "application/json", 400, "MALFORMED_JSON"),
            (b"[]", "application/json", 422, "INVALID_PARAMETER"),
            (b"null", "application/json", 422, "INVALID_PARAMETER"),
            (b"{}", "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"),
            (b"{}", "", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ]
        for content, kind, status, code in cases:
            reply = await bench.http.post("/v1/sessions", content=content, headers={"content-type": kind})
            assert bench.told(reply) == (status, code), content[:20]


async def test_the_same_request_again_finds_the_same_session(serving: Any) -> None:
    async with serving() as bench:
        wanted = bench.wanted()
        first = await bench.http.post("/v1/sessions", json=wanted)
        second = await bench.http.post("/v1/sessions", json=wanted)
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["id"] == second.json()["id"]
        # Once it has ended, the same token starts anew.
        await bench.http.delete(f"/v1/sessions/{first.json()['id']}")
        third = await bench.http.post("/v1/sessions", json=wanted)
        assert third.status_code == 201
        assert third.json()["id"] != first.json()["id"]
        assert len(bench.room.asked) == 2


async def test_many_same_requests_at_once_start_one_session(serving: Any) -> None:
    async with serving() as bench:
        bench.room.gate = anyio.Event()
        wanted, replies = bench.wanted(), []

        async def ask() -> None:
            replies.append(await bench.http.post("/v1/sessions", json=wanted))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
            while not bench.room.asked:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            bench.room.gate.set()
        assert len({reply.json()["id"] for reply in replies}) == 1
        assert len(bench.room.asked) == 1


async def test_an_idempotency_key_counts_more_than_the_token(serving: Any) -> None:
    async with serving() as bench:
        key = {"Idempotency-Key": "once"}
        minted = {"avatar_id": "anna", "room_name": "hall"}
        first = await bench.http.post("/v1/sessions", json=minted, headers=key)
        again = await bench.http.post("/v1/sessions", json=minted, headers=key)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["id"] == again.json()["id"]
        other = await bench.http.post("/v1/sessions", json={**minted, "avatar_id": "ben"}, headers=key)
        assert bench.told(other) == (409, "IDEMPOTENCY_CONFLICT")
        bad = await bench.http.post("/v1/sessions", json=minted, headers={"Idempotency-Key": "x" * 300})
        assert bench.told(bad) == (400, "INVALID_IDEMPOTENCY_KEY")


async def test_one_identity_is_in_a_room_once(serving: Any) -> None:
    async with serving() as bench:
        first = await bench.start(livekit_token=bench.token("face", "hall", jti="1"))
        twin = bench.wanted(livekit_token=bench.token("face", "hall", jti="2"))
        assert bench.told(await bench.http.post("/v1/sessions", json=twin)) == (409, "AVATAR_ALREADY_ACTIVE")
        second = await bench.start(livekit_token=bench.token("face", "hall", jti="2"), replace=True)
        ended = await bench.until(first["id"], status="cancelled")
        assert ended["reason"] == "replaced by a new session"
        assert second["status"] == "running"
        assert len(await bench.launcher.sessions()) == 1


async def test_the_server_makes_the_token_where_it_has_a_key(serving: Any) -> None:
    async with serving() as bench:
        reply = await bench.http.post(
            "/v1/sessions", json={"avatar_id": "ben", "room_name": "hall", "agent_identity": "agent-1"}
        )
        made = reply.json()
        assert (made["room_name"], made["avatar_identity"]) == ("hall", "avatar-ben")
        used = bench.room.asked[0].token.get_secret_value()
        assert used not in reply.text
        respelt = {"avatar_id": "ben", "room_name": "attic", "livekit_url": "http://127.0.0.1:7880/"}
        assert (await bench.http.post("/v1/sessions", json=respelt)).status_code == 201
        elsewhere = {"avatar_id": "ben", "room_name": "hall", "livekit_url": "ws://127.0.0.1:9"}
        assert bench.told(await bench.http.post("/v1/sessions", json=elsewhere)) == (422, "INVALID_PARAMETER")
    async with serving(livekit_api_key=None, livekit_api_secret=None) as bench:
        reply = await bench.http.post("/v1/sessions", json={"avatar_id": "ben", "room_name": "hall"})
        assert bench.told(reply) == (422, "CANNOT_MINT_TOKENS")
    async with serving(livekit_url=None) as bench:
        reply = await bench.http.post("/v1/sessions", json={"avatar_id": "ben", "room_name": "hall"})
        assert bench.told(reply) == (400, "MISSING_PARAMETER")


async def test_a_full_server_refuses_before_it_joins(serving: Any) -> None:
    async with serving(limits=Limits(max_sessions=1)) as bench:
        await bench.start()
        reply = await bench.http.post("/v1/sessions", json=bench.wanted())
        assert bench.told(reply) == (503, "AT_CAPACITY")
        assert int(reply.headers["retry-after"]) >= 1
        assert len(bench.room.asked) == 1
        ready = await bench.http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "at_capacity")
        assert ready.json()["max_sessions"] == 1
        assert ready.json()["available_sessions"] == 0
        assert (await bench.http.get("/health")).json()["active_sessions"] == 1


async def test_starts_that_are_under_way_count(serving: Any) -> None:
    async with serving(limits=Limits(max_sessions=2)) as bench:
        bench.room.gate = anyio.Event()
        replies: list[httpx.Response] = []

        async def ask() -> None:
            replies.append(await bench.http.post("/v1/sessions", json=bench.wanted()))
            if replies[-1].status_code == 503:
                bench.room.gate.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert sorted(reply.status_code for reply in replies) == [201, 201, 503]
        assert len(bench.room.asked) == 2


async def test_a_start_that_fails_leaves_nothing(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(limits=Limits(max_sessions=1)) as bench:
        secret = bench.token()
        bench.room.refuse(f"the room refused ws://127.0.0.1:7880/rtc?access_token={secret}")
        for _ in range(3):
            reply = await bench.http.post("/v1/sessions", json=bench.wanted(livekit_token=secret))
            assert bench.told(reply) == (502, "ROOM_JOIN_FAILED")
            assert reply.json()["details"]["step"] == "connect"
            assert secret not in reply.text
        bench.room.failure = None
        made = await bench.start(livekit_token=secret)
        listed = (await bench.http.get("/v1/sessions")).json()["sessions"]
        assert [one["status"] for one in listed] == ["running", "failed", "failed", "failed"]
        assert made["id"] == listed[0]["id"]
    assert secret not in caplog.text


async def test_a_defect_is_told_without_its_words(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as bench:
        bench.room.failure = RuntimeError("the inner parts")
        reply = await bench.http.post("/v1/sessions", json=bench.wanted())
        assert bench.told(reply) == (500, "INTERNAL_ERROR")
        assert "inner parts" not in reply.text
    assert "inner parts" in caplog.text


async def test_a_start_can_be_stopped(serving: Any) -> None:
    async with serving(start_timeout_s=60) as bench:
        bench.room.gate = anyio.Event()
        replies: list[httpx.Response] = []

        async def ask() -> None:
            replies.append(await bench.http.post("/v1/sessions", json=bench.wanted()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not (found := (await bench.http.get("/v1/sessions")).json()["sessions"]):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            assert found[0]["status"] == "starting"
            ended = (await bench.http.delete(f"/v1/sessions/{found[0]['id']}")).json()
        assert ended["status"] == "cancelled"
        assert bench.told(replies[0]) == (409, "SESSION_STOPPED")
        assert (await bench.launcher.capacity()).starting == 0


async def test_a_start_that_hangs_is_given_up(serving: Any) -> None:
    async with serving(start_timeout_s=0.2) as bench:
        bench.room.gate = anyio.Event()
        reply = await bench.http.post("/v1/sessions", json=bench.wanted())
        assert bench.told(reply) == (502, "ROOM_JOIN_FAILED")
        assert (await bench.launcher.capacity()).starting == 0
        assert await bench.launcher.sessions() == []


async def test_another_face(serving: Any) -> None:
    async with serving() as bench:
        made = await bench.start()
        path = f"/v1/sessions/{made['id']}/avatar"
        assert (await bench.http.put(path, json={"avatar_id": "ben"})).json()["avatar_id"] == "ben"
        assert (await bench.http.get(f"/v1/sessions/{made['id']}")).json()["avatar_id"] == "ben"
        assert bench.told(await bench.http.put(path, json={"avatar_id": "nobody"})) == (404, "AVATAR_NOT_FOUND")
        assert bench.told(await bench.http.put(path, json={})) == (400, "MISSING_PARAMETER")
        await bench.http.delete(f"/v1/sessions/{made['id']}")
        assert bench.told(await bench.http.put(path, json={"avatar_id": "anna"})) == (409, "SESSION_NOT_RUNNING")
        assert bench.told(await bench.http.post(f"/v1/sessions/{made['id']}/interrupt")) == (409, "SESSION_NOT_RUNNING")


async def test_ended_sessions_are_forgotten_in_time(serving: Any) -> None:
    async with serving(keep_ended=2) as bench:
        ids = []
        for _ in range(4):
            ids.append((await bench.start())["id"])
            await bench.http.delete(f"/v1/sessions/{ids[-1]}")
        listed = (await bench.http.get("/v1/sessions")).json()["sessions"]
        assert [one["id"] for one in listed] == [ids[3], ids[2]]
        assert bench.told(await bench.http.get(f"/v1/sessions/{ids[0]}")) == (404, "SESSION_NOT_FOUND")
    async with serving(keep_ended_s=0) as bench:
        made = await bench.start()
        await bench.http.delete(f"/v1/sessions/{made['id']}")
        assert (await bench.http.get("/v1/sessions")).json() == {"sessions": []}


async def test_one_usage_record_for_a_session(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as bench:
        made = await bench.start(livekit_token=bench.token("face", "hall"))
        for _ in range(3):
            await bench.http.delete(f"/v1/sessions/{made['id']}")
    records = [record for record in caplog.records if record.name == "visavis.usage"]
    assert len(records) == 1
    said = vars(records[0])
    assert (said["session"], said["room"], said["avatar"]) == (made["id"], "hall", "anna")
    assert (said["reason"], said["status"], said["dialect"]) == ("stop_request", "cancelled", "native")
    assert said["ended_at"] >= said["started_at"]
    assert records[0].levelno == logging.INFO
