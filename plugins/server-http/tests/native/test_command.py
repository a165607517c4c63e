"""``visavis serve`` as a process, with a real LiveKit server: from the first line it prints to its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from livekit import api
from visavis.testing.livekit.server import LiveKitServer, free_port

ROOT = Path(__file__).parents[4]
PCM = {"content-type": "audio/pcm;rate=16000"}
Serve = Callable[..., AbstractContextManager[tuple[subprocess.Popen[str], httpx.Client]]]


def tone(seconds: float) -> bytes:
    t = np.arange(int(seconds * 16_000))
    return (np.where(t // 20 % 2, 12_000, -12_000)).astype("<i2").tobytes()


def command(*words: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_", "VISAVIS_API"))}
    whole = [sys.executable, "-m", "visavis", *words]
    return subprocess.Popen(
        whole, cwd=cwd, env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and all that was printed."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """``with serve(room) as (process, client)``: a server that answers, ended afterwards whatever happens."""

    @contextmanager
    def serving(
        room: LiveKitServer | None, *words: str, **environment: str
    ) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
        near = {} if room is None else {"LIVEKIT_URL": room.url, "LIVEKIT_API_KEY": room.key}
        near |= {} if room is None else {"LIVEKIT_API_SECRET": room.secret}
        port = free_port()
        process = command("serve", "--port", str(port), *words, cwd=tmp_path, **near, **environment)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                for _ in range(600):
                    try:
                        if process.poll() is not None or client.get("/ready").status_code == 200:
                            break
                    except httpx.TransportError:
                        signal.sigtimedwait([], 0.05)
                assert process.poll() is None, said(process)
                yield process, client
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    return serving


def participants(room: LiveKitServer, name: str) -> dict[str, Any]:
    """Who is in a room, by identity."""

    async def ask() -> dict[str, Any]:
        async with api.LiveKitAPI(room.url.replace("ws", "http", 1), room.key, room.secret) as livekit:
            listed = await livekit.room.list_participants(api.ListParticipantsRequest(room=name))
            return {person.identity: person for person in listed.participants}

    return anyio.run(ask)


def test_a_conversation_over_http(serve: Serve, livekit_server: LiveKitServer, room_name: str) -> None:
    with serve(livekit_server, "--log-format", "json") as (process, client):
        assert [one["id"] for one in client.get("/v1/avatars").json()["avatars"]] == ["mira"]
        token = livekit_server.token("face", room_name)
        wanted = {"avatar_id": "mira", "livekit_token": token, "agent_identity": "agent-1", "max_duration_s": 500}
        reply = client.post("/v1/sessions", json=wanted)
        assert reply.status_code == 201, reply.text
        made = reply.json()
        assert made["limits"] == {"idle_timeout_s": 600, "max_duration_s": 500}
        # Sound and picture are there although nobody speaks yet.
        there = participants(livekit_server, room_name)["face"]
        while {track.type for track in there.tracks} != {0, 1}:
            there = participants(livekit_server, room_name)["face"]
        assert there.attributes["lk.publish_on_behalf"] == "agent-1"

        path = f"/v1/sessions/{made['id']}"
        spoken = client.post(f"{path}/speak", params={"wait": "true"}, content=tone(0.8), headers=PCM)
        assert (spoken.json()["status"], spoken.json()["position_s"]) == ("played", pytest.approx(0.8))
        stats = client.get(path).json()["stats"]
        assert (stats["segments"], stats["spoken_s"]) == (1, pytest.approx(0.8))

        ended = client.delete(path).json()
        assert (ended["status"], ended["reason"]) == ("cancelled", "stop_request")
        assert "face" not in participants(livekit_server, room_name)
        process.send_signal(signal.SIGTERM)
        status, printed = said(process)
    assert status == 0
    assert token not in printed
    records = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    usage = [record for record in records if record["logger"] == "visavis.usage"]
    assert [(u["session"], u["room"], u["reason"]) for u in usage] == [(made["id"], room_name, "stop_request")]


def test_rooms_that_cannot_be_joined(serve: Serve, livekit_server: LiveKitServer, room_name: str) -> None:
    foreign = api.AccessToken("stranger", "s" * 40).with_identity("face")
    foreign = foreign.with_grants(api.VideoGrants(room_join=True, room=room_name))
    forged = api.AccessToken(livekit_server.key, "s" * 40).with_identity("face")
    forged = forged.with_grants(api.VideoGrants(room_join=True, room=room_name))
    mine = livekit_server.token("face", room_name)
    expired = livekit_server.token("face", room_name, ttl=-3600)
    nowhere = f"ws://127.0.0.1:{free_port()}"
    cases: list[tuple[dict[str, str], int, str, str | None]] = [
        ({"livekit_token": foreign.to_jwt()}, 502, "ROOM_JOIN_FAILED", "token"),
        ({"livekit_token": forged.to_jwt()}, 400, "INVALID_LIVEKIT_TOKEN", None),
        ({"livekit_token": expired}, 400, "LIVEKIT_TOKEN_EXPIRED", None),
        ({"livekit_token": mine, "livekit_url": nowhere}, 502, "ROOM_JOIN_FAILED", "connect"),
    ]
    with serve(livekit_server) as (process, client):
        for change, status, code, step in cases:
            reply = client.post("/v1/sessions", json={"avatar_id": "mira", **change})
            assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
            assert reply.json().keys() == {"error", "code", "details"}
            assert reply.json()["details"].get("step") == step
            assert change["livekit_token"] not in reply.text
        assert client.get("/health").json()["active_sessions"] == 0
        assert client.post("/v1/sessions", json={"avatar_id": "mira", "livekit_token": mine}).status_code == 201
        process.send_signal(signal.SIGTERM)
        status, printed = said(process)
    assert status == 0
    assert "eyJ" not in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("again", [False, True])
def test_sigterm_lets_sentences_finish_once(
    serve: Serve, livekit_server: LiveKitServer, room_name: str, again: bool
) -> None:
    with serve(livekit_server) as (process, client):
        made = client.post("/v1/sessions", json={"avatar_id": "mira", "room_name": room_name}).json()
        path = f"/v1/sessions/{made['id']}"
        length = 30.0 if again else 1.5
        client.post(f"{path}/speak", content=tone(length), headers=PCM)
        while client.get(path).json()["stats"]["frames"] < 5:
            pass
        process.send_signal(signal.SIGTERM)
        while client.get("/ready").json()["code"] != "SERVER_DRAINING":
            pass
        refused = client.post("/v1/sessions", json={"avatar_id": "mira", "room_name": room_name})
        assert (refused.status_code, refused.json()["code"]) == (503, "SERVER_DRAINING")
        if again:
            process.send_signal(signal.SIGTERM)
        status, printed = said(process)
    assert participants(livekit_server, room_name) == {}
    spoken = float(re.findall(r"spoken_seconds=([\d.]+)", printed)[0])
    if again:
        assert (status, spoken < length) == (130, True)
    else:
        assert status == 0
        assert spoken == pytest.approx(length)


def test_it_refuses_what_would_not_be_safe(tmp_path: Path) -> None:
    for words, told in (
        (("--host", "0.0.0.0"), "needs api_keys"),
        (("--host", "avatars.example"), "needs api_keys"),
        (("--port", "99999"), "65535"),
        (("nowhere.yaml",), "nowhere.yaml"),
    ):
        status, printed = said(command("serve", *words, cwd=tmp_path))
        assert status == 2, printed
        assert told in printed
        assert "Traceback" not in printed


def test_a_port_that_is_taken(serve: Serve, tmp_path: Path) -> None:
    with serve(None) as (_, client):
        status, printed = said(command("serve", "--port", str(client.base_url.port), cwd=tmp_path))
        assert (status, "cannot be listened on" in printed) == (2, True)


def test_a_deployment_file_with_keys(serve: Serve, tmp_path: Path) -> None:
    made = said(command("serve", "--new-key", cwd=tmp_path))[1]
    key, digest = re.findall(r"^(?:key|hash) +(\S+)$", made, re.MULTILINE)
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    (tmp_path / "d.yaml").write_text(
        f"server: {{use: http, api_keys: ['{digest}', '${{OTHER_KEY}}'], sessions_per_key: 2}}\n"
        "limits: {max_sessions: 3}\n"
    )
    with serve(None, "d.yaml", OTHER_KEY="another-key-for-tests") as (_, client):
        for credential, status in ((key, 200), ("another-key-for-tests", 200), (digest, 401), ("no", 401)):
            reply = client.get("/v1/sessions", headers={"authorization": f"Bearer {credential}"})
            assert reply.status_code == status
        assert client.get("/health").json()["max_sessions"] == 3


@pytest.mark.slow
def test_random_requests(tmp_path: Path) -> None:
    """A small run of bench/http_fuzz.py, which asks each route a thousand times."""
    fuzz = [sys.executable, str(ROOT / "bench" / "http_fuzz.py"), "--requests", "12", "--no-livekit"]
    done = subprocess.run(fuzz, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 faults" in done.stdout
