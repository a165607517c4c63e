"""What the page asks of the server beside the native API: its files, a viewer's token, an avatar's still."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

import visavis
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from visavis import workers
from visavis.errors import AvatarError
from visavis.hvia import Hvia

from visavis_server_http.addresses import is_loopback
from visavis_server_http.desk import Desk
from visavis_server_http.errors import ApiError, from_avatar
from visavis_server_http.openapi import About, route
from visavis_server_http.page import files, vendor
from visavis_server_http.requests import Json, read_json

TAG: Final = "page"
KEPT: Final = 32
"""So many stills are kept in memory."""
LARGEST: Final = 4 * 2**20
"""A still of more bytes is not shown."""


class NewViewer(BaseModel):
    """Somebody who wants to see a room."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    room_name: str = Field(min_length=1, max_length=256)
    """The room."""


class ViewerGiven(BaseModel):
    """A way into a room."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    livekit_url: str
    """Where to connect."""
    token: str
    """What to show there: it may listen, speak and send data in this room for six hours."""
    identity: str
    """Who one is there."""
    room_name: str
    """The room."""


class ClientGiven(BaseModel):
    """LiveKit's JavaScript client."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    present: bool
    """Whether it is installed."""
    version: str
    """Which version the page is made for."""
    remedy: str
    """The command that installs it where the server runs."""


class PageGiven(BaseModel):
    """What the page has to know before it shows itself."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    version: str
    """The server's version."""
    guarded: bool
    """Whether the server wants an API key."""
    mints: bool
    """Whether it can make a viewer's token."""
    client: ClientGiven
    """LiveKit's JavaScript client."""


def routes(desk: Desk) -> list[BaseRoute]:
    """All routes of the page."""
    page = Page(desk)
    html = ("text/html", {"type": "string"})
    any_file = ("text/plain", {"type": "string"})
    still = ("image/jpeg", {"type": "string", "format": "binary"})
    return [
        route("GET", "/", page.index, About("The page", TAG, replies={200: html, 304: None}, security=())),
        route(
            "GET",
            "/page/{name:path}",
            page.file,
            About("A file of the page", TAG, replies={200: any_file, 304: None}, errors=(404,), security=()),
        ),
        route(
            "GET",
            "/v1/page",
            page.facts,
            About("What the page needs to know", TAG, replies={200: PageGiven}, security=()),
        ),
        route(
            "POST",
            "/v1/page/viewers",
            page.viewer,
            About("Let a viewer into a room", TAG, body={"application/json": NewViewer}, replies={201: ViewerGiven}),
        ),
        route(
            "GET",
            "/v1/page/avatars/{id}/preview",
            page.preview,
            About("A still of an avatar", TAG, replies={200: still, 204: None}, errors=(404, 422)),
        ),
    ]


class Page:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._at_home = is_loopback(desk.settings.host)
        self._stills: OrderedDict[str, bytes] = OrderedDict()

    async def index(self, request: Request) -> Response:
        """Try the avatars in a browser."""
        return await files.send(request, "index.html", at_home=self._at_home)

    async def file(self, request: Request) -> Response:
        """Scripts, style and LiveKit's client."""
        return await files.send(request, request.path_params["name"], at_home=self._at_home)

    async def facts(self, request: Request) -> Response:
        """No secret is among it, so anyone may ask."""
        present = await workers.run(files.client_present)
        client = ClientGiven(present=present, version=vendor.VERSION, remedy=vendor.COMMAND)
        settings = self._desk.settings
        mints = settings.can_mint and self._url() is not None
        given = PageGiven(version=visavis.__version__, guarded=not settings.open, mints=mints, client=client)
        return Json(given.model_dump(), headers={"Cache-Control": "no-store"})

    async def viewer(self, request: Request) -> Response:
        """A new identity and its token, made with the server's LiveKit key."""
        self._desk.authenticate_bearer(request)
        wanted = await read_json(request, NewViewer)
        url = self._url()
        if url is None:
            raise ApiError(422, "CANNOT_MINT_TOKENS", "the server has no LIVEKIT_URL to let anyone in to")
        identity = f"viewer-{secrets.token_hex(4)}"
        token = self._desk.mint(identity, wanted.room_name, can_publish_sources=["microphone"])
        given = ViewerGiven(livekit_url=url, token=token, identity=identity, room_name=wanted.room_name)
        return Json(given.model_dump(), 201, headers={"Cache-Control": "no-store"})

    def _url(self) -> str | None:
        """Where a browser finds our LiveKit server."""
        return self._desk.settings.livekit_public_url or self._desk.settings.livekit_url

    async def preview(self, request: Request) -> Response:
        """The picture that its file brings; 204 if there is none."""
        self._desk.authenticate_bearer(request)
        avatar = await self._desk.usable_avatar(request.path_params["id"])
        data = self._stills.get(avatar.digest)
        if data is None:
            data = await self._still(avatar.id)
            self._stills[avatar.digest] = data
            while len(self._stills) > KEPT:
                self._stills.popitem(last=False)
        headers = {"Cache-Control": "private, max-age=60", "X-Content-Type-Options": "nosniff"}
        if not data:
            return Response(status_code=204, headers=headers)
        return Response(data, media_type=_kind(data), headers=headers)

    async def _still(self, avatar_id: str) -> bytes:
        with await self._desk.open_avatar(avatar_id) as avatar:
            try:
                return await workers.run(_still_of, avatar)
            except AvatarError as error:
                raise from_avatar(error) from None


def _still_of(avatar: Hvia) -> bytes:
    """The avatar's still, if it has one of a sane size and of a kind that browsers show; else nothing."""
    member = avatar.manifest.preview
    data = avatar.read(member) if member is not None else b""
    return data if _kind(data) and len(data) <= LARGEST else b""


def _kind(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if data.startswith(b"\x89PNG\r\n\x1a\n") else None
