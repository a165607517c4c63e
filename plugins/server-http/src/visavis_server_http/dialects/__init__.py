"""What clients of other avatar servers say, one small module each: it only translates to the desk's words and back."""

from __future__ import annotations

from starlette.routing import BaseRoute

from visavis_server_http.desk import Desk
from visavis_server_http.dialects import avaluma, bithuman, gateway


def routes(desk: Desk) -> list[BaseRoute]:
    """The routes of all dialects."""
    return [route for dialect in (avaluma, bithuman, gateway) for route in dialect.routes(desk)]
