"""AvatarSession: what an agent starts to have a face. Alike in shape to the other avatar plugins of livekit-agents."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import aiohttp
import anyio
import anyio.to_thread
from livekit import rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    AgentSession,
    APIConnectOptions,
    APIError,
    NotGivenOr,
    get_job_context,
)
from livekit.agents.utils import is_given
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession
from livekit.agents.voice.io import AudioOutput

from visavis_source_agentsession.client import SAMPLE_RATE, AvatarServer
from visavis_source_agentsession.keeper import Keeper, Policy
from visavis_source_agentsession.link import Link, until
from visavis_source_agentsession.route import Route
from visavis_source_agentsession.server_link import Casting, RoomKeys, ServerLink
from visavis_source_agentsession.track import VoiceTrack

log = logging.getLogger("livekit.plugins.visavis")

LEAVING_SECONDS = 1.0
"""How long a dismissed avatar may take to be gone before it is removed from the room."""
ASKING_SECONDS = 10.0
"""How long ``start`` waits, in all, for a busy server: then the agent begins by voice and the avatar follows."""


@dataclass(frozen=True, slots=True)
class AvatarUnavailable:
    """The event ``avatar_unavailable``: why there is no avatar, and whether it is asked back."""

    reason: str
    error: Exception | None
    retrying: bool


@dataclass(frozen=True, slots=True)
class AvatarAvailable:
    """The event ``avatar_available``: the avatar speaks for the agent from now on."""

    identity: str


class AvatarSession(BaseAvatarSession[Literal["avatar_available", "avatar_unavailable"]]):  # type: ignore[misc]
    """Gives an agent a face.

    With a server (``avatar_id``, ``avatar_server_url``, ``api_key``; by default VISAVIS_AVATAR_ID, VISAVIS_URL and
    VISAVIS_API_KEY) the avatar joins the room as a participant of its own and is streamed to. With ``avatar`` or
    ``pipeline`` (needs ``visavis-source-agentsession[local]``) it is drawn inside this process.

    Without its avatar the agent goes on by voice, heard from its own track, and what the avatar had begun to say is
    said to its end; the avatar is asked back. Beside the base class's ``metrics_collected`` it emits
    ``avatar_available`` and ``avatar_unavailable``.

    Args:
        avatar_id: The avatar at the server: its file's name without .hvia.
        avatar_server_url: The Avatar Server, such as ``http://127.0.0.1:8080``.
        api_key: A key of that server; one that listens on loopback needs none.
        avatar: Draw this avatar here, without a server.
        pipeline: Run this pipeline file here (``source: {use: agentsession}``); ``avatar`` goes before the file's.
        avatar_participant_identity: Who the avatar is in the room; by default a name that no other session has.
        avatar_participant_name: What the room calls it; by default ``visavis-avatar``.
        voice_fallback: Go on by voice without the avatar. If False, ``start`` raises what asking for it failed
            with, and nothing is heard after it was lost.
        reconnect: Ask a missing or lost avatar back, ever less often.
        join_timeout: Seconds that speech waits for an avatar on its way.
        idle_timeout_s: End the avatar after so long without speech, if the server's own limit is not less; it is
            asked back when the agent speaks.
        max_duration_s: The same for its whole stay.
        http_session: For requests to the server; by default one of its own.
        conn_options: How often and how soon a request is tried again.
    """

    def __init__(
        self,
        *,
        avatar_id: NotGivenOr[str] = NOT_GIVEN,
        avatar_server_url: NotGivenOr[str] = NOT_GIVEN,
        api_key: NotGivenOr[str] = NOT_GIVEN,
        avatar: NotGivenOr[str] = NOT_GIVEN,
        pipeline: NotGivenOr[str | os.PathLike[str]] = NOT_GIVEN,
        avatar_participant_identity: NotGivenOr[str] = NOT_GIVEN,
        avatar_participant_name: NotGivenOr[str] = NOT_GIVEN,
        voice_fallback: bool = True,
        reconnect: bool = True,
        join_timeout: float = 20.0,
        idle_timeout_s: float | None = None,
        max_duration_s: float | None = None,
        http_session: aiohttp.ClientSession | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> None:
        """Raises ValueError if it is not said which avatar, or where it comes from. Nothing is asked for yet."""
        super().__init__()
        self._room: rtc.Room | None = None
        self._limits = {
            name: value
            for name, value in (("idle_timeout_s", idle_timeout_s), ("max_duration_s", max_duration_s))
            if value is not None
        }
        self._policy = Policy(voice=voice_fallback, retry=reconnect, join_timeout=join_timeout)
        self._local = is_given(avatar) or is_given(pipeline)
        if self._local:
            if is_given(avatar_server_url) or is_given(avatar_id):
                raise ValueError("an avatar is drawn here (avatar, pipeline) or at a server (avatar_id), not both")
            self._avatar: str | None = avatar if is_given(avatar) else None
            self._pipeline: str | os.PathLike[str] | None = pipeline if is_given(pipeline) else None
        else:
            self._avatar_id = _said(avatar_id, "VISAVIS_AVATAR_ID", "avatar_id: which avatar is to appear")
            url = _said(avatar_server_url, "VISAVIS_URL", "avatar_server_url: where its server is")
            key = api_key if is_given(api_key) else os.environ.get("VISAVIS_API_KEY")
            self._server = AvatarServer(url, api_key=key, http_session=http_session, conn_options=conn_options)
        self._identity = (
            avatar_participant_identity
            if is_given(avatar_participant_identity)
            else f"visavis-avatar-{secrets.token_hex(4)}"
        )
        self._name = avatar_participant_name if is_given(avatar_participant_name) else "visavis-avatar"
        self._link: Link | None = None
        self._keeper: Keeper | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._known = anyio.Event()
        self._failure: Exception | None = None

    # -- what the base class wants to know

    @property
    def avatar_identity(self) -> str:
        """The identity of the participant that publishes the avatar: in local mode it is the agent's own."""
        if self._local and self._room is not None:
            return str(self._room.local_participant.identity)
        return self._identity

    @property
    def provider(self) -> str:
        """``visavis``."""
        return "visavis"

    @property
    def session_id(self) -> str | None:
        """What the server calls the avatar's session, while there is one."""
        return self._link.session_id if isinstance(self._link, ServerLink) else None

    async def wait_for_join(self, *, timeout: float | None = 30.0) -> None:
        """Wait until the avatar is there. Raises TimeoutError, or at once what it failed with if it will not come."""
        with anyio.fail_after(timeout):
            await self._known.wait()
        if self._failure is not None:
            raise self._failure

    # -- its life

    async def start(
        self,
        agent_session: AgentSession[Any],
        room: rtc.Room,
        *,
        livekit_url: NotGivenOr[str] = NOT_GIVEN,
        livekit_api_key: NotGivenOr[str] = NOT_GIVEN,
        livekit_api_secret: NotGivenOr[str] = NOT_GIVEN,
    ) -> None:
        """Start the avatar and lead the agent's voice to it; returns when it has been granted, not when it is seen.

        The keys (by default LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET) sign the avatar's token in server mode.
        Raises ValueError without them, ConfigError for a pipeline that does not fit; with ``voice_fallback=False``
        APIStatusError or APIConnectionError if the server does not send the avatar.
        """
        if self._task is not None or self._closed:
            raise RuntimeError("an AvatarSession is started once; make a new one for another avatar")
        link = (
            await self._local_link(room)
            if self._local
            else self._server_link(agent_session, room, (livekit_url, livekit_api_key, livekit_api_secret))
        )
        await super().start(agent_session, room)
        self._link = link
        route = Route(sample_rate=None if self._local else SAMPLE_RATE)
        self._keeper = Keeper(
            route,
            link,
            self._policy,
            voice=_voice_of(agent_session, room),
            on_available=self._available,
            on_unavailable=self._unavailable,
        )
        failed = await self._ask(link)
        agent_session.output.replace_audio_tail(route)
        agent_session.on("close", self._agent_closed)
        self._task = asyncio.create_task(self._keeper.run(failed), name="visavis-avatar")
        self._task.add_done_callback(_report)

    async def _ask(self, link: Link) -> Exception | None:
        try:
            await link.ask(patience=ASKING_SECONDS if self._policy.voice else None)
        except APIError as error:
            if not self._policy.voice:
                await self.aclose()
                raise
            failed: Exception = error
            return failed
        except BaseException:  # a cancelled start, too, leaves nobody behind
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise
        return None

    async def _local_link(self, room: rtc.Room) -> Link:
        # Imported here: an agent whose avatar is drawn elsewhere needs no pipeline. In a thread: it takes a while.
        module = await anyio.to_thread.run_sync(import_module, "visavis_source_agentsession.local_link")
        deployment, request = await anyio.to_thread.run_sync(
            module.local_deployment, self._avatar, self._pipeline, self._limits
        )
        link: Link = module.LocalLink(room, deployment, request)
        return link

    def _server_link(
        self, agent_session: AgentSession[Any], room: rtc.Room, given: tuple[NotGivenOr[str], ...]
    ) -> ServerLink:
        names = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
        url, key, secret = (
            _said(value, name, f"{name.lower()}: the avatar's token is made with it")
            for value, name in zip(given, names, strict=True)
        )
        job = get_job_context(required=False)
        if room.isconnected():
            agent, room_name = room.local_participant.identity, room.name
        elif job is not None:
            agent, room_name = job.local_participant_identity, job.job.room.name
        else:
            raise RuntimeError("connect the room before the avatar is started, or start it in an agent's job")
        casting = Casting(self._avatar_id, self._identity, self._name, agent, room_name, options=dict(self._limits))
        keys = RoomKeys(url, key, secret)
        return ServerLink(self._server, room, keys, casting, state=lambda: agent_session.agent_state)

    async def aclose(self) -> None:
        """Dismiss the avatar; an agent that still runs goes on by voice. May be called twice."""
        if self._closed:
            return
        self._closed = True
        agent_session, room = self._agent_session, self._room
        try:
            if self._keeper is not None and self._task is not None:
                if agent_session is None or agent_session.agent_state == "initializing":
                    self._keeper.finish()
                    await asyncio.wait([self._task])
                else:
                    await self._keeper.release()
            elif self._link is not None:
                await self._link.aclose()
        finally:
            if not self._known.is_set():
                self._failure = RuntimeError("the avatar was closed before it joined")
                self._known.set()
            if room is not None and await self._has_left(room):
                self._room = None  # else the base class takes it out; in local mode that would be the agent itself
                room.off("connection_state_changed", self._on_connection_state_changed)
            await super().aclose()

    async def _has_left(self, room: rtc.Room) -> bool:
        if self._local:
            return True
        with anyio.move_on_after(LEAVING_SECONDS):
            await until(room, lambda: not room.isconnected() or self._identity not in room.remote_participants)
        return self._identity not in room.remote_participants

    def _agent_closed(self, *_: object) -> None:
        """The agent is over: so is the avatar."""
        if self._keeper is not None:
            self._keeper.finish()

    # -- what is told

    def _available(self) -> None:
        self._known.set()
        self._failure = None
        log.info("the avatar %s speaks for the agent", self.avatar_identity)
        self.emit("avatar_available", AvatarAvailable(self.avatar_identity))

    def _unavailable(self, reason: str, error: Exception | None, retrying: bool) -> None:
        if not retrying and not self._known.is_set():
            self._failure = error or RuntimeError(reason)
            self._known.set()
        self.emit("avatar_unavailable", AvatarUnavailable(reason, error, retrying))


def _said(given: NotGivenOr[str], variable: str, what: str) -> str:
    value = given if is_given(given) else os.environ.get(variable)
    if not value:
        raise ValueError(f"{what}; give it as an argument or in the environment as {variable}")
    return value


def _voice_of(agent_session: AgentSession[Any], room: rtc.Room) -> Any:
    """How the agent is heard without an avatar: by the output that it has, else by a track of its own."""
    tail: AudioOutput | None = agent_session.output.audio
    while tail is not None and tail.next_in_chain is not None:
        tail = tail.next_in_chain
    if tail is None or isinstance(tail, Route):
        return lambda: VoiceTrack(room)
    earlier = tail
    return lambda: earlier


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the avatar's keeper failed: %s", type(error).__name__, exc_info=error)
