"""The options of ``livekit-dispatch``, for servers and for workers: the same section serves both."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from visavis.component import ComponentConfig


def _environment(name: str) -> Any:
    return Field(default_factory=lambda: os.environ.get(name) or None, validate_default=True)


class DispatchOptions(ComponentConfig):
    """How servers and workers find each other: through one LiveKit server, whose API key both have."""

    url: str | None = _environment("LIVEKIT_URL")
    """The LiveKit server; by default LIVEKIT_URL."""
    api_key: str | None = _environment("LIVEKIT_API_KEY")
    """Its API key; by default LIVEKIT_API_KEY."""
    api_secret: SecretStr | None = _environment("LIVEKIT_API_SECRET")
    """The key's secret; by default LIVEKIT_API_SECRET."""
    agent_name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")] = "visavis"
    """The name under which workers are dispatched."""
    control_room: Annotated[str, Field(max_length=256)] = ""
    """The room in which servers and workers talk; by default ``visavis-control-`` and the agent's name."""
    await_workers_s: float = Field(default=5.0, ge=0, le=600)
    """Seconds that a server waits at its start for a first worker to be heard; it then goes on without."""
    take_timeout_s: float = Field(default=3.0, gt=0, le=60)
    """Seconds in which a worker must have taken a session; then it is dispatched anew."""
    start_timeout_s: float = Field(default=20.0, gt=0, le=600)
    """Seconds in which a session must have been taken and started."""
    silence_s: float = Field(default=2.0, ge=1, le=60)
    """Seconds without a sign of life after which a worker counts as dead and its sessions are dispatched anew."""
    hang_s: float = Field(default=10.0, ge=1, le=600)
    """Seconds with one call of its renderer after which a worker counts as hung."""
    drain_timeout_s: float = Field(default=30.0, ge=0, le=86_400)
    """Seconds that a worker which is told to stop gives its sessions to end; the rest goes to other workers."""
    health_host: str = "127.0.0.1"
    """The address of a worker's health check; in a container 0.0.0.0."""
    health_port: int = Field(default=0, ge=0, le=65_535)
    """The port of a worker's health check (``GET /``); 0 takes a free one."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        if url and not url.startswith(("ws://", "wss://", "http://", "https://")):
            raise ValueError("must begin with ws:// or wss://")
        return url

    @property
    def room(self) -> str:
        """The room in which servers and workers talk."""
        return self.control_room or f"visavis-control-{self.agent_name}"
