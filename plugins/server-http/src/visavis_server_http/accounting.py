"""What is written down of a session: log records, figures, and its one usage record."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from visavis.metrics import Metrics

from visavis_server_http import wall
from visavis_server_http.entries import Entry

log = logging.getLogger("visavis.server.http")
usage = logging.getLogger("visavis.usage")

_KINDS: Final = (
    ("stop_request", r"stop_request"),
    ("replaced", r"replaced"),
    ("shutdown", r"the server (shuts|stops|stopped)"),
    ("idle", r"nobody spoke"),
    ("max_duration", r"its maximum duration"),
    ("agent_left", r"its agent .* (left|never came)"),
    ("room_empty", r"nobody was in the room"),
    ("room_closed", r"(the room was (deleted|closed|left)|it was removed)"),
    ("identity_taken", r"another participant joined"),
    ("connection_lost", r"the (connection to the )?room was lost"),
)


def kind_of(reason: str, *, failed: bool) -> str:
    """One of a few words for a reason, for the label of a figure."""
    if failed:
        return "error"
    return next((kind for kind, words in _KINDS if re.match(words, reason, re.DOTALL)), "other")


def about(entry: Entry) -> dict[str, Any]:
    """What every log record about a session carries."""
    return {"session": entry.id, "room": entry.room, "avatar": entry.avatar, "caller": entry.caller.id}


def asked(entry: Entry, metrics: Metrics) -> None:
    """A start was admitted."""
    log.info("session starts", extra={**about(entry), "dialect": entry.dialect})
    metrics.count("visavis_session_starts_total", dialect=entry.dialect)


def running(entry: Entry, metrics: Metrics) -> None:
    """It runs: frames can flow."""
    import anyio

    entry.status, entry.started_at = "running", wall.now()
    seconds = anyio.current_time() - entry.created
    log.info("session runs", extra={**about(entry), "start_seconds": round(seconds, 3)})


def ended(entry: Entry, metrics: Metrics) -> None:
    """It ended: the one usage record of a session that had started, and its figures."""
    failed = entry.status == "failed"
    kind = kind_of(entry.reason, failed=failed)
    metrics.count("visavis_sessions_ended_total", reason=kind)
    if entry.started_at is None:
        level = logging.WARNING if failed else logging.INFO
        log.log(level, "session did not start: %s", entry.error, extra={**about(entry), "reason": entry.reason})
        return
    metrics.observe("visavis_session_duration_seconds", entry.seconds)
    if failed:
        log.error("session failed: %s", entry.error, extra={**about(entry), "reason": entry.reason})
    usage.info(
        "session ended: %s",
        entry.reason,
        extra={
            **about(entry),
            "dialect": entry.dialect,
            "started_at": wall.stamp(entry.started_at),
            "ended_at": wall.stamp(entry.finished_at),
            "duration_seconds": round(entry.seconds, 3),
            "spoken_seconds": round(entry.stats.spoken, 3),
            "status": entry.status,
            "reason": kind,
        },
    )
