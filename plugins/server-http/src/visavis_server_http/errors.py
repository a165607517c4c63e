"""What a client is told when something cannot be done: a status, a code for programs, a sentence for people."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from visavis.errors import (
    AtCapacity,
    AvatarError,
    AvatarInvalid,
    AvatarNotFound,
    ConfigError,
    FloorRefused,
    SessionError,
    TransportError,
    VisavisError,
)


class ApiError(Exception):
    """Rendered as ``{error, code, details}`` with ``status`` and ``headers``. Never holds a secret."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The reply's JSON."""
        return {"error": self.message, "code": self.code, "details": self.details}


def unavailable(code: str, message: str, retry_after: float, **details: Any) -> ApiError:
    """503 with Retry-After in whole seconds, at least one."""
    seconds = max(1, math.ceil(retry_after))
    return ApiError(503, code, message, {"retry_after_s": seconds, **details}, {"Retry-After": str(seconds)})


def too_many(message: str, retry_after: float, **details: Any) -> ApiError:
    """429 RATE_LIMIT_EXCEEDED with Retry-After in whole seconds, at least one."""
    seconds = max(1, math.ceil(retry_after))
    headers = {"Retry-After": str(seconds)}
    return ApiError(429, "RATE_LIMIT_EXCEEDED", message, {"retry_after_s": seconds, **details}, headers)


def draining() -> ApiError:
    """503 SERVER_DRAINING."""
    return unavailable("SERVER_DRAINING", "the server shuts down; it starts no new session", 30.0)


def missing(name: str, what: str = "") -> ApiError:
    """400 MISSING_PARAMETER."""
    return ApiError(400, "MISSING_PARAMETER", f"{name} is missing" + (f": {what}" if what else ""), {"parameter": name})


def invalid(name: str, what: str) -> ApiError:
    """422 INVALID_PARAMETER."""
    return ApiError(422, "INVALID_PARAMETER", f"{name}: {what}", {"parameter": name})


def no_session(session_id: str) -> ApiError:
    """404 SESSION_NOT_FOUND: there is none, or it is another caller's."""
    return ApiError(404, "SESSION_NOT_FOUND", "there is no session of that id", {"id": session_id[:80]})


def from_start(error: BaseException) -> ApiError:
    """What a failed start is told as. A defect of ours becomes 500 INTERNAL_ERROR without its words."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AtCapacity):
        return unavailable("AT_CAPACITY", error.message, error.retry_after)
    if isinstance(error, AvatarError):
        return from_avatar(error)
    if isinstance(error, TransportError):
        return ApiError(502, "ROOM_JOIN_FAILED", str(error), {"step": _step(error)})
    if isinstance(error, ConfigError):
        return ApiError(422, "INVALID_PARAMETER", error.message)
    if isinstance(error, VisavisError):
        return ApiError(502, "SESSION_START_FAILED", str(error))
    return internal()


_STEPS: Final = (
    ("token", r"\btoken\b|API key|does not allow"),
    ("media", r"media path|pc_connection"),
    ("publish", r"publish"),
    ("connect", r"nothing answers|host is not known|certificate|did not answer|took longer"),
)


def _step(error: TransportError) -> str:
    """At which step a room was not joined: connect, token, media or publish; join if it is not known."""
    told = getattr(error, "step", None)
    if told:
        return str(told)
    return next((step for step, words in _STEPS if re.search(words, error.message, re.IGNORECASE)), "join")


def from_avatar(error: AvatarError) -> ApiError:
    """What an avatar that cannot be used is told as."""
    if isinstance(error, AvatarNotFound):
        return ApiError(404, "AVATAR_NOT_FOUND", str(error))
    if isinstance(error, AvatarInvalid):
        return ApiError(422, "AVATAR_INVALID", str(error))
    return ApiError(409, "AVATAR_MISMATCH", str(error))


def from_session(error: VisavisError) -> ApiError:
    """What a running session that refuses something is told as."""
    if isinstance(error, FloorRefused):
        return ApiError(409, "FLOOR_TAKEN", str(error))
    if isinstance(error, AvatarError):
        return from_avatar(error)
    if isinstance(error, SessionError):
        return ApiError(409, "SESSION_NOT_RUNNING", str(error))
    return ApiError(502, "SESSION_FAILED", str(error))


def internal() -> ApiError:
    """500: a defect; its words are in the log alone."""
    return ApiError(500, "INTERNAL_ERROR", "something went wrong in the server; its log says what")
