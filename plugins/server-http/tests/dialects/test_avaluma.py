"""Avaluma's words: both generations of the plugin, replies and refusals as its documentation has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from visavis.errors import AtCapacity, TransportError

pytestmark = pytest.mark.anyio

START, STOP = "/v1/livekit/start-avatar", "/v1/livekit/stop-avatar"
URL = "ws://127.0.0.1:7880"
Make = Callable[..., str]


def said(token: str, **more: Any) -> dict[str, Any]:
    return {"livekit_url": URL, "livekit_token": token, "avaluma_key": "k", "avaluma_avatar_id": "tiny", **more}


async def test_a_session_from_start_to_stop(serving: Any, room_token: Make) -> None:
    async with serving(api_keys=["secret-key"]) as counter:
        headers = {"api-secret": "secret-key"}
        token = room_token()
        begun = await counter.post(START, json=said(token), headers=headers)
        assert begun.status_code == 200, begun.text
        reply = begun.json()
        assert re.fullmatch(r"sess_[0-9a-f]{16}", reply.pop("session_id"))
        assert reply == {"status": "started", "avatar_participant_identity": "avatar-tiny"}
        (asked,) = counter.launcher.asked
        assert asked.avatar == "tiny"
        assert asked.transport["url"] == URL
        assert asked.transport["token"].get_secret_value() == token
        for _ in range(2):  # a stop is repeated without harm
            ended = await counter.post(STOP, json={"session_id": begun.json()["session_id"]}, headers=headers)
            assert (ended.status_code, ended.json()) == (200, {"status": "stopped"})
        assert counter.launcher.made[0].reason
        assert counter.desk.active() == 0


async def test_the_older_plugin_spells_two_fields_differently(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        body = {
            "livekit_url": URL,
            "livekit_token": room_token(),
            "livekit_room_name": "lounge",
            "avaluma_license_key": "k",
            "avaluma_avatar_id": "tiny",
            "a_field_of_tomorrow": {"deep": [1]},
        }
        begun = await counter.post(START, json=body)
        assert begun.status_code == 200, begun.text
        assert counter.desk.active() == 1


async def test_a_number_is_an_avatar_id_too(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        begun = await counter.post(START, json=said(room_token(), avaluma_avatar_id=42))
        assert begun.status_code == 200, begun.text
        assert counter.launcher.asked[0].avatar == "42"


async def test_a_retry_with_its_token_finds_the_same_session(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        token = room_token()
        replies: list[Any] = []

        async def ask() -> None:
            replies.append((await counter.post(START, json=said(token))).json())

        counter.launcher.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            counter.launcher.gate.set()
        assert len({reply["session_id"] for reply in replies}) == 1
        assert len(counter.launcher.asked) == 1
        await counter.post(STOP, json={"session_id": replies[0]["session_id"]})
        again = await counter.post(START, json=said(token))
        assert again.json()["session_id"] != replies[0]["session_id"]


@pytest.mark.parametrize("more", [{}, {"avaluma_avatar_id": "mira"}], ids=["another-token", "the-same-token"])
async def test_an_identity_is_in_a_room_once(serving: Any, room_token: Make, more: dict[str, str]) -> None:
    async with serving() as counter:
        token = room_token()
        assert (await counter.post(START, json=said(token))).status_code == 200
        other = token if more else room_token()
        told = await counter.post(START, json=said(other, **more))
        assert told.status_code == 409
        assert told.json()["code"] == "AVATAR_ALREADY_ACTIVE"
        elsewhere = await counter.post(START, json=said(room_token(room="garden")))
        assert elsewhere.status_code == 200


@pytest.mark.parametrize("field", ["livekit_url", "livekit_token", "avaluma_avatar_id"])
@pytest.mark.parametrize("empty", ["absent", None, "", "  "])
async def test_what_is_missing_is_named(serving: Any, room_token: Make, field: str, empty: str | None) -> None:
    async with serving() as counter:
        body = said(room_token())
        if empty == "absent":
            del body[field]
        else:
            body[field] = empty
        told = await counter.post(START, json=body)
        assert told.status_code == 400
        assert told.json()["code"] == "MISSING_PARAMETER"
        assert told.json()["details"]["parameter"] == field
        assert not counter.launcher.asked


async def test_keys(serving: Any, room_token: Make) -> None:
    async with serving(api_keys=["secret-key"]) as counter:
        for path in (START, STOP):
            none = await counter.post(path, json=said(room_token()))
            assert (none.status_code, none.json()["code"]) == (401, "MISSING_API_SECRET")
            wrong = await counter.post(path, json=said(room_token()), headers={"api-secret": "another"})
            assert (wrong.status_code, wrong.json()["code"]) == (403, "INVALID_LICENSE")
            assert set(wrong.json()) == {"error", "code", "details"}
        assert not counter.launcher.asked


async def test_a_key_sees_its_own_sessions_alone(serving: Any, room_token: Make) -> None:
    async with serving(api_keys=["one-key", "two-key"]) as counter:
        begun = await counter.post(START, json=said(room_token()), headers={"api-secret": "one-key"})
        told = await counter.post(
            STOP, json={"session_id": begun.json()["session_id"]}, headers={"api-secret": "two-key"}
        )
        assert (told.status_code, told.json()["code"]) == (404, "SESSION_NOT_FOUND")
        assert counter.desk.active() == 1


async def test_refusals_have_their_documented_codes(serving: Any, room_token: Make) -> None:
    async with serving(api_keys=[{"key": "secret-key", "max_sessions": 1}]) as counter:
        counter.http.headers["api-secret"] = "secret-key"

        async def told(path: str = START, **body: Any) -> tuple[int, str]:
            reply = await counter.post(path, json=body)
            return reply.status_code, reply.json()["code"]

        assert await told(**said(room_token(), avaluma_avatar_id="nobody")) == (404, "AVATAR_NOT_FOUND")
        assert await told(**said(room_token(), avaluma_avatar_id="broken")) == (422, "AVATAR_INVALID")
        assert await told(STOP, session_id="sess_0000000000000000") == (404, "SESSION_NOT_FOUND")
        assert await told(STOP) == (400, "MISSING_PARAMETER")
        counter.launcher.failure = TransportError("the room refused the token")
        assert await told(**said(room_token())) == (502, "ROOM_JOIN_FAILED")
        counter.launcher.failure = AtCapacity("full", retry_after=3)
        assert await told(**said(room_token())) == (503, "AT_CAPACITY")
        counter.launcher.failure = None
        counter.launcher.full = "all 8 sessions are taken"
        full = await counter.post(START, json=said(room_token()))
        assert (full.status_code, full.headers["retry-after"]) == (503, "7")
        counter.launcher.full = None
        before = len(counter.launcher.asked)
        assert (await counter.post(START, json=said(room_token()))).status_code == 200
        assert await told(**said(room_token(room="garden"))) == (429, "RATE_LIMIT_EXCEEDED")
        assert len(counter.launcher.asked) == before + 1


async def test_a_body_that_is_none_is_refused(serving: Any) -> None:
    async with serving() as counter:
        for content in (b"", b"{", b"[]", b"null", b'"x"', b'{"livekit_url": 1e999}', b"\xff\xfe", b"[" * 100_000):
            told = await counter.post(START, content=content, headers={"content-type": "application/json"})
            assert told.status_code in (400, 422), content[:20]
            assert set(told.json()) == {"error", "code", "details"}
        told = await counter.post(START, content=b"a=b", headers={"content-type": "text/plain"})
        assert told.status_code == 415
