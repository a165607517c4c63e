"""The document says all that is served, and what it says is so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.routing import Route
from visavis_server_http.app import make_app
from visavis_server_http.desk import Desk
from visavis_server_http.native import routes
from visavis_server_http.openapi import Described

pytestmark = pytest.mark.anyio


async def test_every_route_of_the_api_is_described(serving: Any) -> None:
    async with serving() as bench:
        said = (await bench.http.get("/openapi.json")).json()
        assert said["openapi"].startswith("3.1")
        async with Desk(bench.server.options, bench.launcher, None) as desk:  # type: ignore[arg-type]
            app: Any = make_app(desk)
            ours = [route for route in app._app.routes if isinstance(route, Route)]
            described = [route for route in ours if isinstance(route, Described)]
            for route in ours:
                if route.path.startswith(("/v1/sessions", "/v1/avatars", "/v1/livekit")):
                    assert route in described, route.path
            for route in described:
                path = re.sub(r":\w+}", "}", route.path)
                assert route.method.lower() in said["paths"][path], path
            assert len(routes(desk)) >= 12
        for path, operations in said["paths"].items():
            for operation in operations.values():
                assert operation["summary"] and operation["responses"], path  # noqa: PT018
                assert all(f"{{{p['name']}}}" in path for p in operation["parameters"] if p["in"] == "path")
                for status, reply in operation["responses"].items():
                    if int(status) >= 400 and path != "/ready":
                        schema = reply["content"]["application/json"]["schema"]
                        assert schema, (path, status)


async def test_references_lead_somewhere(serving: Any) -> None:
    async with serving() as bench:
        reply = await bench.http.get("/openapi.json")
        said = reply.json()
        for name in set(re.findall(r'"#/components/schemas/([^"]+)"', reply.text)):
            assert name in said["components"]["schemas"]
        identifiers = [op["operationId"] for path in said["paths"].values() for op in path.values()]
        assert len(identifiers) == len(set(identifiers))


async def test_the_page_needs_nothing_from_elsewhere(serving: Any) -> None:
    async with serving() as bench:
        reply = await bench.http.get("/docs")
        assert reply.headers["content-type"].startswith("text/html")
        assert not re.search(r"(src|href)=['\"]?(https?:)?//", reply.text)
        for path in ("/v1/sessions", "/v1/sessions/{id}/speak", "/v1/avatars"):
            assert path in reply.text
