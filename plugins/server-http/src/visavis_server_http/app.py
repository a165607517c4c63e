"""The application: native API, dialects and page put together under one guard."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp
from visavis.errors import VisavisError

from visavis_server_http import native
from visavis_server_http.desk import Desk
from visavis_server_http.errors import ApiError, from_session
from visavis_server_http.guard import Guard
from visavis_server_http.requests import refusal

log = logging.getLogger("visavis.server.http")

PARTS = ("visavis_server_http.dialects", "visavis_server_http.page")
"""Packages that bring ``routes(desk)`` beside the native API."""


def make_app(desk: Desk) -> ASGIApp:
    """The whole application of a desk."""
    routes = [*native.routes(desk), *(route for part in PARTS for route in _routes_of(part, desk))]
    routes += native.about_routes(desk, routes)
    app = Starlette(
        routes=routes,
        exception_handlers={ApiError: _told, HTTPException: _http, VisavisError: _refused},  # type: ignore[dict-item]
    )
    app.router.redirect_slashes = False
    hosts = () if desk.settings.open else None
    return Guard(app, desk.settings, desk.metrics, hosts)


def _routes_of(part: str, desk: Desk) -> Iterator[BaseRoute]:
    """A part's routes; one that is not there is passed over."""
    try:
        module = importlib.import_module(part)
    except ModuleNotFoundError as error:
        if error.name != part:
            raise
        log.info("%s is not installed", part)
        return
    make = getattr(module, "routes", None)
    yield from make(desk) if make is not None else ()


async def _told(request: Request, error: ApiError) -> Response:
    return refusal(error)


async def _refused(request: Request, error: VisavisError) -> Response:
    return refusal(from_session(error))


async def _http(request: Request, error: HTTPException) -> Response:
    """Starlette's own refusals, in our form: no such route, no such method, a form that cannot be read."""
    if error.status_code == 404:
        return refusal(ApiError(404, "NOT_FOUND", "there is no such route; see /openapi.json"))
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        told = ApiError(405, "METHOD_NOT_ALLOWED", f"this route takes {allowed}", {}, {"Allow": allowed})
        return refusal(told)
    return refusal(ApiError(error.status_code, "BAD_REQUEST", str(error.detail)))


def _methods(request: Request) -> set[str]:
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
