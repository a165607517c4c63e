"""The page's files: which there are, what they are, and how a browser is told to treat them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from visavis import workers

from visavis_server_http.errors import ApiError
from visavis_server_http.page import vendor

FOLDER = Path(__file__).parent / "static"
SCRIPTS: Final = ("app.js", "api.js", "call.js", "microphone.js", "sound.js", "speech.js", "view.js")
CLIENT: Final = f"vendor/{vendor.SCRIPT}"
FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "notices.txt": "text/plain; charset=utf-8",
    **dict.fromkeys((*SCRIPTS, CLIENT), "text/javascript; charset=utf-8"),
    f"vendor/{vendor.LICENCE}": "text/plain; charset=utf-8",
}
"""All that is served, with its media type: a name that is not here does not exist."""

# Everything comes from this server, but the media and the signals of whatever LiveKit server a user names.
_POLICY: Final = (
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "media-src 'self' blob:",
    "connect-src 'self' ws: wss: http: https:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
_SCRIPTS: Final = ("script-src 'self'", "require-trusted-types-for 'script'")
# Tools that drive a browser (Playwright's waits, say) evaluate strings in the page; on one's own machine they may.
_SCRIPTS_AT_HOME: Final = ("script-src 'self' 'unsafe-eval'",)
HEADERS: Final = {
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def send(request: Request, name: str, *, at_home: bool = False) -> Response:
    """One of FILES as a response; 304 if the browser holds it already. Raises ApiError 404.

    ``at_home``: the server is reached from this machine alone.
    """
    kind = FILES.get(name)
    if kind is None:
        raise ApiError(404, "NOT_FOUND", "the page has no such file")
    data = await workers.run(_read, name)
    if data is None:
        raise ApiError(404, "PAGE_CLIENT_MISSING", f"LiveKit's client is not installed: run `{vendor.COMMAND}`")
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    policy = "; ".join((*_POLICY, *(_SCRIPTS_AT_HOME if at_home else _SCRIPTS)))
    headers = {**HEADERS, "Content-Security-Policy": policy, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def client_present() -> bool:
    """Whether the pinned client is there."""
    return vendor.present(FOLDER / "vendor")


def _read(name: str) -> bytes | None:
    """A file's bytes; None for the client if the pinned one is not there."""
    if name.startswith("vendor/") and not client_present():
        return None
    return (FOLDER / name).read_bytes()
