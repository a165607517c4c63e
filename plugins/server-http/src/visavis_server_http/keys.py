"""Who calls: API keys, their limits, and what identifies a caller without giving a key away."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from visavis_server_http.errors import ApiError, too_many
from visavis_server_http.options import ApiKey

PREFIX = "vv_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Sessions belong to a caller; another one does not see them.

    ``id`` tells callers apart and may be logged; ``max_sessions`` None: no limit of its own.
    """

    id: str
    max_sessions: int | None = None
    requests_per_minute: float | None = None


ANYONE = Caller("anyone")
"""The caller of a server without keys."""


def new_key() -> tuple[str, str]:
    """A new key, and what to write into the configuration in its place."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hashed(key)


def hashed(key: str) -> str:
    """``sha256:...``. Keys are long and random, so that a slow hash would protect nothing more."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys that are taken, by their hashes: a credential is compared with all of them, in equal time."""

    def __init__(self, keys: Sequence[ApiKey], *, sessions: int | None, rate: float | None) -> None:
        self._known: list[tuple[bytes, Caller]] = []
        for number, item in enumerate(keys, 1):
            text = item.key.get_secret_value()
            digest = text if text.startswith("sha256:") else hashed(text)
            most = item.max_sessions if item.max_sessions is not None else sessions
            caller = Caller(item.name or f"key-{number}", most, item.requests_per_minute or rate)
            self._known.append((digest.encode(), caller))
        names = [caller.id for _, caller in self._known]
        if len(set(names)) != len(names):
            raise ValueError("two API keys have one name")

    @property
    def open(self) -> bool:
        """Whether any credential or none will do."""
        return not self._known

    def caller_of(self, credential: str) -> Caller | None:
        """Whose key it is; None if nobody's."""
        shown = hashed(credential).encode()
        found: Caller | None = None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, shown):
                found = caller
        return found


@dataclass
class _Bucket:
    left: float
    at: float


@dataclass
class RateLimit:
    """How often a caller may ask: a minute's worth at once, refilled steadily. Bounded by the number of keys."""

    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def take(self, caller: Caller) -> None:
        """Count a request. Raises ApiError 429 if there were too many."""
        rate = caller.requests_per_minute
        if rate is None:
            return
        now, most = anyio.current_time(), max(1.0, rate)
        bucket = self._buckets.setdefault(caller.id, _Bucket(most, now))
        bucket.left = min(most, bucket.left + (now - bucket.at) * rate / 60)
        bucket.at = now
        if bucket.left < 1:
            wait = (1 - bucket.left) * 60 / rate
            raise too_many(f"more than {rate:g} requests a minute", wait, limit="requests_per_minute")
        bucket.left -= 1


def unauthorized(code: str, message: str) -> ApiError:
    """401, with what to show instead."""
    return ApiError(401, code, message, headers={"WWW-Authenticate": 'Bearer realm="visavis"'})
