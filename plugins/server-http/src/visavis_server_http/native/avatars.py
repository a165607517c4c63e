"""``/v1/avatars``: who there is, and what is wrong with those that cannot be used."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from visavis.interfaces.avatar import AvatarEntry

from visavis_server_http.desk import Desk
from visavis_server_http.errors import ApiError
from visavis_server_http.native.models import AvatarGiven, AvatarsGiven
from visavis_server_http.openapi import About, route
from visavis_server_http.requests import Json


def routes(desk: Desk) -> list[BaseRoute]:
    """Its routes."""

    async def list_avatars(request: Request) -> Response:
        """All avatars as they are in the folder now; broken files are listed with their reason."""
        desk.authenticate_bearer(request)
        return Json(AvatarsGiven(avatars=[given(entry) for entry in await desk.avatars()]).model_dump())

    async def get_avatar(request: Request) -> Response:
        """One avatar."""
        desk.authenticate_bearer(request)
        wanted = request.path_params["id"]
        found = next((entry for entry in await desk.avatars() if entry.id == wanted), None)
        if found is None:
            raise ApiError(404, "AVATAR_NOT_FOUND", "there is no avatar of that id")
        return Json(given(found).model_dump())

    return [
        route("GET", "/v1/avatars", list_avatars, About("List avatars", "avatars", replies={200: AvatarsGiven})),
        route(
            "GET",
            "/v1/avatars/{id}",
            get_avatar,
            About("Look at an avatar", "avatars", replies={200: AvatarGiven}, errors=(404,)),
        ),
    ]


def given(entry: AvatarEntry) -> AvatarGiven:
    """An avatar as the API shows it."""
    return AvatarGiven(
        id=entry.id,
        name=entry.name,
        size=entry.size,
        digest=entry.digest,
        builtin=entry.builtin,
        usable=entry.problem is None,
        problem=entry.problem,
    )
