"""The options of the LiveKit transport."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from visavis.component import ComponentConfig


class VideoCodec(StrEnum):
    """How the picture is compressed."""

    VP8 = "vp8"
    H264 = "h264"
    VP9 = "vp9"
    AV1 = "av1"


class LiveKitTransportOptions(ComponentConfig):
    """How avatars join rooms and what they publish there: the same for all sessions."""

    video_codec: VideoCodec = VideoCodec.VP8
    """How the picture is compressed. H.264 takes two thirds of VP8's processor time, and more bits for the same
    picture."""
    max_bitrate: int = Field(default=700_000, ge=100_000, le=50_000_000)
    """Bits a second of the picture, at most. A talking face is within 46 dB of what was drawn at 700,000; more costs
    processor time, less is seen at the lips. Without a figure LiveKit would shrink and slow a picture of 512x512."""
    audio_bitrate: int = Field(default=80_000, ge=6_000, le=510_000)
    """Bits a second of the sound (Opus), for each channel. Below about 76,000 Opus codes a voice by its speech coder,
    SILK, which takes three times the processor time of CELT, its coder of all sounds."""
    audio_rate: Literal[16_000, 24_000, 48_000] = 48_000
    """Hz of the published sound. Opus works at 48,000: at that rate the sound is converted once, by the pipeline."""
    audio_channels: Literal[1, 2] = 1
    """1 is what speech needs; 2 keeps a stereo source as it is."""
    audio_redundancy: bool = True
    """Send each packet of sound twice (RED), so that a lost one is not heard."""
    audio_dtx: bool = True
    """Send a packet of silence each 400 ms instead of each 20 (DTX), as LiveKit's SDKs do by default. A receiver's
    buffer shrinks unheard in such a pause. false keeps faint background noise as it is."""
    lead_ms: int = Field(default=40, ge=10, le=200)
    """Milliseconds of sound in front of the encoder, against this process being late. More is safer, and later."""
    most_lead_ms: int = Field(default=100, ge=10, le=400)
    """As far as the lead grows by itself on a machine that is often late."""
    join_timeout_s: float = Field(default=15.0, gt=0, le=120)
    """Seconds in which a room must have been joined."""
    agent_grace_s: float = Field(default=3.0, ge=0, le=3600)
    """Seconds after which the avatar leaves once the agent that it serves has left and not come back."""
    pulse_s: float | None = Field(default=2.0, ge=0.5, le=60)
    """Seconds between two calls to the agent: LiveKit itself notices only after 20 s that it was killed. null: none."""
    empty_grace_s: float | None = Field(default=60.0, ge=0, le=86_400)
    """Seconds after which the avatar leaves a room where nobody is, or its agent never came. null: it stays."""
    rejoin_timeout_s: float = Field(default=30.0, ge=0, le=600)
    """Seconds for which a room is joined anew once LiveKit's own attempts to reconnect have failed. 0: never."""
    reconnect_grace_s: float = Field(default=15.0, ge=0, le=600)
    """Seconds after a reconnection in which the others, who lost the room too, may come back before they are missed."""


class LiveKitSessionOptions(ComponentConfig):
    """The room that a session's avatar joins. Needless where the session is given a joined room."""

    url: str = ""
    """LiveKit's address: ws://host:port or wss://host."""
    token: SecretStr = SecretStr("")
    """The avatar's token for that room."""
    agent: str = ""
    """Identity of the agent that it speaks for; by default the token's attribute lk.publish_on_behalf."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        if url and not url.startswith(("ws://", "wss://", "http://", "https://")):
            raise ValueError("must begin with ws:// or wss://")
        return url.strip()
