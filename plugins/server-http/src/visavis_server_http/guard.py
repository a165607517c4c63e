"""What surrounds every request: limits of its body, errors in one form, its figures and its log record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from visavis.metrics import Metrics

from visavis_server_http.errors import ApiError, internal
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.requests import refusal, too_long

log = logging.getLogger("visavis.server.http")
access = logging.getLogger("visavis.access")

SMALL_BYTES: Final = 64 * 2**10
"""A body whose rest is shorter is read to its end after an answer, so that the connection can be kept."""
_QUIET: Final = frozenset({"/health", "/ready", "/metrics"})
"""Routes that are asked for all the time: their records are for debugging."""


class Allowance:
    """How long a body may be and take; a route may change ``most`` and ``streamed`` before it reads."""

    def __init__(self, scope: Scope, receive: Receive, most: int, seconds: float) -> None:
        self.most, self.streamed = most, False
        self._receive, self._seconds = receive, seconds
        self._deadline = anyio.current_time() + seconds
        self._read = 0
        headers = dict(scope["headers"])
        text = headers.get(b"content-length", b"")
        self._chunked = b"transfer-encoding" in headers
        self._declared = int(text) if text.isdigit() and len(text) < 20 else 0
        self.complete = not self._chunked and self._declared == 0

    @property
    def abandoned(self) -> bool:
        """Whether much of the body would still come if the connection were kept after an answer now."""
        return not self.complete and (self._chunked or self._declared - self._read > SMALL_BYTES)

    async def receive(self) -> Message:
        """The next message. Raises ApiError 413 or 408."""
        if self.complete:
            return await self._receive()
        if self._declared > self.most:
            raise too_long(self.most)
        if self.streamed:
            self._deadline = anyio.current_time() + self._seconds
        try:
            with anyio.fail_after(max(0.0, self._deadline - anyio.current_time())):
                message = await self._receive()
        except TimeoutError:
            what = "the next piece of the body" if self.streamed else "the body"
            raise ApiError(408, "BODY_TIMEOUT", f"{what} did not come within {self._seconds:g} s") from None
        self._note(message)
        if self._read > self.most:
            raise too_long(self.most)
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        else:
            self.complete = True


class Guard:
    """ASGI middleware, outermost."""

    def __init__(
        self, app: ASGIApp, settings: HttpServerOptions, metrics: Metrics, hosts: Iterable[str] | None
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = anyio.current_time()
        settings = self._settings
        allowance = Allowance(scope, receive, settings.max_body_bytes, settings.body_timeout_s)
        reply = _Reply(send, allowance)
        scope["visavis.body"] = allowance
        try:
            await self._served(scope, allowance, reply)
        finally:
            self._record(scope, reply.status, anyio.current_time() - began)

    async def _served(self, scope: Scope, allowance: Allowance, reply: _Reply) -> None:
        try:
            self._check_host(scope)
            await self._app(scope, allowance.receive, reply.send)
            return
        except ClientDisconnect:
            reply.status = reply.status or 499
            return
        except ApiError as told:
            error = told
        except Exception as broken:
            log.error("a request broke", exc_info=broken, extra={"route": _template(scope)})
            error = internal()
        if reply.status is not None:
            return  # the answer had begun: there is nobody to tell
        await refusal(error)(scope, allowance.receive, reply.send)

    def _check_host(self, scope: Scope) -> None:
        """An open server answers only whoever calls it by a loopback name: a web page elsewhere must not use it."""
        if self._hosts is None:
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        if not self._near(headers.get(b"host", "")):
            message = "without API keys this server answers to localhost alone; configure keys to serve other names"
            raise ApiError(403, "HOST_NOT_ALLOWED", message)
        origin = headers.get(b"origin")
        if origin and scope["method"] not in ("GET", "HEAD", "OPTIONS") and not self._near(origin.partition("://")[2]):
            raise ApiError(
                403, "ORIGIN_NOT_ALLOWED", "without API keys this server takes nothing from other sites' pages"
            )

    def _near(self, host: str) -> bool:
        from visavis_server_http.addresses import is_loopback

        name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        return not host or is_loopback(name) or name.lower() in (self._hosts or ())

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        template, method = _template(scope), _method(scope)
        code = str(status or 500)
        self._metrics.count("visavis_api_requests_total", route=template, method=method, status=code)
        self._metrics.observe("visavis_api_request_seconds", seconds, route=template)
        if int(code) >= 400:
            self._metrics.count("visavis_api_errors_total", route=template, status=code)
        level = logging.DEBUG if template in _QUIET else logging.INFO
        if access.isEnabledFor(level):
            extra = {"method": method, "route": template, "status": int(code), "seconds": round(seconds, 4)}
            access.log(level, "%s %s %s", method, template, code, extra=extra)


class _Reply:
    def __init__(self, send: Send, allowance: Allowance) -> None:
        self._send, self._allowance = send, allowance
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on, noting the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._allowance.abandoned or self.status == 408:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)


def _template(scope: Scope) -> str:
    """The route's template, never the path itself: it may hold anything."""
    route: Any = scope.get("route")
    return getattr(route, "path", None) or "other"


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
