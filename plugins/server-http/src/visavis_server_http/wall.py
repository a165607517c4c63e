"""The time of day, for what people and other programs read: never for timing media."""

from __future__ import annotations

import datetime


def now() -> datetime.datetime:
    """The time of day in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(moment: datetime.datetime | None) -> str | None:
    """ISO 8601 with milliseconds and a Z; None stays None."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
