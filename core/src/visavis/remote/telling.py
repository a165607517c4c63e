"""Errors and records as plain data, and back: what both ends of a wire agree on."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Final

import visavis.errors
from visavis.errors import SessionError, VisavisError
from visavis.interfaces.launcher import Capacity
from visavis.interfaces.session import PlaybackFinished, SessionLimits, SessionRequest, SessionStats

_KNOWN: Final = {
    name: kind
    for name, kind in vars(visavis.errors).items()
    if isinstance(kind, type) and issubclass(kind, VisavisError)
}
_PLAIN: Final = (str, int, float, bool, type(None))


def told_error(error: BaseException) -> dict[str, Any]:
    """An error of ours by its class, words and plain attributes; a ValueError by its words; of others the kind alone.

    Of a subclass that the other end may not know, the nearest class that it does.
    """
    if isinstance(error, VisavisError):
        kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in _KNOWN)
        facts = {name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)}
        return {"kind": kind, "facts": facts}
    if isinstance(error, ValueError):
        return {"kind": "ValueError", "facts": {"message": str(error)}}
    return {"kind": "SessionError", "facts": {"message": f"a defect in the worker: {type(error).__name__}", "hint": ""}}


def error_of(told: dict[str, Any]) -> Exception:
    """The error that ``told_error`` told of."""
    kind, facts = str(told.get("kind", "")), dict(told.get("facts") or {})
    message = str(facts.get("message", "the worker failed"))
    if kind == "ValueError":
        return ValueError(message)
    made = _KNOWN.get(kind, SessionError)
    error: VisavisError = made.__new__(made)
    Exception.__init__(error, message)
    error.__dict__.update({"message": message, "hint": "", **facts})
    return error


def told_request(request: SessionRequest) -> dict[str, Any]:
    """A request as plain data, its secrets included: for the eyes of the one who is to start it."""
    plain: dict[str, Any] = revealed(request.model_dump())
    return plain


def request_of(told: dict[str, Any]) -> SessionRequest:
    """The request that ``told_request`` told of."""
    return SessionRequest.model_validate(told)


def revealed(value: Any) -> Any:
    """A copy of a model's dump that JSON can hold: with its secrets, which pydantic wraps, and paths as text."""
    if isinstance(value, dict):
        return {str(key): revealed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [revealed(item) for item in value]
    if hasattr(value, "get_secret_value"):
        return revealed(value.get_secret_value())
    return value if isinstance(value, _PLAIN) else str(value)


def told_stats(stats: SessionStats) -> dict[str, Any]:
    """A session's figures as plain data."""
    return asdict(stats)


def stats_of(told: dict[str, Any]) -> SessionStats:
    """The figures that ``told_stats`` told of; what a newer or older worker says besides is left out."""
    known = {field.name for field in fields(SessionStats)}
    return SessionStats(**{name: value for name, value in told.items() if name in known})


def told_limits(limits: SessionLimits) -> dict[str, Any]:
    """Limits as plain data."""
    return limits.model_dump()


def told_capacity(capacity: Capacity) -> dict[str, Any]:
    """How full a worker is, as plain data."""
    return asdict(capacity)


def capacity_of(told: dict[str, Any]) -> Capacity:
    """What ``told_capacity`` told of."""
    return Capacity(**told)


def told_finish(finish: PlaybackFinished) -> dict[str, Any]:
    """A segment's end as plain data."""
    return asdict(finish)


def finish_of(told: dict[str, Any]) -> PlaybackFinished:
    """What ``told_finish`` told of."""
    return PlaybackFinished(**told)
