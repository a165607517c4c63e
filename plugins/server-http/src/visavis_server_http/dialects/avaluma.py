"""Avaluma's server, as its LiveKit plugin asks for it: ``/v1/livekit/start-avatar`` and ``stop-avatar``.

The plugin makes the avatar's token itself (identity ``avatar-{avatar_id}``, with ``lk.publish_on_behalf``) and repeats
a request after any refusal, so one token starts one session. Older plugins spell two fields differently.
"""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from visavis_server_http.desk import Ask, Desk
from visavis_server_http.dialects.words import Given, Said, Secret, Words, needed
from visavis_server_http.errors import ApiError
from visavis_server_http.keys import Caller
from visavis_server_http.openapi import About, route
from visavis_server_http.requests import Json, read_json

DIALECT = "avaluma"
TAG = "Avaluma"


class StartAvatar(Words):
    """A start, as both generations of the plugin spell it; all but the room's name and the keys is needed."""

    livekit_url: Said = None
    """The LiveKit server."""
    livekit_token: Secret = None
    """The token that the avatar joins with."""
    avaluma_avatar_id: Said = None
    """Whose face."""
    livekit_room_name: Said = None
    """The room; the token's word counts."""
    avaluma_key: Secret = None
    """The key once more; the header counts."""
    avaluma_license_key: Secret = None
    """The same from older plugins."""


class StopAvatar(Words):
    """A stop."""

    session_id: Said = None
    """What start-avatar answered."""


class Started(Given):
    """The avatar is in the room."""

    session_id: str
    """For stop-avatar."""
    status: Literal["started"] = "started"
    """Always."""
    avatar_participant_identity: str
    """Its identity in the room."""


class Stopped(Given):
    """The avatar has left."""

    status: Literal["stopped"] = "stopped"
    """Always."""


def routes(desk: Desk) -> list[BaseRoute]:
    """The dialect's routes."""

    async def start_avatar(request: Request) -> Response:
        """Answered once the avatar is in the room. The same token again finds the same session."""
        caller = caller_of(desk, request)
        said = await read_json(request, StartAvatar)
        ask = Ask(
            avatar=needed("avaluma_avatar_id", said.avaluma_avatar_id),
            livekit_url=needed("livekit_url", said.livekit_url),
            livekit_token=SecretStr(needed("livekit_token", said.livekit_token)),
            room=said.livekit_room_name,
        )
        entry = await desk.start(ask, caller=caller, dialect=DIALECT)
        given = Started(session_id=entry.id, avatar_participant_identity=entry.participant)
        return Json(given.model_dump())

    async def stop_avatar(request: Request) -> Response:
        """Answered once the avatar has left; a session that has ended already is no error."""
        caller = caller_of(desk, request)
        said = await read_json(request, StopAvatar)
        await desk.stop(needed("session_id", said.session_id), caller)
        return Json(Stopped().model_dump())

    begin = About(
        "Start a session, in Avaluma's words",
        TAG,
        body={"application/json": StartAvatar},
        replies={200: Started},
        errors=(403, 404, 409, 502, 503),
        security=("apiSecret",),
    )
    end = About(
        "End a session, in Avaluma's words",
        TAG,
        body={"application/json": StopAvatar},
        replies={200: Stopped},
        errors=(403, 404),
        security=("apiSecret",),
    )
    return [
        route("POST", "/v1/livekit/start-avatar", start_avatar, begin),
        route("POST", "/v1/livekit/stop-avatar", stop_avatar, end),
    ]


def caller_of(desk: Desk, request: Request) -> Caller:
    """Who asks, by the header ``api-secret``. Raises ApiError 401 without it, 403 INVALID_LICENSE, or 429."""
    return desk.authenticate_secret(
        request.headers.get("api-secret"),
        missing=ApiError(401, "MISSING_API_SECRET", "the header api-secret is missing"),
        invalid=ApiError(403, "INVALID_LICENSE", "that api-secret is not one of this server's API keys"),
    )
