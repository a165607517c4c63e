"""Room tokens made with our own LiveKit key."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from visavis_server_http.errors import ApiError, invalid
from visavis_server_http.options import HttpServerOptions

VALID = datetime.timedelta(hours=6)


def mint(
    settings: HttpServerOptions,
    identity: str,
    room: str,
    *,
    name: str = "",
    kind: str = "standard",
    attributes: Mapping[str, str] | None = None,
    ttl: datetime.timedelta = VALID,
    **grants: Any,
) -> str:
    """A token for ``identity`` to join ``room``.

    ``grants`` are those of ``livekit.api.VideoGrants`` (``can_publish=False``, say); ``kind`` is ``standard`` or
    ``agent``. Raises ApiError 422 CANNOT_MINT_TOKENS without a LiveKit key.
    """
    from livekit import api

    key, secret = settings.livekit_api_key, settings.livekit_api_secret
    if not key or secret is None:
        message = "the server has no LiveKit key to make a token with: give livekit_token, or set LIVEKIT_API_KEY and "
        raise ApiError(422, "CANNOT_MINT_TOKENS", message + "LIVEKIT_API_SECRET where it runs")
    for what, text in (("identity", identity), ("room_name", room)):
        if not text.strip() or len(text) > 256:
            raise invalid(what, "1 to 256 characters")
    grant = api.VideoGrants(room_join=True, room=room, **grants)
    token = api.AccessToken(key, secret.get_secret_value()).with_identity(identity).with_grants(grant).with_ttl(ttl)
    if name:
        token = token.with_name(name)
    if kind == "agent":
        token = token.with_kind("agent")
    if attributes:
        token = token.with_attributes(dict(attributes))
    made: str = token.to_jwt()
    return made


def avatar_token(settings: HttpServerOptions, identity: str, room: str, *, serves: str | None, name: str = "") -> str:
    """A token for an avatar: it publishes on behalf of ``serves`` and may say so itself."""
    attributes = {"lk.publish_on_behalf": serves} if serves else {}
    return mint(settings, identity, room, name=name, kind="agent", attributes=attributes, can_update_own_metadata=True)
