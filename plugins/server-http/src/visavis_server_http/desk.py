"""The desk: where every dialect asks for sessions. It checks, admits, starts, remembers and ends them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup
from pydantic import SecretStr
from visavis.errors import AvatarError, VisavisError
from visavis.hvia import Hvia
from visavis.interfaces.avatar import AvatarEntry, AvatarStore
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionLimits, SessionRequest
from visavis.metrics import Metrics, NoMetrics

from visavis_server_http import accounting, errors, minting
from visavis_server_http.addresses import Dialling, is_loopback, private_reason
from visavis_server_http.claims import RoomToken, read_room_token
from visavis_server_http.doorkeeper import Doorkeeper
from visavis_server_http.entries import Entry, Ledger
from visavis_server_http.errors import ApiError
from visavis_server_http.keys import Caller
from visavis_server_http.lives import CLOSING_S, SHUTDOWN, Lives
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.podium import Podium

log = logging.getLogger("visavis.server.http")

HELD_BODIES = 8
"""So many audio bodies of the greatest length may be kept in memory at once."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a session, whatever the words it came in.

    ``identity`` is whom the avatar serves; None takes the token's ``lk.publish_on_behalf``, else anyone in the room.
    ``room`` is what the client calls the room; the token's word counts. ``replace`` ends a session of the same caller
    that holds the same identity in the same room; otherwise that is a conflict. ``livekit_url`` None: LIVEKIT_URL.
    """

    avatar: str
    livekit_url: str | None
    livekit_token: SecretStr
    identity: str | None = None
    room: str | None = None
    limits: SessionLimits = field(default_factory=SessionLimits)
    seed: int = 0
    replace: bool = False


class Desk(Doorkeeper):
    """One for the server. An async context manager: leaving it ends what still runs."""

    def __init__(
        self, settings: HttpServerOptions, launcher: Launcher, store: AvatarStore, metrics: Metrics | None = None
    ) -> None:
        super().__init__(settings)
        self.metrics = metrics or NoMetrics()
        self.draining = False
        self.launcher, self.store = launcher, store
        self.warm = True
        """False while avatars are being loaded ahead."""
        self._dialling = Dialling.of(
            settings.livekit_url, settings.allow_livekit_urls, loopback=is_loopback(settings.host)
        )
        self._ledger = Ledger(keep_s=settings.keep_ended_s, keep=settings.keep_ended)
        self._lives = Lives(launcher, self._ledger, self.metrics, settings.start_timeout_s)
        self._admission = anyio.Lock()
        self._tasks: TaskGroup
        self.podium: Podium
        """Where sessions are given what to say."""

    async def __aenter__(self) -> Desk:
        """Open."""
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self.podium = Podium(self._tasks, HELD_BODIES * self.settings.max_audio_bytes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End what still runs, without waiting for sentences."""
        self.draining = True
        with anyio.move_on_after(CLOSING_S, shield=True):
            await self._lives.end_all(SHUTDOWN)
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, error, trace)

    # -- starting

    async def start(
        self, ask: Ask, *, caller: Caller, dialect: str, idempotency: str | None = None, wait: bool = True
    ) -> Entry:
        """Start a session, or find the one that the same request started; with ``wait`` return once it runs.

        Everything is checked before any room is joined. Raises ApiError.
        """
        self.check_open()
        url = self.livekit_url(ask.livekit_url)
        token = self._room_token(ask, url)
        async with self._admission:
            fingerprint = _fingerprint(ask, url, token)
            key = _start_key(ask, fingerprint, caller, dialect, idempotency)
            entry = self._ledger.started(key)
            if entry is None or (idempotency is None and not entry.active):
                entry = await self._admit(ask, token, url, caller, dialect, key, fingerprint)
            elif entry.fingerprint != fingerprint:
                raise ApiError(409, "IDEMPOTENCY_CONFLICT", "another request was made with the same Idempotency-Key")
        if wait:
            await entry.wait_started()
        return entry

    async def _admit(
        self, ask: Ask, token: RoomToken, url: str, caller: Caller, dialect: str, key: str, fingerprint: str
    ) -> Entry:
        await self.usable_avatar(ask.avatar)
        held = self._holder(url, token)
        if held is not None and not (ask.replace and held.caller.id == caller.id):
            message = f"{token.identity!r} is in the room already, by another session"
            raise ApiError(409, "AVATAR_ALREADY_ACTIVE", message, {"avatar_identity": token.identity})
        if held is None:
            await self._check_room_for(caller)
        identity = ask.identity or token.on_behalf
        entry = Entry(ask.avatar, token.room, token.identity, identity, url, dialect, caller, ask.limits, fingerprint)
        self.check_open()
        self._ledger.add(entry, key)
        accounting.asked(entry, self.metrics)
        self._tasks.start_soon(self._lives.run, entry, self._request(ask, url), held)
        return entry

    def is_ours(self, url: str | None) -> bool:
        """Whether a LiveKit URL is that of our own server, however it is spelt. Raises ApiError as ``livekit_url``."""
        wanted, ours = self.livekit_url(url), self.settings.livekit_url
        return ours is not None and wanted == self.livekit_url(ours)

    def _room_token(self, ask: Ask, url: str) -> RoomToken:
        ours, secret = self.settings.livekit_api_key, self.settings.livekit_api_secret
        text = ask.livekit_token.get_secret_value()
        if not text:
            raise errors.missing("livekit_token")
        return read_room_token(
            text, key=ours if self.is_ours(url) else None, secret=secret.get_secret_value() if secret else None
        )

    def livekit_url(self, url: str | None) -> str:
        """The LiveKit URL to dial, checked. Raises ApiError 400, 403 LIVEKIT_URL_NOT_ALLOWED or 422."""
        wanted = url or self.settings.livekit_url
        if not wanted:
            raise errors.missing("livekit_url", "the server has no LIVEKIT_URL of its own")
        try:
            return self._dialling.checked(wanted)
        except PermissionError as error:
            raise ApiError(403, "LIVEKIT_URL_NOT_ALLOWED", str(error), {"parameter": "livekit_url"}) from None
        except ValueError as error:
            raise errors.invalid("livekit_url", str(error)) from None

    def _holder(self, url: str, token: RoomToken) -> Entry | None:
        place = (url, token.room, token.identity)
        return next((e for e in self._ledger.active() if (e.livekit_url, e.room, e.participant) == place), None)

    async def _check_room_for(self, caller: Caller) -> None:
        """Raise ApiError 429 or 503 if no further session is taken on."""
        if caller.max_sessions is not None and len(self._ledger.active(caller)) >= caller.max_sessions:
            raise errors.too_many(f"this key has all its {caller.max_sessions} sessions", 5.0, limit="max_sessions")
        full = await self.launcher.capacity()
        if full.problem is not None:
            raise errors.unavailable(
                "AT_CAPACITY", full.problem, full.retry_after, running=full.running, most=full.most
            )

    def _request(self, ask: Ask, url: str) -> SessionRequest:
        served: dict[str, Any] = {"identity": ask.identity} if ask.identity else {}
        agent: dict[str, Any] = {"agent": ask.identity} if ask.identity else {}
        way_out = {"url": url, "token": ask.livekit_token, **agent}
        return SessionRequest(avatar=ask.avatar, seed=ask.seed, source=served, transport=way_out, limits=ask.limits)

    # -- looking up and ending

    def find(self, entry_id: str, caller: Caller) -> Entry:
        """The session of an id, also some time after its end. Raises ApiError 404, also for another caller's."""
        entry = self._ledger.get(entry_id)
        if entry is None or entry.caller.id != caller.id:
            raise errors.no_session(entry_id)
        return entry

    def running(self, entry_id: str, caller: Caller) -> Entry:
        """The same, if it runs. Raises ApiError 404, or 409 SESSION_NOT_RUNNING."""
        entry = self.find(entry_id, caller)
        if entry.handle is None or not entry.active:
            raise ApiError(409, "SESSION_NOT_RUNNING", f"the session is {entry.status}", {"status": entry.status})
        return entry

    def entries(self, caller: Caller) -> list[Entry]:
        """A caller's sessions, ended ones included, oldest first."""
        return self._ledger.all(caller)

    async def stop(self, entry_id: str, caller: Caller, reason: str = "stop_request", *, finish: bool = False) -> Entry:
        """End a session; one that has ended stays as it is. ``finish`` lets what was begun be said to its end.

        Returns once it has ended or, with ``finish``, at once. Raises ApiError 404.
        """
        entry = self.find(entry_id, caller)
        if finish:
            entry.stopping = entry.stopping or reason
            if entry.handle is not None:
                await entry.handle.close(reason, finish=True)
            return entry
        await self._lives.end(entry, reason)
        return entry

    async def drain(self, timeout_s: float, hurry: anyio.Event | None = None) -> bool:
        """Take on nothing more, let sentences finish, at most so long or until ``hurry``; then end what is left.

        Returns whether all ended by themselves in time.
        """
        self.draining = True
        return await self._lives.drain(timeout_s, hurry)

    # -- what a session is told while it runs

    async def interrupt(self, entry_id: str, caller: Caller) -> None:
        """Stop what is being said and what waits. Raises ApiError 404 or 409."""
        entry = self.running(entry_id, caller)
        entry.mouth.interrupt()
        if entry.handle is not None:
            await entry.handle.interrupt()

    async def swap(self, entry_id: str, caller: Caller, avatar_id: str) -> Entry:
        """Show another avatar. Raises ApiError 404, 409 or 422."""
        entry = self.running(entry_id, caller)
        await self.usable_avatar(avatar_id)
        if entry.handle is not None:
            await entry.handle.swap(avatar_id)
        entry.avatar = avatar_id
        log.info("avatar swapped", extra=accounting.about(entry))
        return entry

    # -- what there is

    def check_open(self) -> None:
        """Raise ApiError 503 SERVER_DRAINING if no new session is taken on any more."""
        if self.draining:
            raise errors.draining()

    async def capacity(self) -> Capacity:
        """How full the server is."""
        return await self.launcher.capacity()

    def active(self) -> int:
        """How many sessions start or run, of all callers."""
        return len(self._ledger.active())

    def counts(self) -> dict[str, int]:
        """How many sessions start and run."""
        active = self._ledger.active()
        running = sum(entry.status == "running" for entry in active)
        return {"starting": len(active) - running, "running": running}

    async def avatars(self) -> list[AvatarEntry]:
        """All avatars, those that cannot be used with their reason."""
        return await self.store.list()

    async def usable_avatar(self, avatar_id: str) -> AvatarEntry:
        """The avatar of an id. Raises ApiError 404 AVATAR_NOT_FOUND or 422 AVATAR_INVALID."""
        listed = {entry.id: entry for entry in await self.avatars()}
        found = listed.get(avatar_id)
        if found is None:
            there = sorted(key for key, entry in listed.items() if entry.problem is None)[:50]
            raise ApiError(404, "AVATAR_NOT_FOUND", "there is no avatar of that id", {"avatars": there})
        if found.problem is not None:
            raise ApiError(422, "AVATAR_INVALID", found.problem, {"avatar_id": found.id})
        return found

    async def open_avatar(self, avatar_id: str) -> Hvia:
        """An avatar's file; whoever asks closes it. Raises ApiError 404 AVATAR_NOT_FOUND or 422 AVATAR_INVALID."""
        await self.usable_avatar(avatar_id)
        try:
            return await self.store.open(avatar_id)
        except AvatarError as error:
            raise errors.from_avatar(error) from None

    async def rehearse(self, avatar_id: str, frames: int) -> list[float]:
        """Draw so many pictures for nobody; returns the seconds each took. Raises ApiError."""
        await self.usable_avatar(avatar_id)
        try:
            return await self.launcher.rehearse(avatar_id, frames)
        except VisavisError as error:
            raise errors.from_start(error) from None

    def image_refused(self, url: str | None) -> ApiError:
        """What a launch that brings an image is answered (nothing is fetched): 422 IMAGE_NOT_SUPPORTED."""
        reason = None
        if url and not self.settings.images.allow_private_addresses:
            reason = private_reason(url)
        message = "avatars cannot be made of an image; name one by its id (GET /v1/avatars lists them)"
        return ApiError(422, "IMAGE_NOT_SUPPORTED", message, {"image_url": reason} if reason else {})

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format; nothing if they are not kept."""
        told = getattr(self.metrics, "exposition", None)
        text: bytes = told() if told is not None else b""
        return text

    def mint(self, identity: str, room: str, **grants: Any) -> str:
        """A room token made with our LiveKit key; see ``minting.mint``. Raises ApiError 422 CANNOT_MINT_TOKENS."""
        return minting.mint(self.settings, identity, room, **grants)


def _start_key(ask: Ask, fingerprint: str, caller: Caller, dialect: str, idempotency: str | None) -> str:
    """What makes two starts the same: the client's own key; without one, that all is the same, the token too."""
    token = ask.livekit_token.get_secret_value()
    given = ["key", idempotency] if idempotency is not None else ["token", token, fingerprint]
    return _digest([caller.id, dialect, *given])


def _fingerprint(ask: Ask, url: str, token: RoomToken) -> str:
    """What two requests with the same key must agree in. A server may have minted each a token of its own."""
    return _digest([ask.avatar, url, token.room, token.identity, ask.identity, ask.seed])


def _digest(parts: list[Any] | Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
