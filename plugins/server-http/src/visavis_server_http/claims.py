"""What a room token says. LiveKit checks it when it is used; here it is read, to tell early what cannot work."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from visavis_server_http import wall
from visavis_server_http.errors import ApiError

LONGEST: Final = 16_384
_LEEWAY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RoomToken:
    """Who joins which room by a token; ``on_behalf`` is whom it speaks for, if the token says so."""

    identity: str
    room: str
    issuer: str
    on_behalf: str | None


def read_room_token(token: str, *, key: str | None = None, secret: str | None = None) -> RoomToken:
    """Read a token, and check its signature if it was made with ``key``.

    Raises ApiError 400: INVALID_LIVEKIT_TOKEN or LIVEKIT_TOKEN_EXPIRED. The token is not repeated.
    """
    claims = _claims(token)
    video = claims.get("video")
    grants = video if isinstance(video, dict) else {}
    identity, room, issuer = claims.get("sub"), grants.get("room"), claims.get("iss")
    if not isinstance(identity, str) or not identity:
        raise _bad("it names no identity (sub)")
    if not isinstance(room, str) or not room or grants.get("roomJoin") is not True:
        raise _bad("it lets nobody join a room (video.room, video.roomJoin)")
    if grants.get("canPublish") is False:
        raise _bad("it does not let its holder publish (video.canPublish)")
    _in_time(claims)
    issuer = issuer if isinstance(issuer, str) else ""
    if key and secret and issuer == key and not _signed(token, secret):
        raise _bad("its signature is not that of the LiveKit key it names")
    attributes = claims.get("attributes")
    behalf = attributes.get("lk.publish_on_behalf") if isinstance(attributes, dict) else None
    return RoomToken(identity, room, issuer, behalf if isinstance(behalf, str) and behalf else None)


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3 or not token.isascii():
        raise _bad("it is no JWT")
    try:
        read = json.loads(_decoded(parts[1]))
    except (ValueError, RecursionError):
        raise _bad("it is no JWT") from None
    if not isinstance(read, dict):
        raise _bad("it is no JWT")
    return read


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _in_time(claims: dict[str, Any]) -> None:
    now = wall.now().timestamp()
    expires, begins = claims.get("exp"), claims.get("nbf")
    if isinstance(expires, int | float) and expires < now - _LEEWAY_S:
        raise ApiError(400, "LIVEKIT_TOKEN_EXPIRED", "livekit_token has expired", {"parameter": "livekit_token"})
    if isinstance(begins, int | float) and begins > now + _LEEWAY_S:
        raise _bad("it is not valid yet (nbf): is a clock wrong?")


def _signed(token: str, secret: str) -> bool:
    signed, _, signature = token.rpartition(".")
    wanted = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    try:
        return hmac.compare_digest(_decoded(signature), wanted)
    except ValueError:
        return False


def _bad(why: str) -> ApiError:
    return ApiError(
        400, "INVALID_LIVEKIT_TOKEN", f"livekit_token cannot be used: {why}", {"parameter": "livekit_token"}
    )
