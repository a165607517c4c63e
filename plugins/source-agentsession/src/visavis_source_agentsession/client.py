"""Asking an Avatar Server for a session, over its native API."""

from __future__ import annotations

import base64
import email.utils
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import anyio
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
)

from visavis_source_agentsession.wall import wall_time

log = logging.getLogger("livekit.plugins.visavis")

SAMPLE_RATE = 24_000
"""What the avatar is sent, unless the server's reply says otherwise. Any rate would do."""
REQUEST_SECONDS = 60.0
"""The longest that one request may take, a cold avatar's loading included."""
LONGEST_WAIT = 60.0
UNREACHED_SECONDS = 2.5
"""How long a caller in a hurry waits for a server that is not there: it knows of no time at which it would be."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What the server said to a start: the session's id, and the rate at which it wants to hear."""

    id: str
    sample_rate: int = SAMPLE_RATE


class ServerBusy(APIStatusError):  # type: ignore[misc]  # noqa: N818 - named after what it says
    """The server cannot take the session now. ``retry_after`` is in seconds, if the server named a time."""

    def __init__(self, message: str, *, status_code: int, body: object, retry_after: float | None) -> None:
        super().__init__(message, status_code=status_code, body=body, retryable=True)
        self.retry_after = retry_after


class AvatarServer:
    """One Avatar Server. ``start`` retries what may pass; errors are livekit-agents' own, each with a sentence."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        http_session: aiohttp.ClientSession | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the avatar server's URL must look like http://host:8080")
        host = parts.netloc.rpartition("@")[2]
        self.name = f"{parts.scheme}://{host}"
        """The URL without what must not be logged."""
        self._base = parts._replace(netloc=host, query="", fragment="").geturl().rstrip("/")
        self._credentials = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        if parts.username is not None and not api_key:  # a proxy's, say
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._credentials["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._conn = conn_options
        self._http, self._owned = http_session, http_session is None

    async def start(self, body: Mapping[str, Any], *, patience: float | None = None) -> Granted:
        """Start a session. The server sees one Idempotency-Key however often it is asked.

        Waits as Retry-After says, else as the connection options do, and gives up after their number of retries, or
        once it would wait for more than ``patience`` seconds in all. Raises APIStatusError, APITimeoutError or
        APIConnectionError.
        """
        key, waited = uuid.uuid4().hex, 0.0
        for attempt in range(self._conn.max_retry + 1):
            try:
                return self._granted(await self._call("POST", "/v1/sessions", body, {"Idempotency-Key": key}))
            except APIError as error:
                wait = self._wait(error, attempt)
                if not error.retryable or attempt == self._conn.max_retry:
                    raise
                if patience is not None and waited + wait > _patience(error, patience):
                    raise
                log.warning("%s; asking again in %.1f s", error.message, wait)
                waited += wait
                await anyio.sleep(wait)
        raise AssertionError("unreachable")

    async def stop(self, session_id: str) -> None:
        """End a session; one that has ended already is fine. Raises as ``start`` does."""
        try:
            await self._call("DELETE", f"/v1/sessions/{session_id}", None, {})
        except APIStatusError as error:
            if error.status_code not in (404, 409, 410):
                raise

    async def runs(self, session_id: str) -> bool:
        """Whether a session is running still. Raises as ``start`` does, but asks only once."""
        said = await self._call("GET", f"/v1/sessions/{session_id}", None, {})
        return said.get("status") == "running"

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        http, self._http = self._http, None
        if http is not None and self._owned:
            await http.close()

    def _wait(self, error: APIError, attempt: int) -> float:
        if isinstance(error, ServerBusy) and error.retry_after is not None:
            return min(error.retry_after, LONGEST_WAIT)
        return 0.1 if attempt == 0 else self._conn.retry_interval * 2 ** (attempt - 1)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        if self._http is None:
            self._http, self._owned = aiohttp.ClientSession(), True
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=self._conn.timeout)
        try:
            request = self._http.request(
                method,
                self._base + path,
                json=body,
                headers={**self._credentials, **headers},
                timeout=timeout,
            )
            async with request as reply:
                text = await reply.text()
                if reply.status >= 400:
                    raise self._refusal(reply.status, reply.headers.get("Retry-After"), text)
                return _object(text)
        except TimeoutError:
            raise APITimeoutError(f"the avatar server at {self.name} did not answer in time") from None
        except aiohttp.ClientError as error:
            # The SDK's errors may quote a URL with credentials, never these: only the kind of error is passed on.
            what = error.strerror if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            raise APIConnectionError(f"the avatar server at {self.name} cannot be reached: {what}") from None

    def _refusal(self, status: int, retry_after: str | None, text: str) -> APIStatusError:
        said = _object(text)
        reason = said.get("error") or "no reason given"
        code = f", {said['code']}" if said.get("code") else ""
        message = f"the avatar server at {self.name} refused the session: {reason} ({status}{code})"
        if status in (429, 503):
            wait = _seconds(retry_after) if retry_after else None
            return ServerBusy(message, status_code=status, body=said, retry_after=wait)
        return APIStatusError(message, status_code=status, body=said)

    def _granted(self, said: dict[str, Any]) -> Granted:
        session = said.get("id") or said.get("session_id")
        rate = said.get("sample_rate")
        if not isinstance(session, str) or not session:
            raise APIError(f"{self.name} does not answer as an Avatar Server does: no session id", retryable=False)
        return Granted(session, rate if isinstance(rate, int) and 8_000 <= rate <= 192_000 else SAMPLE_RATE)


def _patience(error: APIError, patience: float) -> float:
    return patience if isinstance(error, APIStatusError) else min(patience, UNREACHED_SECONDS)


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(retry_after: str) -> float | None:
    """Retry-After: seconds, or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - wall_time())
    except (TypeError, ValueError):
        return None
