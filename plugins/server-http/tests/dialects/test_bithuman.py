"""bitHuman's words: launches as form and JSON, tasks, and the routes of its container."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from PIL import Image
from visavis.errors import TransportError

pytestmark = pytest.mark.anyio

URL = "ws://127.0.0.1:7880"
Make = Callable[..., str]


def said(token: str, **more: str) -> dict[str, str]:
    return {"livekit_url": URL, "livekit_token": token, "room_name": "lounge", **more}


def files(fields: dict[str, str], **uploads: tuple[str, bytes]) -> list[tuple[str, Any]]:
    """Fields and files as multipart, which httpx makes of files alone."""
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
    return [*parts, *((name, (file, data, "image/jpeg")) for name, (file, data) in uploads.items())]


@pytest.mark.parametrize("shape", ["multipart", "urlencoded", "json"])
async def test_a_session_from_launch_to_stop(serving: Any, room_token: Make, shape: str) -> None:
    async with serving(api_keys=["secret-key"]) as counter:
        form = said(room_token("bithuman-avatar-agent"), model="expression", avatar_id="tiny")
        body = said(room_token("bithuman-avatar-agent"), mode="cpu", model="essence", agent_id="tiny")
        bearer, secret = {"Authorization": "Bearer secret-key"}, {"api-secret": "secret-key"}
        if shape == "json":
            begun = await counter.post("/launch", json=body, headers=secret)
        elif shape == "urlencoded":
            begun = await counter.post("/launch", data=form, headers=bearer)
        else:
            begun = await counter.post("/launch", files=files(form), headers=bearer)
        assert begun.status_code == 200, begun.text
        reply = begun.json()
        task_id = reply.pop("task_id")
        assert reply == {"status": "pending", "room_name": "lounge"}
        await anyio.wait_all_tasks_blocked()
        assert counter.launcher.asked[0].avatar == "tiny"
        task = (await counter.get(f"/tasks/{task_id}", headers=bearer)).json()
        assert set(task) == {"task_id", "room_name", "status", "created_at", "completed_at", "error"}
        assert (task["status"], task["completed_at"]) == ("running", None)
        assert (await counter.get("/tasks", headers=secret)).json() == {"tasks": [task]}
        ended = [await counter.post(f"/tasks/{task_id}/stop", headers=bearer) for _ in range(2)]
        assert [(reply.status_code, reply.json()["status"]) for reply in ended] == [(200, "cancelled")] * 2
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", ended[1].json()["completed_at"])
        assert counter.desk.active() == 0


async def test_a_launch_is_pending_until_its_avatar_is_in_the_room(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        counter.launcher.gate = anyio.Event()
        begun = (await counter.post("/launch", json=said(room_token()))).json()
        assert begun["status"] == "pending"
        assert (await counter.get(f"/tasks/{begun['task_id']}")).json()["status"] == "pending"
        stopped = (await counter.post(f"/tasks/{begun['task_id']}/stop")).json()
        assert stopped["status"] == "cancelled"
        assert not counter.launcher.made


@pytest.mark.parametrize("where", ["form", "json", "query"])
async def test_async_false_waits_for_the_room(serving: Any, room_token: Make, where: str) -> None:
    async with serving() as counter:
        body = said(room_token())
        if where == "form":
            begun = await counter.post("/launch", data={**body, "async_mode": "false"})
        elif where == "json":
            begun = await counter.post("/launch", json={**body, "async_mode": False})
        else:
            begun = await counter.post("/launch?async=false", json=body)
        assert begun.json()["status"] == "running"
        counter.launcher.failure = TransportError("the room refused the token")
        query = "?async=0" if where == "query" else ""
        told = await counter.post(f"/launch{query}", data={**said(room_token(room="garden")), "async_mode": "off"})
        assert (told.status_code, told.json()["code"]) == (502, "ROOM_JOIN_FAILED")


async def test_a_failed_launch_says_why_in_its_task(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        counter.launcher.failure = TransportError("the room refused the token")
        begun = (await counter.post("/launch", json=said(room_token()))).json()
        (entry,) = counter.desk._ledger.all()
        await entry.over.wait()
        task = (await counter.get(f"/tasks/{begun['task_id']}")).json()
        assert (task["status"], task["error"]) == ("failed", "the room refused the token")
        assert task["completed_at"]


async def test_who_comes_if_nobody_is_named(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        await counter.post("/launch?async=false", json=said(room_token(), agent_id="", avatar_id=""))
        assert counter.launcher.asked[0].avatar == "mira"
        told = await counter.post("/launch", json=said(room_token(), agent_id="A78WKV4515"))
        assert (told.status_code, told.json()["code"]) == (404, "AVATAR_NOT_FOUND")


async def test_the_newer_of_two_launches_stays(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        one = (await counter.post("/launch?async=false", json=said(room_token()))).json()
        same = (await counter.post("/launch?async=false", json=said(room_token()))).json()
        assert one["task_id"] != same["task_id"]
        assert (await counter.get(f"/tasks/{one['task_id']}")).json()["status"] == "cancelled"
        token = room_token(room="garden")
        twice = [(await counter.post("/launch", json=said(token))).json()["task_id"] for _ in range(2)]
        assert twice[0] == twice[1]


PICTURE = b"\xff\xd8\xff\xe0" + b"\0" * 3_000_000


async def test_a_launch_with_an_image_is_refused(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        form = said(room_token())
        private = "http://169.254.169.254/latest/meta-data"
        replies = [
            await counter.post("/launch", files=files(form, avatar_image=("avatar.jpg", PICTURE))),
            await counter.post("/launch", files=files(form, image=("face.png", b"\x89PNG"))),
            await counter.post("/launch", data={**form, "avatar_image_url": private}),
            await counter.post("/launch", data={**form, "avatar_image": "aGVsbG8="}),
            await counter.post("/launch", json={**form, "image": "aGVsbG8=" * 300_000, "mode": "gpu"}),
            await counter.post("/launch", json={**form, "image": "https://example.com/face.jpg"}),
        ]
        for told in replies:
            assert (told.status_code, told.json()["code"]) == (422, "IMAGE_NOT_SUPPORTED"), told.text[:300]
        assert replies[2].json()["details"] == {"image_url": "it is a private address"}
        assert not counter.launcher.asked
        empty = await counter.post("/launch", files=files(form, avatar_image=("", b"")))
        assert empty.status_code == 200, empty.text


async def test_keys(serving: Any, room_token: Make) -> None:
    async with serving(api_keys=["secret-key"]) as counter:
        for headers in ({}, {"Authorization": "Bearer other"}, {"api-secret": "other"}, {"Authorization": "Basic x"}):
            for method, path in (
                ("POST", "/launch"),
                ("GET", "/tasks"),
                ("GET", "/tasks/x"),
                ("POST", "/tasks/x/stop"),
                ("POST", "/benchmark"),
                ("GET", "/test-frame"),
            ):
                told = await counter.http.request(method, path, headers=headers)
                assert told.status_code == 401, (method, path)
        assert not counter.launcher.asked


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"livekit_token": ""}, 400, "MISSING_PARAMETER"),
        ({"livekit_url": ""}, 400, "MISSING_PARAMETER"),
        ({"livekit_token": "no token"}, 400, "INVALID_LIVEKIT_TOKEN"),
        ({"livekit_url": "wss://elsewhere.example"}, 403, "LIVEKIT_URL_NOT_ALLOWED"),
        ({"async_mode": "perhaps"}, 422, "INVALID_PARAMETER"),
        ({"avatar_id": "broken"}, 422, "AVATAR_INVALID"),
        ({"avatar_id": "..%2f..%2fetc"}, 404, "AVATAR_NOT_FOUND"),
    ],
)
async def test_refusals(serving: Any, room_token: Make, more: dict[str, str], status: int, code: str) -> None:
    async with serving() as counter:
        told = await counter.post("/launch", data={**said(room_token()), **more})
        assert (told.status_code, told.json()["code"]) == (status, code)
        assert not counter.launcher.asked


async def test_a_form_that_is_none_is_refused(serving: Any) -> None:
    async with serving() as counter:
        for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
            told = await counter.post("/launch", content=b"\0\r\n--y\xff", headers={"content-type": kind})
            assert told.status_code in (400, 422), kind
        assert (await counter.post("/launch", content=b"x")).status_code == 415


async def test_unknown_tasks(serving: Any) -> None:
    async with serving() as counter:
        for told in (await counter.get("/tasks/nothing"), await counter.post("/tasks/nothing/stop")):
            assert (told.status_code, told.json()["code"]) == (404, "TASK_NOT_FOUND")
        assert (await counter.get("/tasks")).json() == {"tasks": []}


async def test_the_benchmark_measures_and_is_not_repeated_at_once(serving: Any) -> None:
    async with serving() as counter:
        told = (await counter.post("/benchmark?iterations=6")).json()
        figures = {"avg_ms": 5.0, "median_ms": 5.0, "fps": 200.0}
        assert told == {"iterations": 6, "frames_per_generate": 1, **figures, "vram_gb": None, "gpu": None}
        assert (await counter.post("/benchmark?iterations=9")).json()["iterations"] == 6
        assert counter.launcher.rehearsed == [6]
        for wrong in ("0", "-1", "x", "1e3", "9" * 30, "%00"):
            told = await counter.post(f"/benchmark?iterations={wrong}")
            assert (told.status_code, told.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_the_benchmark_is_bounded(serving: Any) -> None:
    async with serving() as counter:
        assert (await counter.post("/benchmark?iterations=999999999")).json()["iterations"] == 100


async def test_the_test_frame_is_a_picture_of_the_avatar(serving: Any) -> None:
    async with serving() as counter:
        told = await counter.get("/test-frame")
        assert told.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(told.content)) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("JPEG", (128, 128))


async def test_health_and_ready_are_as_its_guide_has_them(serving: Any, room_token: Make) -> None:
    async with serving() as counter:
        health = (await counter.get("/health")).json()
        assert health["status"] == "healthy"
        assert (health["active_sessions"], health["max_sessions"]) == (0, 8)
        ready = await counter.get("/ready")
        wanted = {"status": "ready", "model_ready": True, "active_sessions": 0, "available_sessions": 8}
        assert wanted.items() <= ready.json().items()
        counter.launcher.full = "all 8 sessions are taken"
        full = await counter.get("/ready")
        assert (full.status_code, full.json()["status"]) == (503, "at_capacity")
