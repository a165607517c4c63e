"""The options of ``server: {use: http}``: models alone, nothing heavy is imported."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from visavis.component import ComponentConfig

from visavis_server_http.addresses import is_loopback, listed, livekit_origin

HASHED = re.compile(r"sha256:[0-9a-f]{64}\Z")
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _environment(name: str) -> Any:
    return Field(default_factory=lambda: os.environ.get(name) or None, validate_default=True)


def _keys_of_the_environment() -> list[dict[str, Any]]:
    return [{"key": key} for key in os.environ.get("VISAVIS_API_KEYS", "").replace(",", " ").split()]


class ApiKey(ComponentConfig):
    """One key that clients may show."""

    key: SecretStr
    """`sha256:` and 64 hexadecimal digits, as `visavis serve --new-key` prints it; or the key itself, from ${NAME}."""
    name: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """What the log calls it; by default its number."""
    max_sessions: Annotated[int, Field(ge=0)] | None = None
    """Sessions at once with this key; by default `sessions_per_key`."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Requests a minute with this key; by default `requests_per_minute`."""

    @field_validator("key")
    @classmethod
    def _usable(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if text.startswith("sha256:") and not HASHED.match(text):
            raise ValueError("after sha256: there must be 64 digits 0-9 a-f")
        if not text.strip() or text != text.strip() or len(text) > 512:
            raise ValueError("a key is 1 to 512 characters without blanks at its ends")
        return key


class ImageRules(ComponentConfig):
    """From where images may be fetched, once avatars can be made of them."""

    allow_private_addresses: bool = False
    """Whether an image may lie on this machine or in a private network."""


class HttpServerOptions(ComponentConfig):
    """Options of ``server: {use: http}``."""

    host: str = "127.0.0.1"
    """The address to listen on. Any other than a loopback address needs `api_keys`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """The port to listen on; 0 takes a free one."""
    api_keys: tuple[ApiKey, ...] = Field(default_factory=_keys_of_the_environment, validate_default=True)
    """Keys, hashed or from ${NAME}; by default those in VISAVIS_API_KEYS. Without any, every credential is taken."""
    sessions_per_key: Annotated[int, Field(ge=0)] | None = None
    """Sessions at once with one key; by default as many as the server takes."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Requests a minute with one key; by default without limit."""
    livekit_url: str | None = _environment("LIVEKIT_URL")
    """The LiveKit server of sessions that name none; by default LIVEKIT_URL."""
    livekit_public_url: str | None = _environment("LIVEKIT_PUBLIC_URL")
    """How browsers reach that LiveKit server, if otherwise than this server does; by default LIVEKIT_PUBLIC_URL."""
    livekit_api_key: str | None = _environment("LIVEKIT_API_KEY")
    """The key to mint room tokens with; by default LIVEKIT_API_KEY."""
    livekit_api_secret: SecretStr | None = _environment("LIVEKIT_API_SECRET")
    """Its secret; by default LIVEKIT_API_SECRET."""
    allow_livekit_urls: tuple[str, ...] = ()
    """Other LiveKit servers that may be dialled: wss://host:port, a host, *.domain, or * for any."""
    images: ImageRules = ImageRules()
    """From where images may be fetched."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 2**20
    """The longest request body, but for audio and images."""
    max_audio_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 32 * 2**20
    """The longest audio body that is taken whole; twenty times as much is taken as a stream."""
    max_image_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 16 * 2**20
    """The longest request body of a form that may bring an image."""
    max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32 * 2**10
    """The longest request line with its headers."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Connections at once; further ones are answered with 503."""
    header_timeout_s: Seconds = 10.0
    """How long the headers of a request may take."""
    body_timeout_s: Seconds = 30.0
    """How long the body of a request may take; audio that is streamed may take that long between two pieces."""
    start_timeout_s: Seconds = 30.0
    """How long a session may take to start."""
    load_ahead: Annotated[int, Field(ge=0, le=64)] = 1
    """How many avatars are loaded when the server starts, those of the folder before the sample avatar."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How long sentences that were begun may go on after SIGTERM."""
    keep_ended_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 3600.0
    """How long an ended session can still be looked up."""
    keep_ended: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """How many ended sessions can be looked up at most."""
    log_format: Literal["text", "json"] = "text"
    """How log records look on stderr."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on records are shown."""

    @field_validator("api_keys", mode="before")
    @classmethod
    def _spelled_short(cls, keys: Any) -> Any:
        """A key may be given as its text alone."""
        if isinstance(keys, list | tuple):
            return [{"key": key} if isinstance(key, str | SecretStr) else key for key in keys]
        return keys

    @field_validator("livekit_url", "livekit_public_url")
    @classmethod
    def _dialled(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None:
            try:
                livekit_origin(url)
            except ValueError as error:
                name = str(info.field_name)
                raise ValueError(f"{error} ({name}, or {name.upper()} of the environment)") from None
        return url

    @field_validator("allow_livekit_urls")
    @classmethod
    def _rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for rule in rules:
            listed(rule)
        return rules

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.open:
            return self
        if not is_loopback(self.host):
            raise ValueError(
                f"on {self.host} the server needs api_keys, or anyone who reaches it could use it: make one with "
                "`visavis serve --new-key`, or set VISAVIS_API_KEYS"
            )
        return self

    @property
    def open(self) -> bool:
        """Whether any credential or none will do."""
        return not self.api_keys

    @property
    def can_mint(self) -> bool:
        """Whether it has a LiveKit key to mint room tokens with."""
        return bool(self.livekit_api_key and self.livekit_api_secret)
