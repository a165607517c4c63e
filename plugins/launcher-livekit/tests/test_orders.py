"""What a job is told: everything that a session needs, and nothing that others may not know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from livekit import api
from pydantic import SecretStr
from visavis.errors import ConfigError, TransportError
from visavis.interfaces.session import SessionLimits, SessionRequest
from visavis_launcher_livekit.command import options_of
from visavis_launcher_livekit.launcher import DispatchLauncher
from visavis_launcher_livekit.options import DispatchOptions
from visavis_launcher_livekit.order import (
    MOST_METADATA,
    Order,
    Participant,
    metadata_of,
    participant_of,
    read_metadata,
    token_of,
)

SECRET = "a-secret-of-at-least-32-characters-"
OPTIONS = DispatchOptions(url="ws://127.0.0.1:7880", api_key="key", api_secret=SecretStr(SECRET))


def given(secret: str = SECRET, **grants: Any) -> str:
    """A client's token."""
    token = api.AccessToken("key", secret).with_identity("face").with_kind("agent").with_name("Face")
    token = token.with_grants(api.VideoGrants(**{"room_join": True, "room": "r", **grants}))
    return str(token.with_attributes({"lk.publish_on_behalf": "agent"}).to_jwt())


def test_a_request_goes_through_metadata_without_its_token() -> None:
    token = given(can_publish_sources=["camera", "microphone"])
    request = SessionRequest(
        avatar="ada",
        seed=3,
        source={"identity": "agent"},
        transport={"url": "ws://here", "token": SecretStr(token), "agent": "agent"},
        limits=SessionLimits(max_duration_s=60),
    )
    who, room = participant_of(OPTIONS, token)
    order = Order(id="s1", server="server-1", participant=who, inherited={"datastream": {"agent": [[1.5, True]]}})
    text = metadata_of(request, order)
    assert token not in text
    assert "eyJ" not in text
    again, told = read_metadata(text)
    assert again == request.model_copy(update={"transport": {"agent": "agent"}})
    assert told == order
    made = api.TokenVerifier("key", SECRET).verify(token_of(OPTIONS, told.participant, room).get_secret_value())
    was = api.TokenVerifier("key", SECRET).verify(token)
    assert (made.identity, made.name, made.kind, made.attributes) == (was.identity, was.name, "agent", was.attributes)
    assert made.video is not None
    assert (made.video.room, made.video.can_publish_sources) == ("r", ["camera", "microphone"])
    assert not made.video.room_admin


@pytest.mark.parametrize(
    "token", [given(secret="another-secret-of-at-least-32-chars"), given(room_join=False), "x.y.z", ""]
)
def test_a_token_that_nobody_vouches_for_is_not_made_anew(token: str) -> None:
    with pytest.raises(TransportError) as caught:
        participant_of(OPTIONS, token)
    assert token == "" or token not in str(caught.value)


def test_secrets_and_floods_do_not_go_through_a_dispatch() -> None:
    order = Order(id="s")
    with pytest.raises(ConfigError, match=r"source\.api_key is a secret"):
        metadata_of(SessionRequest(source={"api_key": "k"}), order)
    with pytest.raises(ConfigError, match="bytes"):
        metadata_of(SessionRequest(source={"x": "y" * MOST_METADATA}), order)


@pytest.mark.parametrize("text", ["7", "no json", '{"avatar": 7}', '{"nope": 1}', '{"visavis": 3}', "x" * 70_000])
def test_metadata_that_is_no_request_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_metadata(text)
    assert text not in str(caught.value)


def test_a_bare_request_is_enough_and_nothing_at_all_is_the_sample_avatar() -> None:
    request, order = read_metadata(json.dumps({"avatar": "ada", "transport": {"agent": "me"}}))
    assert (request.avatar, request.transport, order) == ("ada", {"agent": "me"}, Order())
    assert read_metadata("")[0] == SessionRequest()
    assert Participant().kind == "agent"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    none: Any = type("None_", (), {"launcher": None})
    with pytest.raises(ConfigError, match="url, api_key, api_secret"):
        DispatchLauncher(DispatchOptions(), none)
    with pytest.raises(ConfigError, match="a worker needs a LiveKit server"):
        options_of(none, "mine")
