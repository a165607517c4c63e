"""The time of day, which LiveKit's playback events are stamped with. No medium is ever paced by it."""

from __future__ import annotations

import datetime


def wall_time() -> float:
    """Seconds since 1970, as ``playback_started`` wants them."""
    return datetime.datetime.now(datetime.UTC).timestamp()
