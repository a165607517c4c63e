"""Whatever is sent to a dialect's routes: no 500, errors in one form, and no token told back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.anyio

URL = "ws://127.0.0.1:7880"
JSON_ROUTES = [
    "/v1/livekit/start-avatar",
    "/v1/livekit/stop-avatar",
    "/launch",
    "/avatar/sessions",
    "/avatar/sessions/terminate",
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", " ", "\0", "../..", "mira", "tiny", "broken", URL, "http://10.0.0.1/x.png", "x" * 70_000]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("livekit_url", "livekit_token", "livekit_room_name", "room_name", "room_sid"),
        *("avaluma_avatar_id", "avaluma_key", "session_id"),
        *("avatar_id", "agent_id", "async_mode", "model", "mode", "prompt"),
        *("provider", "avatar_identity", "avatar_name", "agent_identity", "idle_timeout_s", "extra_kwargs"),
        *("provider_session_id", "terminate_token"),
    ]
)
LENIENT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def carelessly(value: Any) -> bytes:
    """JSON with NaN and lone surrogates in it, as some clients write it."""
    return json.dumps(value).encode()


def checked(reply: httpx.Response) -> None:
    assert reply.status_code < 500, reply.text[:500]
    if reply.status_code >= 400:
        assert set(reply.json()) == {"error", "code", "details"}


def sound(path: str, token: str) -> dict[str, Any]:
    """A body that the route takes, to be spoilt in places: what is all wrong gets no further than the door."""
    return {
        "/v1/livekit/start-avatar": {"livekit_url": URL, "livekit_token": token, "avaluma_avatar_id": "tiny"},
        "/v1/livekit/stop-avatar": {"session_id": "sess_0000000000000000"},
        "/launch": {"livekit_url": URL, "livekit_token": token, "agent_id": "tiny"},
        "/avatar/sessions": {"provider": "any", "room_name": "lounge", "avatar_id": "tiny", "livekit_url": URL},
        "/avatar/sessions/terminate": {"provider_session_id": "x", "terminate_token": "y"},
    }[path]


@pytest.mark.parametrize("path", JSON_ROUTES)
@given(spoilt=st.dictionaries(NAMES, VALUES, max_size=4))
@LENIENT
async def test_fields(serving: Any, room_token: Callable[..., str], path: str, spoilt: dict[str, Any]) -> None:
    async with serving() as counter:
        token = room_token()
        body = carelessly({**sound(path, token), **spoilt})
        reply = await counter.post(path, content=body, headers={"content-type": "application/json"})
        checked(reply)
        assert token not in reply.text


@pytest.mark.parametrize("path", JSON_ROUTES)
@given(body=st.binary(max_size=200) | VALUES.map(carelessly), kind=TEXTS | st.just("application/json"))
@LENIENT
async def test_bodies(serving: Any, path: str, body: bytes, kind: str) -> None:
    async with serving() as counter:
        header = kind.encode("utf-8", "replace").replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")[:200]
        checked(await counter.post(path, content=body, headers=[(b"content-type", header)]))


@given(
    spoilt=st.dictionaries(NAMES | TEXTS, TEXTS, max_size=4),
    tail=st.binary(max_size=60),
    boundary=st.sampled_from(["x", "y", "", '"', "x; charset=nonsense"]),
)
@LENIENT
async def test_forms(
    serving: Any, room_token: Callable[..., str], spoilt: dict[str, str], tail: bytes, boundary: str
) -> None:
    async with serving() as counter:
        fields = {**sound("/launch", room_token()), **spoilt}
        parts = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="'
            + name.encode("utf-8", "replace")
            + b'"\r\n\r\n'
            + value.encode("utf-8", "replace")
            + b"\r\n"
            for name, value in fields.items()
        )
        kind = f"multipart/form-data; boundary={boundary}"
        checked(await counter.post("/launch", content=parts + tail + b"--x--\r\n", headers={"content-type": kind}))


@given(task=TEXTS, query=TEXTS, secret=TEXTS)
@LENIENT
async def test_paths_queries_and_credentials(serving: Any, task: str, query: str, secret: str) -> None:
    async with serving(api_keys=["some-key"]) as counter:
        shown = secret.encode("utf-8", "replace").replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")[:500]
        for header in ([(b"api-secret", shown)], [(b"authorization", b"Bearer " + shown)]):
            for method, path in (("GET", "/tasks/{}"), ("POST", "/tasks/{}/stop"), ("POST", "/benchmark")):
                url = httpx.URL(f"http://localhost{path.format(httpx.QueryParams({'k': task[:200]}).__str__()[2:])}")
                checked(await counter.http.request(method, url, params={"iterations": query[:200]}, headers=header))
