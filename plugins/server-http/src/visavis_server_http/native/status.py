"""How the server does: ``/health``, ``/ready``, ``/metrics``. No key is needed: probes have none."""

from __future__ import annotations

from typing import Literal

import visavis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from visavis_server_http.desk import Desk
from visavis_server_http.native.models import HealthGiven, ReadyGiven
from visavis_server_http.openapi import About, route
from visavis_server_http.requests import Json

TAG = "status"


def routes(desk: Desk) -> list[BaseRoute]:
    """Its routes."""

    async def health(request: Request) -> Response:
        """The process lives: always 200."""
        most = (await desk.capacity()).most
        given = HealthGiven(version=visavis.__version__, active_sessions=desk.active(), max_sessions=most)
        return Json(given.model_dump())

    async def ready(request: Request) -> Response:
        """Whether a session would be started now: 200, or 503 with the reason."""
        given, wait = await readiness(desk)
        headers = {"Retry-After": str(max(1, round(wait)))} if given.status != "ready" else None
        return Json(given.model_dump(), 200 if given.status == "ready" else 503, headers)

    async def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        return Response(desk.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    public = ()
    return [
        route("GET", "/health", health, About("Is it alive?", TAG, replies={200: HealthGiven}, security=public)),
        route(
            "GET",
            "/ready",
            ready,
            About("Would it start a session?", TAG, replies={200: ReadyGiven, 503: ReadyGiven}, security=public),
        ),
        route(
            "GET",
            "/metrics",
            metrics,
            About("Figures", TAG, replies={200: ("text/plain", {"type": "string"})}, security=public),
        ),
    ]


async def readiness(desk: Desk) -> tuple[ReadyGiven, float]:
    """Whether a session would be started now, and after how many seconds to ask again."""
    full = await desk.capacity()
    problem, wait = full.problem, full.retry_after
    status: Literal["ready", "not_ready", "at_capacity"] = "at_capacity" if problem else "ready"
    code = "AT_CAPACITY" if problem else None
    if not desk.warm:
        status, problem, code, wait = "not_ready", "avatars are being loaded", "NOT_READY", 2.0
    if desk.draining:
        status, problem, code, wait = "not_ready", "the server shuts down", "SERVER_DRAINING", 30.0
    left = None if full.most is None else max(0, full.most - full.running - full.starting)
    given = ReadyGiven(
        status=status,
        model_ready=desk.warm and not desk.draining,
        active_sessions=desk.active(),
        available_sessions=0 if problem else left,
        max_sessions=full.most,
        error=problem,
        code=code,
    )
    return given, wait
