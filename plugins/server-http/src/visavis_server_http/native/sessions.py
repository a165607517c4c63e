"""``/v1/sessions``: start, list, look at, end; interrupt and swap the avatar."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from visavis.interfaces.session import SessionStats

from visavis_server_http import minting, wall
from visavis_server_http.desk import Ask, Desk
from visavis_server_http.entries import Entry
from visavis_server_http.errors import ApiError, invalid, missing
from visavis_server_http.native.models import (
    InterruptGiven,
    LimitsGiven,
    NewAvatar,
    NewSession,
    SessionGiven,
    SessionsGiven,
    StatsGiven,
)
from visavis_server_http.openapi import About, Parameter, route
from visavis_server_http.requests import Json, read_json

DIALECT = "native"
TAG = "sessions"
_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "A retry with the same key finds the session that the first request started.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)


def routes(desk: Desk) -> list[BaseRoute]:
    """Its routes."""
    api = Sessions(desk)
    one = "/v1/sessions/{id}"
    started = About(
        "Start a session",
        TAG,
        body={"application/json": NewSession},
        replies={201: SessionGiven, 200: SessionGiven},
        errors=(403, 404, 409, 502, 503),
        parameters=(_KEY,),
    )
    finish = Parameter("finish", about="Let what was begun be said to its end.", schema={"type": "boolean"})
    swapped = About(
        "Show another avatar",
        TAG,
        body={"application/json": NewAvatar},
        replies={200: SessionGiven},
        errors=(404, 409, 502),
    )
    return [
        route("POST", "/v1/sessions", api.create, started),
        route("GET", "/v1/sessions", api.list, About("List your sessions", TAG, replies={200: SessionsGiven})),
        route("GET", one, api.get, About("Look at a session", TAG, replies={200: SessionGiven}, errors=(404,))),
        route(
            "DELETE",
            one,
            api.delete,
            About("End a session", TAG, replies={200: SessionGiven}, errors=(404, 422), parameters=(finish,)),
        ),
        route(
            "POST",
            f"{one}/interrupt",
            api.interrupt,
            About("Be silent at once", TAG, replies={200: InterruptGiven}, errors=(404, 409, 502)),
        ),
        route("PUT", f"{one}/avatar", api.swap, swapped),
    ]


class Sessions:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, request: Request) -> Response:
        """Start a session; answered once it is in the room. The same request again finds the same session (200)."""
        caller = self._desk.authenticate_bearer(request)
        key = _idempotency(request)
        wanted = await read_json(request, NewSession)
        before = {entry.id for entry in self._desk.entries(caller)}
        ask = self._ask(wanted)
        entry = await self._desk.start(ask, caller=caller, dialect=DIALECT, idempotency=key)
        return Json(await shown(entry), 200 if entry.id in before else 201)

    def _ask(self, wanted: NewSession) -> Ask:
        return Ask(
            avatar=wanted.avatar_id,
            livekit_url=wanted.livekit_url,
            livekit_token=wanted.livekit_token or self._minted(wanted),
            identity=wanted.agent_identity,
            room=wanted.room_name,
            limits=wanted.limits,
            seed=wanted.seed,
            replace=wanted.replace,
        )

    def _minted(self, wanted: NewSession) -> SecretStr:
        if wanted.room_name is None:
            raise missing("livekit_token", "give it, or room_name where the server has a LiveKit key")
        if not self._desk.is_ours(wanted.livekit_url):
            raise invalid("livekit_token", "for another LiveKit server than its own the server cannot make a token")
        identity = wanted.avatar_identity or f"avatar-{wanted.avatar_id}"
        token = minting.avatar_token(
            self._desk.settings,
            identity,
            wanted.room_name,
            serves=wanted.agent_identity,
            name=wanted.avatar_name or "",
        )
        return SecretStr(token)

    async def list(self, request: Request) -> Response:
        """Your sessions, newest first, ended ones included for a while."""
        caller = self._desk.authenticate_bearer(request)
        found = [await shown(entry, stats=False) for entry in reversed(self._desk.entries(caller))]
        return Json({"sessions": found})

    async def get(self, request: Request) -> Response:
        """Where it stands, its figures, the limits that apply, and why it ended."""
        caller = self._desk.authenticate_bearer(request)
        return Json(await shown(self._desk.find(request.path_params["id"], caller)))

    async def delete(self, request: Request) -> Response:
        """End a session. One that has ended already stays as it is."""
        caller = self._desk.authenticate_bearer(request)
        finish = flag(request, "finish")
        return Json(await shown(await self._desk.stop(request.path_params["id"], caller, finish=finish)))

    async def interrupt(self, request: Request) -> Response:
        """Stop what is being said and what waits to be said."""
        caller = self._desk.authenticate_bearer(request)
        await self._desk.interrupt(request.path_params["id"], caller)
        return Json(InterruptGiven().model_dump())

    async def swap(self, request: Request) -> Response:
        """Show another avatar from the next picture on: same tracks, same speech."""
        caller = self._desk.authenticate_bearer(request)
        wanted = await read_json(request, NewAvatar)
        return Json(await shown(await self._desk.swap(request.path_params["id"], caller, wanted.avatar_id)))


def flag(request: Request, name: str) -> bool:
    """A yes or no of the query, no by default. Raises ApiError 422."""
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise invalid(name, "true or false")
    return text in ("true", "1")


def _idempotency(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable() and " " not in key):
        raise ApiError(400, "INVALID_IDEMPOTENCY_KEY", "Idempotency-Key is 1 to 255 visible characters")
    return key


async def shown(entry: Entry, *, stats: bool = True) -> dict[str, object]:
    """A session as the native API shows it."""
    figures = await entry.figures()
    given = SessionGiven(
        id=entry.id,
        status=entry.status,
        avatar_id=figures.avatar or entry.avatar,
        room_name=entry.room,
        avatar_identity=entry.participant,
        agent_identity=entry.identity,
        dialect=entry.dialect,
        limits=LimitsGiven(**entry.limits.model_dump()),
        created_at=wall.stamp(entry.created_at) or "",
        started_at=wall.stamp(entry.started_at),
        ended_at=wall.stamp(entry.finished_at),
        reason=entry.reason or None,
        error=entry.error,
        stats=_stats(figures) if stats else None,
    )
    return given.model_dump(mode="json")


def _stats(figures: SessionStats) -> StatsGiven:
    found = asdict(figures)
    renamed = {f"{name}_s": found[name] for name in ("spoken", "shown", "first_frame")}
    return StatsGiven(**{k: v for k, v in {**found, **renamed}.items() if k in StatsGiven.model_fields})
