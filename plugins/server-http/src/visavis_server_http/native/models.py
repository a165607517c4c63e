"""What the native API takes and gives."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from visavis.interfaces.session import SessionLimits

Name = Field(min_length=1, max_length=256)


class Taken(BaseModel):
    """What a client sends: names that are not known are refused, so that a slip is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NewSession(Taken):
    """A session to be started. Give ``livekit_token``, or ``room_name`` where the server has a LiveKit key."""

    avatar_id: str = Field(min_length=1, max_length=200)
    """Whose face: see GET /v1/avatars."""
    livekit_url: str | None = Field(default=None, min_length=1, max_length=2048)
    """The LiveKit server, ws:// or wss://; by default the server's own LIVEKIT_URL."""
    livekit_token: SecretStr | None = Field(default=None, min_length=1, max_length=16_384)
    """The token that the avatar joins with."""
    room_name: str | None = Field(default=None, min_length=1, max_length=256)
    """The room, if the server is to make the token."""
    avatar_identity: str | None = Field(default=None, min_length=1, max_length=256)
    """Under which identity it joins then; by default avatar- and the avatar's id."""
    avatar_name: str | None = Field(default=None, min_length=1, max_length=256)
    """Under which name it joins then."""
    agent_identity: str | None = Field(default=None, min_length=1, max_length=256)
    """Whom it speaks for. By default the token's lk.publish_on_behalf; without one anyone in the room may speak."""
    idle_timeout_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    """Seconds without speech after which it ends; the server's own limit counts too."""
    max_duration_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    """Seconds after which it ends, once the sentence is over; the server's own limit counts too."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Where blinks and glances start from."""
    replace: bool = False
    """End a session of yours that has the same identity in the same room, instead of refusing."""

    @property
    def limits(self) -> SessionLimits:
        """As the core knows them."""
        return SessionLimits(idle_timeout_s=self.idle_timeout_s, max_duration_s=self.max_duration_s)


class NewAvatar(Taken):
    """Another face for a running session."""

    avatar_id: str = Field(min_length=1, max_length=200)
    """Whose face: its pictures must be of the same size and rate."""


class Given(BaseModel):
    """What the server sends."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class LimitsGiven(Given):
    """The limits that apply; null: none."""

    idle_timeout_s: float | None
    """Seconds without speech."""
    max_duration_s: float | None
    """Seconds in all."""


class StatsGiven(Given):
    """What a session has done so far."""

    frames: int
    """Pictures shown."""
    idle_frames: int
    """Of these, without speech."""
    late_frames: int
    """Pictures that were not ready in time."""
    dropped_frames: int
    """Pictures that were left out."""
    segments: int
    """Utterances that ended."""
    spoken_s: float
    """Seconds of speech that were played."""
    shown_s: float
    """Seconds of media given out."""
    first_frame_s: float | None
    """Seconds until the first picture."""
    state: str
    """starting, running, closing or closed."""


class SessionGiven(Given):
    """A session."""

    id: str
    """Its id."""
    status: Literal["starting", "running", "completed", "failed", "cancelled"]
    """Where it stands; cancelled is what a client stopped."""
    avatar_id: str
    """Whose face is shown."""
    room_name: str
    """The room it is in."""
    avatar_identity: str
    """Its own identity in the room."""
    agent_identity: str | None
    """Whom it speaks for; null: anyone in the room."""
    dialect: str
    """In whose words it was asked for."""
    limits: LimitsGiven
    """The limits that apply: the request's and the server's together."""
    created_at: str
    """When it was asked for (UTC)."""
    started_at: str | None
    """Since when it has run (UTC)."""
    ended_at: str | None
    """When it ended (UTC)."""
    reason: str | None
    """Why it ended."""
    error: str | None
    """What went wrong, if something did."""
    stats: StatsGiven | None = None
    """Its figures; null in lists."""


class SessionsGiven(Given):
    """Your sessions, newest first; ended ones are forgotten after a while."""

    sessions: list[SessionGiven]
    """The sessions."""


class SpeechGiven(Given):
    """An utterance."""

    segment: str | None
    """Its id in the session; null if it was dropped before its turn came."""
    status: Literal["accepted", "played", "interrupted"]
    """accepted: it will be played; the others need ?wait=true."""
    seconds: float
    """How long it is, as far as it was read."""
    position_s: float | None = None
    """How much of it was played."""


class InterruptGiven(Given):
    """An interrupt."""

    status: Literal["interrupted"] = "interrupted"
    """Nothing is being said any more."""


class AvatarGiven(Given):
    """An avatar."""

    id: str
    """Its id: the file's name without .hvia."""
    name: str
    """Its name."""
    size: int
    """Bytes of its file."""
    digest: str
    """SHA-256 of its file; empty if it cannot be used."""
    builtin: bool
    """Whether it came with the server."""
    usable: bool
    """Whether sessions can be started with it."""
    problem: str | None
    """Why not, otherwise."""


class AvatarsGiven(Given):
    """The avatars."""

    avatars: list[AvatarGiven]
    """By id, those that cannot be used included."""


class HealthGiven(Given):
    """The process lives."""

    status: Literal["healthy"] = "healthy"
    """Always."""
    service: Literal["visavis"] = "visavis"
    """What this is."""
    version: str
    """Its version."""
    active_sessions: int
    """Sessions that start or run."""
    max_sessions: int | None
    """The most it takes; null where no number is known yet."""


class ReadyGiven(Given):
    """Whether a session would be started now."""

    status: Literal["ready", "not_ready", "at_capacity"]
    """ready with 200; otherwise 503."""
    model_ready: bool
    """Whether avatars can be drawn."""
    active_sessions: int
    """Sessions that start or run."""
    available_sessions: int | None
    """How many more it takes; null where no number is known yet."""
    max_sessions: int | None
    """The most it takes; null where no number is known yet."""
    error: str | None = None
    """Why not."""
    code: str | None = None
    """Why not, for programs."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What else there is to know."""
