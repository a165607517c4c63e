"""What a job is told: a SessionRequest as JSON, without a token. And the tokens themselves, checked here, made there.

Job metadata can be read by whoever holds the LiveKit API key (or a roomAdmin token), and LiveKit's own libraries log it
in places; participants of the room never see it. So it holds no token: the server checks the one that it was given and
passes on what it grants, and the worker, which has the same API key, makes an equal one.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict
from typing import Any, Final

from livekit import api
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from visavis.component import looks_secret
from visavis.errors import ConfigError, TransportError
from visavis.interfaces.session import SessionRequest
from visavis.remote.telling import told_request

from visavis_launcher_livekit.options import DispatchOptions

VALID: Final = datetime.timedelta(hours=6)
MOST_METADATA: Final = 60_000
"""Bytes of job metadata that are taken."""
OURS: Final = ("url", "token")
"""Options of the transport that the worker fills in."""


class Participant(BaseModel):
    """Who the avatar is in its room: what its token says."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    identity: str = ""
    kind: str = "agent"
    """``agent`` or ``standard``. LiveKit closes a room in which only agents are left."""
    name: str = ""
    metadata: str = ""
    attributes: dict[str, str] = Field(default_factory=dict)
    grants: dict[str, Any] = Field(default_factory=dict)


class Order(BaseModel):
    """A job's metadata: the fields of a SessionRequest, and what a supervising server says besides.

    Whoever dispatches by hand gives a SessionRequest alone.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(default="", max_length=64)
    """The session's id; by default the job's."""
    server: str = Field(default="", max_length=256)
    """The identity in the control room of the server that follows the session."""
    attempt: int = 0
    """Which offer of the session this is: only one is taken up, and the server that follows the session says which."""
    below: float = 1.0
    """Only workers that are less full than this take the session; 1 is full."""
    participant: Participant = Participant()
    inherited: dict[str, Any] = Field(default_factory=dict)
    """What a session of the same id left whose worker died."""


def metadata_of(request: SessionRequest, order: Order) -> str:
    """A job's metadata. Raises ConfigError if it would hold a secret, or too much."""
    told = told_request(request)
    told["transport"] = {name: value for name, value in told["transport"].items() if name not in OURS}
    for section in ("source", "transport", "renderer"):
        for name, value in told[section].items():
            if looks_secret(name) and value is not None:
                raise ConfigError(f"{section}.{name} is a secret and cannot go through a dispatch")
    text = SessionRequest.model_validate(told).model_dump_json()[:-1] + ',"visavis":' + order.model_dump_json() + "}"
    if len(text.encode()) > MOST_METADATA:
        raise ConfigError(f"a session's options may have {MOST_METADATA} bytes in all")
    return text


def read_metadata(text: str) -> tuple[SessionRequest, Order]:
    """The request and the order of a job's metadata. Raises ConfigError with the reason, without what was there."""
    if len(text.encode()) > MOST_METADATA:
        raise ConfigError(f"the job's metadata has more than {MOST_METADATA} bytes")
    try:
        told = _Metadata.model_validate_json(text or "{}")
        request = SessionRequest.model_validate(told.model_extra or {})
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in found['loc']) or 'it'}: {found['msg']}" for found in error.errors()[:3]
        )
        raise ConfigError(
            f"the job's metadata is no session request: {said}", hint='give JSON such as {"avatar": "mira"}'
        ) from None
    return request, told.visavis


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    visavis: Order = Order()


def participant_of(options: DispatchOptions, token: str) -> tuple[Participant, str]:
    """Who a token makes of its bearer, and the room that it is for.

    Raises TransportError unless it was signed with the API key of this launcher: what it says is made a token again.
    """
    assert options.api_secret is not None
    try:
        claims = api.TokenVerifier(options.api_key, options.api_secret.get_secret_value()).verify(token)
    except Exception as error:  # noqa: BLE001 - the verifier raises what its JWT library does
        raise TransportError(
            f"the avatar's token cannot be used: {type(error).__name__}",
            hint="it must be valid and signed with the LiveKit API key of this launcher",
        ) from None
    if claims.video is None or not claims.video.room_join or not claims.video.room or not claims.identity:
        raise TransportError("the avatar's token is for no room", hint="grant roomJoin for a room")
    grants = {name: value for name, value in asdict(claims.video).items() if value is not None}
    who = Participant(
        identity=claims.identity,
        kind=claims.kind or "standard",
        name=claims.name,
        metadata=claims.metadata,
        attributes=claims.attributes or {},
        grants={name: value for name, value in grants.items() if name not in ("room", "room_join")},
    )
    return who, claims.video.room


def token_of(options: DispatchOptions, who: Participant, room: str, *, valid: datetime.timedelta = VALID) -> SecretStr:
    """A token for a participant to join a room, made with our API key."""
    assert options.api_secret is not None
    grants = {"can_update_own_metadata": True, **who.grants, "room": room, "room_join": True}
    token = (
        api.AccessToken(options.api_key, options.api_secret.get_secret_value())
        .with_identity(who.identity)
        .with_kind("standard" if who.kind == "standard" else "agent")
        .with_grants(api.VideoGrants(**grants))
        .with_ttl(valid)
    )
    if who.name:
        token = token.with_name(who.name)
    if who.metadata:
        token = token.with_metadata(who.metadata)
    if who.attributes:
        token = token.with_attributes(who.attributes)
    return SecretStr(token.to_jwt())
