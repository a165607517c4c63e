"""The listener: uvicorn, with bounds to headers and connections, and its own refusals in our form."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from visavis.errors import BadInput

from visavis_server_http.options import HttpServerOptions

log = logging.getLogger("visavis.server.http")

LINGER_S: Final = 2.0
"""So long a client that is still sending is listened to after its answer."""


class Listener(uvicorn.Server):
    """Serves an application until ``should_exit``; signals are not its business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are left to whoever runs the server."""
        yield


def listener(app: ASGIApp, options: HttpServerOptions) -> Listener:
    """A listener for an application."""
    bound = type("BoundProtocol", (StrictProtocol,), {"options": options})
    config = uvicorn.Config(
        app,
        http=bound,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=options.max_header_bytes,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    return Listener(config)


def bind(options: HttpServerOptions) -> socket.socket:
    """A socket on the address. Raises BadInput if it cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    found: socket.socket | None = None
    try:
        host = options.host.removeprefix("[").removesuffix("]")
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, options.port))
        found.listen(256)
        found.setblocking(False)
    except OSError as error:
        if found is not None:
            found.close()
        what = f"{options.host}:{options.port} cannot be listened on: {error.strerror or error}"
        raise BadInput(what, hint="choose another with --host and --port") from error
    return found


class Parting:
    """A transport that leaves gently: a client that is still sending gets to read its answer before it is cut off."""

    def __init__(self, transport: Any, still_sending: Callable[[], bool], loop: Any) -> None:
        self._transport, self._still_sending, self._loop = transport, still_sending, loop
        self._leaving = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._leaving or bool(self._transport.is_closing())

    def close(self) -> None:
        """Say that nothing more comes, and take what still does for a moment."""
        if self.is_closing():
            return
        self._leaving = True
        if self._still_sending() and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(LINGER_S, self._transport.close)
        else:
            self._transport.close()


class StrictProtocol(H11Protocol):
    """One connection: headers come in time and are short, and what is no HTTP is answered in JSON."""

    options: HttpServerOptions

    def connection_made(self, transport: Any) -> None:
        """A client is there; its headers have so long to come."""
        super().connection_made(cast(Any, Parting(transport, self._still_sending, self.loop)))
        self._slow: Any = None
        self._refused = False
        if len(self.connections) > self.options.max_connections:
            self._refuse(503, "TOO_MANY_CONNECTIONS", "the server has too many connections; try again later")
            return
        self._watch()

    def _still_sending(self) -> bool:
        """Whether the client is in the middle of a request."""
        begun = bool(self.conn.trailing_data[0]) or self._refused
        return begun or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _watch(self) -> None:
        self._slow = self.loop.call_later(self.options.header_timeout_s, self._too_slow)

    def _unwatch(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def data_received(self, data: bytes) -> None:
        """Bytes came. Headers that began must end in time, however they trickle."""
        if self.transport.is_closing():
            return  # what still comes is not read
        before = self.cycle
        if self.conn.their_state is h11.IDLE and self._too_long(data):
            self._refuse(431, "HEADERS_TOO_LARGE", f"headers may have {self.options.max_header_bytes} bytes")
            return
        super().data_received(data)
        if self.cycle is not before:
            self._unwatch()
        elif self._slow is None and not self._busy(before):
            self._watch()

    def _too_long(self, data: bytes) -> bool:
        """Whether a request's head is too long; h11 itself bounds only those that come in pieces."""
        most, waiting = self.options.max_header_bytes, self.conn.trailing_data[0]
        if len(waiting) + len(data) <= most:
            return False
        end = (waiting + data[: most + 4]).find(b"\r\n\r\n")
        return not 0 <= end <= most

    @staticmethod
    def _busy(cycle: Any) -> bool:
        """Whether a request is being served (there is none before the first)."""
        return cycle is not None and not cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._unwatch()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._slow = None
        if self.transport.is_closing() or self._busy(self.cycle):
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(408, "HEADER_TIMEOUT", f"the headers did not come within {self.options.header_timeout_s:g} s")
        else:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """A client asks for another protocol: it is answered over this one."""

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(400, "MALFORMED_REQUEST", "that is no HTTP/1.1 request")

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message, "code": code, "details": {}}).encode()
        head = f"HTTP/1.1 {status} {_PHRASE[status]}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        head += "Retry-After: 5\r\n\r\n" if status == 503 else "\r\n"
        self._refused = True
        self.transport.write(head.encode() + body)
        self.transport.close()


_PHRASE = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
