"""Tokens are read for what they say, and shown to nobody."""

from __future__ import annotations

import logging

import pytest
from visavis.testing.livekit.server import KEY, SECRET
from visavis_transport_livekit import joining
from visavis_transport_livekit import token as tokens


def made(**claims: str) -> str:
    from livekit import api

    grants = api.VideoGrants(room_join=True, room="the-room")
    return str(api.AccessToken(KEY, SECRET).with_identity("me").with_grants(grants).with_attributes(claims).to_jwt())


def test_a_token_says_who_where_and_for_whom() -> None:
    claims = tokens.read(made(**{"lk.publish_on_behalf": "agent"}))
    assert claims == tokens.Claims("me", "the-room", {"lk.publish_on_behalf": "agent"})


@pytest.mark.parametrize("text", ["", "hello", "a.b", "a.b.c", "a.!!!.c", "eyJ.W10.x", "e.e30=.s"])
def test_what_is_no_token_says_nothing(text: str) -> None:
    assert tokens.read(text) in (None, tokens.Claims())


def test_no_error_shows_a_token() -> None:
    token = made()
    for said in (
        f"engine: signal failure: client error: 401 Unauthorized - invalid token: {token}, error: token is expired",
        f"something new about wss://host/rtc?access_token={token}&sdk=python",
        f"odd {token[:-5]}",
    ):
        error = joining.explained(said, f"wss://host/rtc?access_token={token}", token)
        assert token[20:60] not in f"{error} {error!r} {error.hint}"


@pytest.mark.parametrize(
    ("said", "word", "final"),
    [
        (
            "client error: 401 Unauthorized - invalid token: x, error: token has invalid claims: token is expired",
            "expired",
            True,
        ),
        ("client error: 401 Unauthorized - invalid token: x, error: signature is invalid", "another secret", True),
        ("client error: 401 Unauthorized - invalid API key: k", "API key", True),
        ("client error: 401 Unauthorized - permissions denied", "does not allow to join", True),
        ("client error: 401 Unauthorized - invalid authorization token", "not a LiveKit token", True),
        ("transport connection error: IO error: Connection refused (os error 111)", "nothing answers", False),
        ("IO error: failed to lookup address information: Name or service not known", "not known", False),
        ("signal connection timed out", "in time", False),
        ("wait_pc_connection timed out", "media path", False),
    ],
)
def test_what_the_sdk_says_becomes_a_sentence(said: str, word: str, final: bool) -> None:
    error = joining.explained(f"engine: signal failure: {said}", "ws://host:7880", made())
    assert word in error.message
    assert "the-room at ws://host:7880" in error.message
    assert error.hint
    assert isinstance(error, joining.Refused) is final


def test_the_sdks_own_log_shows_no_token(caplog: pytest.LogCaptureFixture) -> None:
    tokens.keep_out_of_logs()
    tokens.keep_out_of_logs()
    token = made()
    with caplog.at_level(logging.INFO, "livekit"):
        logging.getLogger("livekit").error("%s:%s - %s", "engine", 5, f"401 invalid token: {token}, expired")
    assert token[20:60] not in caplog.text
    assert "invalid token: <token>, expired" in caplog.text
