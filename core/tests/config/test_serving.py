"""What a server runs when little or nothing is said, and that secrets of a request stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from visavis.config import Deployment, serving_deployment
from visavis.errors import ConfigError
from visavis.interfaces.session import SessionRequest
from visavis.registry import Registry

Load = Callable[..., Deployment]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhdmF0YXIifQ.c2lnbmF0dXJl"


def names(made: Deployment) -> dict[str, str]:
    return {part.kind.value: part.name for part in made.parts()}


def test_nothing_said_means_rooms_and_a_server(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = serving_deployment(registry)
    assert names(made) == {
        "store": "filesystem",
        "source": "datastream",
        "renderer": "onnxruntime",
        "transport": "livekit",
        "server": "http",
        "launcher": "local",
    }
    assert made.store.config.root == Path("avatars")  # type: ignore[attr-defined]  # the option has its own default
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    made = serving_deployment(registry)
    assert made.store.config.root == tmp_path / "assets" / "avatars"  # type: ignore[attr-defined]


def test_a_file_that_says_little_is_completed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "there"
    (folder / "assets" / "avatars").mkdir(parents=True)
    (folder / "d.yaml").write_text(
        "limits: {idle_timeout_s: null, max_duration_s: 300}\nprewarm: [mira, leo, mira]\nserver: {use: http, port: 1}"
    )
    made = serving_deployment(registry, folder / "d.yaml")
    assert names(made)["transport"] == "livekit"
    assert made.store.config.root == folder / "assets" / "avatars"  # type: ignore[attr-defined]
    assert (made.limits.idle_timeout_s, made.limits.max_duration_s) == (None, 300.0)
    assert made.prewarm == ("mira", "leo")
    (folder / "d.yaml").write_text("store: {use: filesystem, root: own}")
    assert serving_deployment(registry, folder / "d.yaml").store.config.root == folder / "own"  # type: ignore[attr-defined]


@pytest.mark.parametrize("said", ["mira", "{a: 1}", "[1]", "['']"])
def test_prewarm_is_a_list_of_ids(report: Callable[..., str], said: str) -> None:
    assert "a list of avatar ids is wanted" in report(f"prewarm: {said}")


def test_a_request_never_shows_its_token() -> None:
    request = SessionRequest(
        transport={"url": "wss://name:passw0rd@host", "token": TOKEN, "more": [{"api_secret": TOKEN}]}
    )
    for shown in (repr(request), str(request), f"{[request]}", repr(request.model_copy())):
        assert TOKEN not in shown
        assert "passw0rd" not in shown
        assert "wss://name:***@host" in shown
    assert SessionRequest.model_validate_json(request.model_dump_json()) == request
    assert request.model_dump()["transport"]["token"] == TOKEN
    with pytest.raises(ValidationError) as caught:
        SessionRequest(transport={"token": TOKEN}, avatar="")
    assert TOKEN not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        SessionRequest(transport=TOKEN)  # type: ignore[arg-type]
    assert TOKEN not in str(caught.value)


def test_refused_options_do_not_quote_the_token(load: Load) -> None:
    made = load(
        "source: {use: datastream}\ntransport: {use: livekit}\nsession: {transport: {room: r, token: some-other-token}}"
    )
    assert "some-other-token" not in repr(made)
    assert made.session is not None
    for wrong in ({"token": TOKEN}, {"room": "r", "token": [TOKEN]}, {"room": "r", "tokn": TOKEN, "url": TOKEN}):
        with pytest.raises(ConfigError) as caught:
            made.transport.session_options(wrong)
        assert TOKEN not in str(caught.value)
