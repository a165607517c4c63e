"""An avatar's stay in a room: joining, who is there, connections lost and found, and why it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from livekit import rtc
from visavis.errors import TransportError
from visavis.interfaces.session import SessionContext

from visavis_transport_livekit import joining, reentry, tracks
from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.presence import ON_BEHALF, Other, Presence
from visavis_transport_livekit.pulse import Pulse, RoomLine

log = logging.getLogger("visavis.transport.livekit")

TELLING_SECONDS: Final = 2.0
"""How long the server may take to take in an attribute."""
UNSAID_SECONDS: Final = 0.25
"""How long after the state of the connection its reason may come."""
REJOIN_PAUSE: Final = 1.0
"""Seconds between two attempts to enter a room anew."""

_FINAL: Final = {
    rtc.DisconnectReason.DUPLICATE_IDENTITY: "another participant joined with its identity",
    rtc.DisconnectReason.PARTICIPANT_REMOVED: "it was removed from the room",
    rtc.DisconnectReason.ROOM_DELETED: "the room was deleted",
    rtc.DisconnectReason.ROOM_CLOSED: "the room was closed",
    rtc.DisconnectReason.CLIENT_INITIATED: "the room was left",
}
"""Ends that are somebody's will: not to be undone by joining again."""
_HUMAN: Final = (rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD, rtc.ParticipantKind.PARTICIPANT_KIND_SIP)
_COMPANY: Final = (
    *_HUMAN,
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
    rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR,
    rtc.ParticipantKind.PARTICIPANT_KIND_BRIDGE,
)


class Stay:
    """One room, from joining to leaving. An owned room is joined and left here; a borrowed one only watched."""

    def __init__(
        self,
        options: LiveKitTransportOptions,
        where: LiveKitSessionOptions,
        context: SessionContext,
        room: rtc.Room,
        *,
        owned: bool,
        republish: Callable[[], Awaitable[None]],
    ) -> None:
        self._options, self._where, self._context = options, where, context
        self._room, self._owned, self._republish = room, owned, republish
        self._loop = asyncio.get_running_loop()
        self._token = where.token.get_secret_value()
        self._presence: Presence | None = None
        self._pulse: Pulse | None = None
        self._facts: dict[str, str] = {}
        self._reason = ""
        self._rejoining = False
        self._left = asyncio.Event()
        self._change = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[tuple[Any, Callable[..., None]]] = [
            ("participant_connected", self._came),
            ("participant_disconnected", self._went),
            ("reconnecting", self._reconnecting),
            ("reconnected", self._reconnected),
            ("disconnected", self._disconnected),
            ("connection_state_changed", self._state_changed),
        ]

    # -- beginning

    async def begin(self) -> None:
        """Join the room. Raises TransportError."""
        for event, listener in self._listeners:
            self._room.on(event, listener)
        began = self._loop.time()
        if self._owned:
            await joining.join(self._room, self._where.url, self._token, self._options.join_timeout_s)
            if not self._room.local_participant.permissions.can_publish:
                raise TransportError(
                    f"the avatar may not publish in the room {self._room.name}", hint="grant canPublish in its token"
                )
        elif not self._room.isconnected():
            raise TransportError("the room that the session was given is not connected", hint="connect it first")
        self._context.metrics.observe("visavis_join_seconds", self._loop.time() - began)
        us = self._room.local_participant
        log.info(
            "session %s: joined the room %s as %s",
            self._context.session_id,
            self._room.name,
            us.identity,
            extra={"session": self._context.session_id, "room": self._room.name},
        )
        if self._owned:
            self._watch()

    def _watch(self) -> None:
        agent = self._where.agent or self._room.local_participant.attributes.get(ON_BEHALF, "")
        if not agent and (claims := tokens.read(self._token)) is not None:
            agent = claims.attributes.get(ON_BEHALF, "")
        options = self._options
        self._presence = Presence(options.agent_grace_s, options.empty_grace_s, self._loop.time(), agent)
        for participant in self._room.remote_participants.values():
            self._presence.came(_other(participant))
        if agent and ON_BEHALF not in self._room.local_participant.attributes:
            self._spawn(self.announce({ON_BEHALF: agent}))
        self._spawn(self._watch_presence())
        if options.pulse_s is not None and agent not in ("", self._room.local_participant.identity):
            line = RoomLine(self._room, agent)
            judges = self._hears
            self._pulse = Pulse(line, options.pulse_s, judges=judges, found=self._found, lost=self._lost)
            self._spawn(self._pulse.feel())

    # -- who is there

    async def _watch_presence(self) -> None:
        assert self._presence is not None
        while not self._left.is_set():
            self._change.clear()
            now = self._loop.time()
            if (reason := self._presence.verdict(now)) is not None:
                self._leave(reason)
                return
            due = self._presence.due()
            with anyio.CancelScope(deadline=float("inf") if due is None else due):
                await self._change.wait()

    def _came(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind in _HUMAN and not participant.attributes.get(ON_BEHALF):
            self._context.sign_of_life()
        if self._presence is not None:
            self._presence.came(_other(participant))
            self._change.set()

    def _went(self, participant: rtc.RemoteParticipant) -> None:
        if self._presence is not None:
            if self._pulse is not None and participant.identity == self._presence.agent:
                self._pulse.departed()
            self._presence.went(participant.identity, self._loop.time())
            self._change.set()

    def _hears(self) -> bool:
        """Whether the room is there, as far as is known, and the others had time to come back to it."""
        if self._presence is None or self._rejoining or not self._room.isconnected():
            return False
        return not self._presence.excused(self._loop.time())

    def _found(self) -> None:
        """The agent has answered: it is there even if the room does not list it, or was taken for dead."""
        presence = self._presence
        if presence is not None and presence.agent not in presence:
            there = self._room.remote_participants.get(presence.agent)
            presence.came(Other(presence.agent) if there is None else _other(there))
            self._change.set()

    def _lost(self, since: float) -> None:
        """The agent has not answered since then, though the room does."""
        presence = self._presence
        if presence is not None and presence.agent in presence:
            log.warning("session %s: its agent %s does not answer", self._context.session_id, presence.agent)
            self._context.metrics.count("visavis_agent_silences_total")
            presence.went(presence.agent, since)
            self._change.set()

    # -- connections lost and found

    def _reconnecting(self) -> None:
        log.warning("session %s: the connection to the room is lost, reconnecting", self._context.session_id)
        self._context.metrics.count("visavis_reconnecting_total")
        if self._presence is not None:
            self._presence.excuse(float("inf"))
            self._change.set()

    def _reconnected(self) -> None:
        log.info("session %s: connected to the room again", self._context.session_id)
        self._resume()

    def _resume(self) -> None:
        """After a connection was lost: the server may have lost what it knew, and the others the room."""
        if self._presence is not None:
            now = self._loop.time()
            self._presence.excuse(now + self._options.reconnect_grace_s)
            self._presence.sync([_other(p) for p in self._room.remote_participants.values()], now)
            self._change.set()
        if self._facts:
            self._spawn(self.announce(dict(self._facts)))

    def _state_changed(self, state: rtc.ConnectionState.ValueType) -> None:
        """The SDK forgets to say "disconnected" now and then: where the state came first, its own end came sooner."""
        if state == rtc.ConnectionState.CONN_DISCONNECTED:
            self._loop.call_later(UNSAID_SECONDS, self._unsaid)

    def _unsaid(self) -> None:
        if not (self._left.is_set() or self._rejoining or self._room.isconnected()):
            reasons = rtc.DisconnectReason
            self._disconnected(reasons.UNKNOWN_REASON if self._owned else reasons.CLIENT_INITIATED)

    def _disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        name = rtc.DisconnectReason.Name(reason)
        if self._left.is_set() or self._rejoining:
            return
        if self._owned and reason not in _FINAL and self._options.rejoin_timeout_s > 0 and self._presence is not None:
            log.warning("session %s: thrown out of the room (%s), joining again", self._context.session_id, name)
            self._presence.excuse(float("inf"))
            self._change.set()
            self._rejoining = True
            self._spawn(self._rejoin(name))
            return
        self._leave(_FINAL.get(reason, f"the connection to the room was lost ({name.lower()})"))

    async def _rejoin(self, why: str) -> None:
        """Enter the room anew, with the newest token, until it works, is refused, or takes too long."""
        methods = reentry.rpc_methods(self._room)
        token = reentry.newest_token(self._room, self._token)
        end = self._loop.time() + self._options.rejoin_timeout_s
        said = why.lower()
        await reentry.stop_listening(self._room)
        while (left := end - self._loop.time()) > 0:
            reentry.forget_others(self._room)
            try:
                await joining.join(self._room, self._where.url, token, min(left, self._options.join_timeout_s))
                reentry.restore(self._room, methods)
                await self._republish()
            except joining.Refused as error:
                self._leave(f"the room was lost and could not be joined again: {error.message}")
                return
            except TransportError as error:
                said = error.message
                await joining.leave(self._room)  # it may have been joined, and the tracks not taken
                await asyncio.sleep(REJOIN_PAUSE)
            else:
                log.info("session %s: joined the room again", self._context.session_id)
                self._context.metrics.count("visavis_rejoins_total")
                self._rejoining = False
                self._resume()
                return
        self._leave(f"the connection to the room was lost ({said})")

    # -- what is told

    async def announce(self, facts: dict[str, str]) -> None:
        """Set attributes of our participant, where the token allows it; kept for after a reconnection."""
        self._facts |= facts
        if not self._room.isconnected():
            return
        us = self._room.local_participant
        if not us.permissions.can_update_metadata:
            log.debug("session %s: the token does not allow attributes: %s", self._context.session_id, sorted(facts))
            return
        with anyio.move_on_after(TELLING_SECONDS) as patience:
            await us.set_attributes(facts)
        if patience.cancelled_caught:
            log.warning("session %s: the room did not take in %s", self._context.session_id, sorted(facts))

    # -- the end

    def _leave(self, reason: str) -> None:
        if not self._left.is_set():
            self._reason = reason
            self._left.set()
            self._change.set()
            log.info(
                "session %s: leaves: %s",
                self._context.session_id,
                reason,
                extra={"session": self._context.session_id, "room": self._room.name, "reason": reason},
            )

    async def over(self) -> str:
        """Wait until the avatar has to leave; returns why."""
        await self._left.wait()
        return self._reason

    async def end(self, reason: str) -> None:
        """Say why, take the tracks back, leave. An owned room is left even if nothing else works."""
        self._left.set()
        for event, listener in self._listeners:
            self._room.off(event, listener)
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self._room.isconnected():
                if reason and self._facts.get("visavis.reason") != reason:
                    await self.announce({"visavis.reason": reason})
                with anyio.move_on_after(TELLING_SECONDS):
                    await tracks.unpublish(self._room)
        except Exception as error:  # noqa: BLE001 - what the SDK raises in a room that is half gone
            log.debug("session %s: could not unpublish: %s", self._context.session_id, type(error).__name__)
        finally:
            if self._owned:
                await joining.leave(self._room)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            said = tokens.redacted(str(error))
            log.error("session %s: %s: %s", self._context.session_id, type(error).__name__, said)
            self._leave(f"the room failed: {type(error).__name__}")


def _other(participant: rtc.RemoteParticipant) -> Other:
    avatar = bool(participant.attributes.get(ON_BEHALF))
    return Other(participant.identity, company=participant.kind in _COMPANY and not avatar)
