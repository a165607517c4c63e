"""The native API: sessions, avatars, and how the server does."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from visavis_server_http.desk import Desk
from visavis_server_http.native import avatars, documents, sessions, speaking, status


def routes(desk: Desk) -> list[BaseRoute]:
    """All its routes."""
    parts = (sessions, speaking, avatars, status)
    return [route for part in parts for route in part.routes(desk)]


def about_routes(desk: Desk, described: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The OpenAPI document of all routes, and a page that shows it."""
    return documents.routes(desk, described)
