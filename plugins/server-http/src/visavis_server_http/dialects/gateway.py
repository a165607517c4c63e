"""LiveKit Inference's avatar gateway, as ``livekit.agents.inference.AvatarSession(base_url=...)`` asks for it.

The client shows a JWT signed with the LiveKit key and names a room; the server mints the avatar's room token itself.
A create is repeated with the same Idempotency-Key; the terminate token proves that whoever ends a session began it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Final, Literal

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from visavis.interfaces.session import SessionLimits

from visavis_server_http.desk import Ask, Desk
from visavis_server_http.dialects.words import Given, Said, Secret, Words, needed
from visavis_server_http.errors import ApiError, invalid
from visavis_server_http.keys import Caller
from visavis_server_http.openapi import About, Parameter, route
from visavis_server_http.requests import Json, read_json

DIALECT = "gateway"
TAG = "LiveKit Inference"
SAMPLE_RATE: Final = 24_000
"""What the client is told to send. Most voices speak at that rate, and it is played as it comes."""
DEFAULT_AVATAR: Final = "mira"
LONGEST_S: Final = 7 * 86_400.0
LONGEST_KEY: Final = 255
LONGEST_NAME: Final = 256


class Create(Words):
    """A create; ``provider`` and ``room_name`` are needed, and any provider's name will do."""

    provider: Said = None
    """What stands before the slash of the client's model string."""
    livekit_url: Said = None
    """The LiveKit server; by default the server's own."""
    room_name: Said = None
    """The room."""
    room_sid: Said = None
    """The room's sid; not needed."""
    avatar_identity: Said = None
    """The avatar's identity; by default the provider's name and -inference-avatar."""
    avatar_name: Said = None
    """The avatar's name in the room."""
    agent_identity: Said = None
    """Whom it speaks for; without one anyone in the room may speak."""
    avatar_id: Said = None
    """Whose face: what stands after the slash."""
    image_url: Said = None
    """An image to make an avatar of: refused."""
    prompt: Said = None
    """Passed over."""
    idle_prompt: Said = None
    """Passed over."""
    idle_timeout_s: float | None = None
    """Seconds without speech after which it ends; the server's own limit counts too."""
    extra_kwargs: dict[str, Any] | None = None
    """Passed over."""


class Terminate(Words):
    """A terminate; the id and the token are needed."""

    provider: Said = None
    """As in the create."""
    provider_session_id: Said = None
    """What the create answered."""
    terminate_token: Secret = None
    """What the create answered."""


class Created(Given):
    """The avatar is in the room."""

    session_id: str
    """The session's id."""
    provider_session_id: str
    """The same id."""
    terminate_token: str
    """What a terminate must show."""
    sample_rate: int = SAMPLE_RATE
    """At which rate to send sound."""


class Terminated(Given):
    """The avatar has left."""

    status: Literal["terminated"] = "terminated"
    """Always."""
    provider_session_id: str
    """The session's id."""


def routes(desk: Desk) -> list[BaseRoute]:
    """The dialect's routes."""
    gateway = Gateway(desk)
    begin = About(
        "Start a session, in the words of LiveKit's inference gateway",
        TAG,
        body={"application/json": Create},
        replies={200: Created},
        errors=(403, 404, 409, 502, 503),
        parameters=(Parameter("Idempotency-Key", "header", "A retry with the same key finds the same session."),),
        security=("livekitToken",),
    )
    end = About(
        "End a session, in the words of LiveKit's inference gateway",
        TAG,
        body={"application/json": Terminate},
        replies={200: Terminated},
        errors=(403,),
        security=("livekitToken",),
    )
    at = "/avatar/sessions"
    return [
        route("POST", at, gateway.create_avatar_session, begin),
        route("POST", f"{at}/terminate", gateway.terminate_avatar_session, end),
        # A client's base_url may end in /v1, as LiveKit's own does.
        Route(f"/v1{at}", gateway.create_avatar_session, methods=["POST"]),
        Route(f"/v1{at}/terminate", gateway.terminate_avatar_session, methods=["POST"]),
    ]


class Gateway:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._key = secrets.token_bytes(32)

    def _proof_of(self, session_id: str) -> str:
        return hmac.new(self._key, session_id.encode(), hashlib.sha256).hexdigest()

    async def create_avatar_session(self, request: Request) -> Response:
        """Answered once the avatar is in the room. The same Idempotency-Key again finds the same session."""
        caller = caller_of(self._desk, request)
        ask = ask_of(self._desk, await read_json(request, Create))
        entry = await self._desk.start(ask, caller=caller, dialect=DIALECT, idempotency=_key_of(request))
        given = Created(session_id=entry.id, provider_session_id=entry.id, terminate_token=self._proof_of(entry.id))
        return Json(given.model_dump())

    async def terminate_avatar_session(self, request: Request) -> Response:
        """Answered once the avatar has left; a session that has ended already is no error."""
        caller = caller_of(self._desk, request)
        said = await read_json(request, Terminate)
        session_id = needed("provider_session_id", said.provider_session_id)
        shown = needed("terminate_token", said.terminate_token)
        if not hmac.compare_digest(self._proof_of(session_id).encode(), shown.encode()):
            raise ApiError(403, "INVALID_TERMINATE_TOKEN", "that is not the terminate_token of that session")
        try:
            await self._desk.stop(session_id, caller)
        except ApiError as error:
            if error.status != 404:  # it ended long ago and is forgotten: just what was asked for
                raise
        return Json(Terminated(provider_session_id=session_id).model_dump())


def caller_of(desk: Desk, request: Request) -> Caller:
    """Who asks, by a JWT that permits inference: one that lets a viewer join a room is none. Raises ApiError 401."""
    caller, claims = desk.authenticate_jwt(request)
    grant = claims.get("inference")
    if claims and not (isinstance(grant, dict) and grant.get("perform") is True):
        raise ApiError(401, "INVALID_TOKEN", "that token does not permit inference (its grant inference.perform)")
    return caller


def ask_of(desk: Desk, said: Create) -> Ask:
    """The create in the desk's words, with a token minted for the avatar. Raises ApiError 400, 403 or 422."""
    provider, room = needed("provider", said.provider), needed("room_name", said.room_name)
    if said.image_url:
        raise desk.image_refused(said.image_url)
    # First of all: a token signed with our key goes only where the server may dial.
    url = desk.livekit_url(said.livekit_url)
    identity = said.avatar_identity or f"{provider}-inference-avatar"
    behalf = {"lk.publish_on_behalf": said.agent_identity} if said.agent_identity else {}
    name = said.avatar_name or identity
    for what, text in (("provider", provider), ("avatar_name", name), ("agent_identity", said.agent_identity or "")):
        if len(text) > LONGEST_NAME:
            raise invalid(what, f"at most {LONGEST_NAME} characters")
    token = desk.mint(
        identity,
        room,
        name=name,
        kind="agent",
        attributes={**behalf, "lk.avatar_provider": provider},
        can_update_own_metadata=True,
    )
    return Ask(
        avatar=said.avatar_id or DEFAULT_AVATAR,
        livekit_url=url,
        livekit_token=SecretStr(token),
        identity=said.agent_identity,
        room=room,
        limits=limits_of(said.idle_timeout_s),
        replace=True,  # an agent that was restarted asks for the same identity again
    )


def limits_of(idle_timeout_s: float | None) -> SessionLimits:
    """The client's wish; none, or one that is not above 0, leaves it to the server."""
    wish = idle_timeout_s if idle_timeout_s is not None and idle_timeout_s > 0 else None
    return SessionLimits(idle_timeout_s=None if wish is None else min(wish, LONGEST_S))


def _key_of(request: Request) -> str | None:
    key = request.headers.get("idempotency-key") or None
    if key is not None and len(key) > LONGEST_KEY:
        raise invalid("Idempotency-Key", f"at most {LONGEST_KEY} characters")
    return key
