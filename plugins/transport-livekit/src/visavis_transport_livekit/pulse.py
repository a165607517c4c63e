"""Whether the agent that an avatar serves still lives: LiveKit itself takes 20 s to notice that a process was killed.

An RPC that the agent does not know is answered by its SDK, below its program: one whose program is busy answers too, a
dead one does not. Silence alone proves nothing: the room may stand still, or our way to it. So the room is asked
as well, and an agent that has never answered (its SDK may know no RPC, its token may forbid it) is never judged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import anyio
from livekit import rtc

log = logging.getLogger("visavis.transport.livekit")

METHOD: Final = "visavis.pulse"
"""What is called. Nobody has to know it."""
PATIENCE: Final = 1.5
"""Seconds in which an agent, or the room, answers. It takes milliseconds."""
ARRIVAL_PATIENCE: Final = 2.5
"""Seconds in which something comes from the room by UDP: reports and keep-alives do, about once a second."""
SETTLING: Final = 10.0
"""Seconds after the room was in doubt in which silence is no proof: what was held up is still being sent again."""
RECHECK: Final = 0.5
"""Seconds between two calls to an agent that is silent: it may come back."""
ECHO_ATTRIBUTE: Final = "visavis.echo"

_SILENCES: Final = frozenset(
    {
        rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT,
        rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT,
        rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED,
        rtc.RpcError.ErrorCode.RECIPIENT_NOT_FOUND,
        rtc.RpcError.ErrorCode.SEND_FAILED,
    }
)


class Line(Protocol):
    """The way to an agent, and to its room."""

    async def answers(self) -> bool:
        """Whether the agent answers in time, whatever it says."""

    async def echo(self) -> bool:
        """Whether the room answers a request."""

    async def arrived(self) -> int:
        """How many packets have come from the room so far."""

    def who(self) -> str:
        """Which stay of the agent this is, and what it may do in it: silence counts only where that has answered."""


class RoomLine:
    """The line through a LiveKit room."""

    def __init__(self, room: rtc.Room, agent: str) -> None:
        self._room, self._agent = room, agent

    async def answers(self) -> bool:
        """Call it. An error is an answer, unless it says that none came."""
        with anyio.move_on_after(PATIENCE + 0.5):
            try:
                await self._room.local_participant.perform_rpc(
                    destination_identity=self._agent,
                    method=METHOD,
                    payload="",
                    response_timeout=PATIENCE,
                    max_round_trip_latency=PATIENCE,
                )
            except rtc.RpcError as error:
                return error.code not in _SILENCES
            return True
        return False

    async def echo(self) -> bool:
        """Set an attribute: the server says that it did, or that we may not."""
        with anyio.move_on_after(PATIENCE):
            await self._room.local_participant.set_attributes({ECHO_ATTRIBUTE: self._agent})
            return bool(self._room.isconnected())
        return False

    async def arrived(self) -> int:
        """Media reports and keep-alives: they take the same way as RPCs."""
        stats = await self._room.get_rtc_stats()
        pairs = [
            entry.candidate_pair.candidate_pair
            for entry in (*stats.publisher_stats, *stats.subscriber_stats)
            if entry.WhichOneof("stats") == "candidate_pair"
        ]
        return sum(pair.packets_received + pair.responses_received + pair.requests_received for pair in pairs)

    def who(self) -> str:
        """The participant's id, another one each time it joins; and which of the two may send no data, nor RPCs."""
        us, them = self._room.local_participant, self._room.remote_participants.get(self._agent)
        speaks = them is None or them.permissions is None or them.permissions.can_publish_data
        hears = us.permissions.can_publish_data
        return f"{'' if them is None else them.sid}{'' if speaks else ' mute'}{'' if hears else ' deaf'}"


class Pulse:
    """Feels an agent's pulse until cancelled, and tells when it is found, and when lost.

    ``judges`` says whether silence counts now; ``found`` is called at each answer, ``lost`` with the loop's time
    since which the agent is silent, once each time it falls silent.
    """

    def __init__(
        self,
        line: Line,
        every: float,
        *,
        judges: Callable[[], bool],
        found: Callable[[], None],
        lost: Callable[[float], None],
    ) -> None:
        self._line, self._every = line, every
        self._judges, self._found, self._lost = judges, found, lost
        self._departures = 0
        self._answered: str | None = None
        self._silent = False
        self._since = self._settled = float("-inf")

    def departed(self) -> None:
        """The room has said that the agent left: an answer on its way is an old one."""
        self._departures += 1
        self._answered = None

    async def feel(self) -> None:
        """Call it again and again."""
        while True:
            await self._beat()
            await asyncio.sleep(min(RECHECK, self._every) if self._silent else self._every)

    async def _beat(self) -> None:
        departures, who = self._departures, self._line.who()
        try:
            lives = await self._lives(who)
        except Exception as error:  # noqa: BLE001 - what the SDK raises in a room that is half gone
            log.debug("the agent's pulse could not be felt: %s", type(error).__name__)
            self._doubt()
            return
        if lives is None or departures != self._departures:
            return
        if lives:
            self._answered, self._silent, self._settled = who, False, float("-inf")
            self._found()
        elif self._judges() and self._line.who() == who:
            self._silent = True
            self._lost(self._since)

    async def _lives(self, who: str) -> bool | None:
        """Whether the agent lives; None if that cannot be said."""
        if await self._line.answers():
            return True
        self._since = anyio.current_time()
        if self._silent or self._answered != who or self._since < self._settled or not self._judges():
            return None
        # Asked twice, and the room in between: neither a stall of this process nor of the room is the agent's death.
        before = await self._line.arrived()
        if await self._line.echo():
            if await self._line.answers():
                return True
            if await self._line.echo() and await self._arrives(before):
                return False
        self._doubt()
        return None

    async def _arrives(self, before: int) -> bool:
        """Whether more comes from the room: requests go by TCP, and RPCs do not."""
        with anyio.move_on_after(ARRIVAL_PATIENCE):
            while True:
                if await self._line.arrived() > before:
                    return True
                await asyncio.sleep(0.2)
        return False

    def _doubt(self) -> None:
        self._settled = anyio.current_time() + SETTLING
