"""The words of LiveKit's inference gateway, as the stock client sends them."""

from __future__ import annotations

import datetime
from typing import Any

import jwt
import pytest
from livekit import api
from visavis.errors import TransportError

pytestmark = pytest.mark.anyio

CREATE, TERMINATE = "/avatar/sessions", "/avatar/sessions/terminate"
KEY, SECRET = "devkey", "a-secret-of-at-least-32-characters-"


def said(**more: Any) -> dict[str, Any]:
    """As ``AvatarSession("visavis/tiny")`` says it."""
    return {
        "provider": "visavis",
        "livekit_url": "ws://127.0.0.1:7880",
        "room_name": "lounge",
        "room_sid": "RM_x",
        "avatar_identity": "visavis-inference-avatar",
        "avatar_name": "visavis-inference-avatar",
        "agent_identity": "agent-1",
        "avatar_id": "tiny",
        **more,
    }


def credential(secret: str = SECRET, key: str = KEY, *, perform: bool = True, ttl: float = 600) -> dict[str, str]:
    token = api.AccessToken(key, secret).with_identity("agent").with_ttl(datetime.timedelta(seconds=ttl))
    if perform:
        token = token.with_inference_grants(api.access_token.InferenceGrants(perform=True))
    return {"Authorization": f"Bearer {token.to_jwt()}", "X-LiveKit-Inference-Provider": "visavis"}


async def test_a_session_from_create_to_terminate(serving: Any) -> None:
    async with serving(api_keys=["some-key"]) as counter:
        made = await counter.post(CREATE, json=said(), headers={**credential(), "Idempotency-Key": "0f" * 16})
        assert made.status_code == 200, made.text
        reply = made.json()
        assert set(reply) == {"session_id", "provider_session_id", "terminate_token", "sample_rate"}
        assert reply["sample_rate"] == 24_000
        (asked,) = counter.launcher.asked
        assert asked.avatar == "tiny"
        assert asked.source == {"identity": "agent-1"}
        ended = {k: reply[k] for k in ("provider_session_id", "terminate_token")}
        for _ in range(2):
            done = await counter.post(TERMINATE, json={"provider": "visavis", **ended}, headers=credential())
            assert done.status_code == 200, done.text
        assert counter.desk.active() == 0


async def test_the_server_mints_the_avatars_token(serving: Any) -> None:
    async with serving() as counter:
        await counter.post(CREATE, json=said(avatar_name="Anna"))
        claims = jwt.decode(
            counter.launcher.asked[0].transport["token"].get_secret_value(), SECRET, algorithms=["HS256"]
        )
        assert claims["sub"] == "visavis-inference-avatar"
        assert claims["name"] == "Anna"
        assert claims["kind"] == "agent"
        assert claims["video"] == {"roomJoin": True, "room": "lounge", "canUpdateOwnMetadata": True} | {
            key: value
            for key, value in claims["video"].items()
            if key in ("canPublish", "canSubscribe", "canPublishData")
        }
        assert claims["attributes"] == {"lk.publish_on_behalf": "agent-1", "lk.avatar_provider": "visavis"}


async def test_the_base_url_may_end_in_v1(serving: Any) -> None:
    async with serving() as counter:
        made = await counter.post(f"/v1{CREATE}", json=said())
        assert made.status_code == 200, made.text
        ended = {k: made.json()[k] for k in ("provider_session_id", "terminate_token")}
        assert (await counter.post(f"/v1{TERMINATE}", json=ended)).status_code == 200


async def test_any_provider_and_no_avatar_will_do(serving: Any) -> None:
    async with serving() as counter:
        body = said(provider="lemonslice", prompt="be kind", idle_prompt="look about", extra_kwargs={"x": [1]}, new=1)
        for field in ("avatar_id", "avatar_identity", "avatar_name", "agent_identity", "room_sid", "livekit_url"):
            del body[field]
        made = await counter.post(CREATE, json=body)
        assert made.status_code == 200, made.text
        (asked,) = counter.launcher.asked
        assert asked.avatar == "mira"
        assert asked.source == {}
        assert asked.transport["url"] == "ws://127.0.0.1:7880"
        (entry,) = counter.desk.entries(counter.desk._ledger.all()[0].caller)
        assert entry.participant == "lemonslice-inference-avatar"


@pytest.mark.parametrize(
    ("wish", "limit"), [(None, None), (0, None), (-1, None), (90, 90.0), ("45", 45.0), (1e12, 7 * 86_400.0)]
)
async def test_the_clients_idle_timeout(serving: Any, wish: Any, limit: float | None) -> None:
    async with serving() as counter:
        made = await counter.post(CREATE, json=said(idle_timeout_s=wish))
        assert made.status_code == 200, made.text
        assert counter.launcher.asked[0].limits.idle_timeout_s == limit


async def test_a_retry_with_its_key_finds_the_same_session(serving: Any) -> None:
    async with serving() as counter:
        headers = {"Idempotency-Key": "ab" * 16}
        one = await counter.post(CREATE, json=said(), headers=headers)
        two = await counter.post(CREATE, json=said(), headers=headers)
        assert one.json() == two.json()
        assert len(counter.launcher.asked) == 1
        other = await counter.post(CREATE, json=said(avatar_id="mira"), headers=headers)
        assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_a_failed_create_can_be_repeated(serving: Any) -> None:
    async with serving() as counter:
        headers = {"Idempotency-Key": "cd" * 16}
        counter.launcher.failure = TransportError("the room is not there")
        assert (await counter.post(CREATE, json=said(), headers=headers)).status_code == 502
        counter.launcher.failure = None
        assert (await counter.post(CREATE, json=said(), headers=headers)).status_code == 200


async def test_a_restarted_agent_gets_its_avatar_anew(serving: Any) -> None:
    async with serving() as counter:
        one = (await counter.post(CREATE, json=said(), headers={"Idempotency-Key": "1" * 32})).json()
        two = (await counter.post(CREATE, json=said(), headers={"Idempotency-Key": "2" * 32})).json()
        assert one["session_id"] != two["session_id"]
        assert counter.launcher.made[0].reason
        assert counter.desk.active() == 1


async def test_credentials(serving: Any) -> None:
    async with serving(api_keys=["some-key"]) as counter:
        refused = {
            "none": {},
            "an API key": {"Authorization": "Bearer some-key"},
            "another secret": credential("another-secret-of-32-characters---"),
            "another key": credential(key="otherkey"),
            "old": credential(ttl=-3600),
            "a viewer's": credential(perform=False),
            "unsigned": {"Authorization": "Bearer " + jwt.encode({"iss": KEY, "exp": 4e9}, "", algorithm="none")},
        }
        for what, headers in refused.items():
            told = await counter.post(CREATE, json=said(), headers=headers)
            assert told.status_code == 401, what
            assert set(told.json()) == {"error", "code", "details"}
        assert not counter.launcher.asked


async def test_only_who_began_a_session_ends_it(serving: Any) -> None:
    async with serving() as counter:
        made = (await counter.post(CREATE, json=said())).json()
        other = (await counter.post(CREATE, json=said(room_name="garden"))).json()
        told = await counter.post(
            TERMINATE,
            json={
                "provider_session_id": made["provider_session_id"],
                "terminate_token": other["terminate_token"],
            },
        )
        assert (told.status_code, told.json()["code"]) == (403, "INVALID_TERMINATE_TOKEN")
        for missing in ("provider_session_id", "terminate_token"):
            body = {k: made[k] for k in ("provider_session_id", "terminate_token") if k != missing}
            told = await counter.post(TERMINATE, json=body)
            assert (told.status_code, told.json()["code"]) == (400, "MISSING_PARAMETER")
        assert counter.desk.active() == 2


async def test_refusals(serving: Any) -> None:
    async with serving(allow_livekit_urls=[]) as counter:

        async def told(**body: Any) -> tuple[int, str]:
            reply = await counter.post(CREATE, json=said(**body))
            return reply.status_code, reply.json()["code"]

        assert await told(room_name=None) == (400, "MISSING_PARAMETER")
        assert await told(provider="") == (400, "MISSING_PARAMETER")
        assert await told(avatar_id="nobody") == (404, "AVATAR_NOT_FOUND")
        assert await told(avatar_id="../../etc/passwd") == (404, "AVATAR_NOT_FOUND")
        assert await told(avatar_id=None, image_url="http://10.0.0.1/face.png") == (422, "IMAGE_NOT_SUPPORTED")
        assert await told(livekit_url="wss://elsewhere.example") == (403, "LIVEKIT_URL_NOT_ALLOWED")
        assert await told(idle_timeout_s="soon") == (422, "INVALID_PARAMETER")
        assert await told(room_name="x" * 300) == (422, "INVALID_PARAMETER")
        assert await told(agent_identity="x" * 300) == (422, "INVALID_PARAMETER")
        assert not counter.launcher.asked


async def test_without_a_livekit_key_it_says_what_is_missing(serving: Any) -> None:
    async with serving(livekit_api_key=None, livekit_api_secret=None) as counter:
        told = await counter.post(CREATE, json=said())
        assert (told.status_code, told.json()["code"]) == (422, "CANNOT_MINT_TOKENS")
        assert "LIVEKIT_API_KEY" in told.json()["error"]
