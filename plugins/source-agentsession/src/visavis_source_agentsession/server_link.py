"""An avatar that an Avatar Server sends into the room."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup
from livekit import api, rtc
from livekit.agents import APIError
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF

from visavis_source_agentsession.client import AvatarServer, Granted
from visavis_source_agentsession.link import Link, Loss, until
from visavis_source_agentsession.stream import AvatarStream

log = logging.getLogger("livekit.plugins.visavis")

PULSE_SECONDS = 1.0
"""How often the avatar is asked whether it lives: LiveKit notices a killed participant only after 20 s."""
PULSE_PATIENCE = 1.5
"""How long it may take to answer."""
PULSE_METHOD = "agent_state_changed"
"""Our avatars answer it; from others an error is as good a sign of life."""
ECHO_ATTRIBUTE = "visavis.avatar_identity"
LETTING_GO_SECONDS = 5.0
RETURN_SECONDS = 5.0
"""How long an avatar that has left may be away while its session runs: its worker has died or shuts down and another
brings it back, or it has lost its connection."""
RETURN_PAUSE = 0.2
ANSWER_SECONDS = 1.5
"""How long the server may take to say whether the session runs."""


@dataclass(frozen=True)
class RoomKeys:
    """Where the room is and what may be signed for it. Never shown."""

    url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def http_url(self) -> str:
        """The same server for requests."""
        return "http" + self.url.removeprefix("ws") if self.url.startswith("ws") else self.url


@dataclass(frozen=True)
class Casting:
    """Who is to appear, for whom, and as whom."""

    avatar_id: str
    identity: str
    name: str
    agent: str
    """The identity of the agent: the avatar publishes on its behalf and listens to it alone."""
    room_name: str
    options: dict[str, Any] = field(default_factory=dict)
    """Further members of the request: limits."""
    attributes: dict[str, str] = field(default_factory=dict)


class ServerLink(Link):
    """Asks a server, streams to the participant that it sends, and feels its pulse."""

    def __init__(
        self,
        server: AvatarServer,
        room: rtc.Room,
        keys: RoomKeys,
        casting: Casting,
        *,
        state: Callable[[], str] = lambda: "listening",
    ) -> None:
        super().__init__(room)
        self._server, self._keys, self._casting = server, keys, casting
        self._state = state
        self._granted: Granted | None = None
        self._stream: AvatarStream | None = None
        self._sid = ""
        self._gone: set[str] = set()

    @property
    def identity(self) -> str:
        """The avatar's identity, which its token carries."""
        return self._casting.identity

    @property
    def session_id(self) -> str | None:
        """What the server calls the session."""
        return self._granted.id if self._granted is not None else None

    async def ask(self, *, patience: float | None = None) -> None:
        """Ask the server for the avatar. Raises APIError."""
        casting = self._casting
        body = {
            "avatar_id": casting.avatar_id,
            "livekit_url": self._keys.url,
            "livekit_token": self._token(),
            "agent_identity": casting.agent,
            "replace": True,
            **casting.options,
        }
        self._granted = await self._server.start(body, patience=patience)

    def _token(self) -> str:
        casting = self._casting
        token = api.AccessToken(self._keys.key, self._keys.secret).with_kind("agent")
        grants = api.VideoGrants(room_join=True, room=casting.room_name, can_update_own_metadata=True)
        token = token.with_identity(casting.identity).with_name(casting.name).with_grants(grants)
        token = token.with_attributes({**casting.attributes, ATTRIBUTE_PUBLISH_ON_BEHALF: casting.agent})
        return str(token.to_jwt())

    async def join(self, tasks: TaskGroup) -> AvatarStream:
        """Wait for the participant and its video."""
        await until(self._room, lambda: self._avatar() is not None)
        avatar = self._avatar()
        assert avatar is not None
        assert self._granted is not None
        self._sid = avatar.sid
        self._stream = AvatarStream(
            self._room, destination_identity=self.identity, sample_rate=self._granted.sample_rate
        )
        return self._stream

    def _avatar(self) -> rtc.RemoteParticipant | None:
        """The avatar if it is ready: not one that was lost and whose end the room has not noticed."""
        found = self._room.remote_participants.get(self.identity) if self._room.isconnected() else None
        if found is None or found.sid in self._gone or found.state != rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            return None
        seen = any(p.kind == rtc.TrackKind.KIND_VIDEO for p in found.track_publications.values())
        return found if seen else None

    # -- is it still there

    async def lost(self) -> Loss:
        """Wait until the participant has left, or answers no more."""
        alive = anyio.current_time()
        losses: list[Loss] = []
        last = self._room.remote_participants.get(self.identity)

        async def leaving() -> None:
            await until(self._room, self._left)
            losses.append(_departure(last, alive))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leaving)
            while True:
                await anyio.sleep(PULSE_SECONDS)
                # Asked twice, and the room in between: neither a stall of this process nor of the room is its death.
                if await self._pulse() or not await self._echo() or await self._pulse():
                    alive = anyio.current_time()
                elif not self._left():
                    break
            tasks.cancel_scope.cancel()
        self._gone.add(self._sid)
        return losses[0] if losses else Loss("the avatar does not answer any more", alive)

    def _left(self) -> bool:
        found = self._room.remote_participants.get(self.identity)
        return found is None or found.sid != self._sid

    async def _pulse(self) -> bool:
        """Whether the avatar answers."""
        with anyio.move_on_after(PULSE_PATIENCE + 0.5):
            try:
                await self._room.local_participant.perform_rpc(
                    destination_identity=self.identity,
                    method=PULSE_METHOD,
                    payload=self._state(),
                    response_timeout=PULSE_PATIENCE,
                    max_round_trip_latency=PULSE_PATIENCE,
                )
            except rtc.RpcError as error:
                return error.code not in _SILENCES
            return True
        return False

    async def _echo(self) -> bool:
        """Whether the room answers at all: if it does not, the silence is not the avatar's."""
        with anyio.move_on_after(PULSE_PATIENCE):
            try:
                await self._room.local_participant.set_attributes({ECHO_ATTRIBUTE: self.identity})
            except Exception:  # noqa: BLE001 - not allowed, or not connected: the SDK does not tell them apart
                return bool(self._room.isconnected())
            return True
        return False

    async def comes_back(self) -> bool:
        """Wait for it while its session runs. Another session would put its successor out of the room."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        with anyio.move_on_after(RETURN_SECONDS):
            while await self._runs():
                if self._avatar() is not None:
                    return True
                await anyio.sleep(RETURN_PAUSE)
        return False

    async def _runs(self) -> bool:
        if self._granted is None:
            return False
        with anyio.move_on_after(ANSWER_SECONDS):
            try:
                return await self._server.runs(self._granted.id)
            except APIError as error:
                log.debug("%s", error.message)
        return False

    # -- letting go

    async def drop(self, reason: str) -> None:
        """End the session at the server, and take what is left of it out of the room."""
        granted, self._granted = self._granted, None
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        if granted is None:
            return
        with anyio.move_on_after(LETTING_GO_SECONDS, shield=True):
            try:
                await self._server.stop(granted.id)
            except APIError as error:
                log.debug("the avatar's session could not be ended at the server: %s", error.message)
            if self._sid in self._gone and self._room.isconnected() and not self._left():
                await self._remove()

    async def _remove(self) -> None:
        """Take a dead participant out of the room, so that nobody looks at a frozen face."""
        request = api.RoomParticipantIdentity(room=self._casting.room_name, identity=self.identity)
        try:
            async with api.LiveKitAPI(self._keys.http_url, self._keys.key, self._keys.secret) as rooms:
                await rooms.room.remove_participant(request)
        except Exception as error:  # noqa: BLE001 - best effort: LiveKit removes it by itself later
            log.debug("the lost avatar could not be removed from the room: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Let go of the connections too."""
        await self.drop("closed")
        await self._server.aclose()


_SILENCES = frozenset(
    {
        rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT,
        rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT,
        rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED,
        rtc.RpcError.ErrorCode.RECIPIENT_NOT_FOUND,
        rtc.RpcError.ErrorCode.SEND_FAILED,
    }
)


def _departure(avatar: rtc.RemoteParticipant | None, alive: float) -> Loss:
    said = avatar.attributes.get("visavis.reason", "") if avatar is not None else ""
    if said:
        return Loss(f"the avatar left: {said}", alive, orderly=True)
    return Loss("the avatar left the room", alive)
