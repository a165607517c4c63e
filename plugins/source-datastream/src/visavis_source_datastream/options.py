"""The options of the data stream source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from visavis.component import ComponentConfig
from visavis.media import MAX_CHANNELS, MAX_RATE, MIN_RATE


class DataStreamOptions(ComponentConfig):
    """What a deployment tells the source: who waits for whom, what a bare stream holds, and how much is taken."""

    policy: Literal["queue", "replace", "refuse"] = "queue"
    """Where anyone may speak: a second participant waits its turn, takes the floor, or is refused."""
    sample_rate: int = Field(default=24_000, ge=MIN_RATE, le=MAX_RATE)
    """Hz of a stream that does not name its rate."""
    num_channels: int = Field(default=1, ge=1, le=MAX_CHANNELS)
    """Channels of a stream that does not name their number."""
    max_segment_s: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds of sound that one stream may bring."""
    max_buffered_mb: float = Field(default=64.0, gt=0, le=4_096)
    """Megabytes of sound that may wait to be spoken, in one session."""
    max_streams: int = Field(default=64, ge=1, le=4_096)
    """Streams of one sender that may be open or wait to be spoken."""
    max_streams_total: int = Field(default=256, ge=1, le=16_384)
    """Streams of all senders that may be open or wait to be spoken."""
    max_streams_per_second: float = Field(default=20.0, gt=0, le=10_000)
    """Streams that one sender may open in a second, once it has opened ``max_streams`` at one go."""
    stalled_s: float = Field(default=10.0, gt=0, le=600)
    """Seconds without a byte after which an open stream counts as ended."""


class DataStreamSessionOptions(ComponentConfig):
    """What a session tells the source."""

    identity: str | None = Field(default=None, min_length=1, max_length=1_024)
    """The participant it speaks for. Left out: the one that the avatar's own attribute ``lk.publish_on_behalf`` names;
    where there is none, anyone in the room may speak."""
