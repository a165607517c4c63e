"""API keys: hashed and plain, their limits, and that what one caller has is nothing to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from visavis_server_http.keys import KeyRing, hashed, new_key
from visavis_server_http.options import HttpServerOptions

pytestmark = pytest.mark.anyio

ANNA, BEN = "anna-has-this-long-key", "ben-has-that-long-key"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_who_may_come_in(serving: Any) -> None:
    async with serving(api_keys=[hashed(ANNA), {"key": BEN, "name": "ben"}]) as bench:
        refused = [
            ({}, "UNAUTHORIZED"),
            ({"authorization": "Bearer"}, "UNAUTHORIZED"),
            ({"authorization": "Basic " + ANNA}, "UNAUTHORIZED"),
            (bearer("wrong"), "INVALID_API_KEY"),
            (bearer(ANNA + "x"), "INVALID_API_KEY"),
            (bearer(hashed(ANNA)), "INVALID_API_KEY"),  # whoever sees the configuration has no key yet
            ({"authorization": b"Bearer \xff\xfe\x80"}, "INVALID_API_KEY"),
        ]
        for headers, code in refused:
            for method, path in (("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("GET", "/v1/avatars")):
                reply = await bench.http.request(method, path, headers=headers)
                assert bench.told(reply) == (401, code)
                assert reply.headers["www-authenticate"].startswith("Bearer")
        for key in (ANNA, BEN):
            for scheme in ("Bearer", "bearer"):
                reply = await bench.http.get("/v1/sessions", headers={"authorization": f"{scheme} {key}"})
                assert reply.status_code == 200
        for path in ("/health", "/ready", "/metrics", "/openapi.json", "/docs"):
            assert (await bench.http.get(path)).status_code == 200


async def test_what_one_has_is_nothing_to_another(serving: Any) -> None:
    async with serving(api_keys=[ANNA, BEN]) as bench:
        wanted = bench.wanted(livekit_token=bench.token("face", "hall"))
        made = (await bench.http.post("/v1/sessions", json=wanted, headers=bearer(ANNA))).json()
        one, foreign = f"/v1/sessions/{made['id']}", bearer(BEN)
        pcm = {"content-type": "audio/pcm;rate=16000"}
        replies = [
            await bench.http.get(one, headers=foreign),
            await bench.http.delete(one, headers=foreign),
            await bench.http.post(f"{one}/interrupt", headers=foreign),
            await bench.http.put(f"{one}/avatar", json={"avatar_id": "ben"}, headers=foreign),
            await bench.http.post(f"{one}/speak", content=b"\0" * 3200, headers=foreign | pcm),
        ]
        for reply in replies:
            assert bench.told(reply) == (404, "SESSION_NOT_FOUND")
        assert (await bench.http.get("/v1/sessions", headers=foreign)).json() == {"sessions": []}
        # Nor does the same token or the wish to replace give it to another.
        for more in ({}, {"replace": True}):
            stolen = await bench.http.post("/v1/sessions", json={**wanted, **more}, headers=foreign)
            assert bench.told(stolen) == (409, "AVATAR_ALREADY_ACTIVE")
        assert (await bench.http.get(one, headers=bearer(ANNA))).json()["status"] == "running"


async def test_limits_of_a_key(serving: Any) -> None:
    keys = [{"key": ANNA, "max_sessions": 1}, {"key": BEN, "requests_per_minute": 3}]
    async with serving(api_keys=keys) as bench:
        made = await bench.http.post("/v1/sessions", json=bench.wanted(), headers=bearer(ANNA))
        assert made.status_code == 201
        over = await bench.http.post("/v1/sessions", json=bench.wanted(), headers=bearer(ANNA))
        assert bench.told(over) == (429, "RATE_LIMIT_EXCEEDED")
        assert over.json()["details"]["limit"] == "max_sessions"
        assert int(over.headers["retry-after"]) >= 1
        await bench.http.delete(f"/v1/sessions/{made.json()['id']}", headers=bearer(ANNA))
        assert (await bench.http.post("/v1/sessions", json=bench.wanted(), headers=bearer(ANNA))).status_code == 201

        codes = [(await bench.http.get("/v1/avatars", headers=bearer(BEN))).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        late = await bench.http.get("/v1/avatars", headers=bearer(BEN))
        assert late.json()["details"]["limit"] == "requests_per_minute"
        assert int(late.headers["retry-after"]) <= 20


def test_a_new_key_is_taken_by_its_hash() -> None:
    key, digest = new_key()
    ring = KeyRing(HttpServerOptions.model_validate({"api_keys": [digest]}).api_keys, sessions=None, rate=None)
    found = ring.caller_of(key)
    assert found is not None
    assert (found.id, ring.caller_of(digest), ring.caller_of("")) == ("key-1", None, None)
    assert new_key()[0] != key
    assert key not in repr(found)


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_API_KEYS", f"{ANNA}, {hashed(BEN)}")
    options = HttpServerOptions()
    ring = KeyRing(options.api_keys, sessions=None, rate=None)
    assert [ring.caller_of(key) is not None for key in (ANNA, BEN, "other")] == [True, True, False]
    assert ANNA not in repr(options)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "avatars.example", "127.0.0.1.example", ""])
def test_without_keys_only_this_machine_is_served(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISAVIS_API_KEYS", raising=False)
    with pytest.raises(ValidationError, match="needs api_keys"):
        HttpServerOptions(host=host)
    assert HttpServerOptions.model_validate({"host": host, "api_keys": ["a-key"]}).host == host


@pytest.mark.parametrize("key", ["", " ", "sha256:", "sha256:" + "g" * 64, "sha256:" + "a" * 63, " key", "x" * 513])
def test_keys_that_cannot_be(key: str) -> None:
    with pytest.raises(ValidationError) as told:
        HttpServerOptions.model_validate({"api_keys": [key]})
    assert "api_keys" in str(told.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback_needs_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISAVIS_API_KEYS", raising=False)
    assert HttpServerOptions(host=host).open


async def test_our_livekit_key_signs_for_the_gateway(serving: Any, token: Callable[..., str]) -> None:
    from starlette.requests import Request
    from visavis_server_http.desk import Desk
    from visavis_server_http.errors import ApiError

    async with serving(api_keys=[ANNA]) as bench:
        async with Desk(bench.server.options, bench.launcher, None) as desk:  # type: ignore[arg-type]

            def shown(credential: str) -> Any:
                headers = [(b"authorization", f"Bearer {credential}".encode())]
                return desk.authenticate_jwt(Request({"type": "http", "headers": headers}))

            caller, claims = shown(token("agent"))
            assert (caller.id, claims["sub"]) == ("livekit:devkey", "agent")
            others = (token(secret="x" * 40), token(exp=1), token(iss="other"), ANNA, "a.b.c", token()[:-2])
            for bad in others:
                with pytest.raises(ApiError) as refused:
                    shown(bad)
                assert (refused.value.status, refused.value.code) == (401, "INVALID_TOKEN")
