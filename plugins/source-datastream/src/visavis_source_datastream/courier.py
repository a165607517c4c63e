"""Carries events to those who speak: in order for each, and nobody waits for somebody else."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import TaskGroup
from livekit import rtc

from visavis_source_datastream.utterance import Stir
from visavis_source_datastream.wire import ERROR_TOPIC

log = logging.getLogger("visavis.source.datastream")

HEAD_START: Final = 0.02
"""Seconds that an event waits for the answer to the one before: enough that it is not overtaken on its way."""
IN_FLIGHT: Final = 16
"""Calls to one participant that may wait for an answer."""
ANSWER_SECONDS: Final = 5.0
ABSENT_SECONDS: Final = 30.0
"""How long events are kept for a participant that has left, or while the room is not connected."""
MOST_WAITING: Final = 512
"""Events that may wait for one participant."""
MOST_MESSAGES: Final = 32
"""Of these, messages about refused streams."""
FAREWELL_SECONDS: Final = 1.0

WATCHED: Final = ("reconnected", "connection_state_changed")


@dataclass(frozen=True, slots=True)
class Call:
    """A method of the far end to call."""

    method: str
    payload: str


@dataclass(frozen=True, slots=True)
class Message:
    """A text for ``visavis.error``."""

    text: str


class _Box:
    """What waits for one participant."""

    def __init__(self) -> None:
        self.waiting: deque[Call | Message] = deque()
        self.places = anyio.Semaphore(IN_FLIGHT)
        self.served = False

    @property
    def messages(self) -> int:
        return sum(isinstance(notice, Message) for notice in self.waiting)


class Courier:
    """Delivers what was posted, from a task of its own. A failure to deliver is logged and hurts nobody."""

    def __init__(self, room: rtc.Room, gone: Callable[[str], bool]) -> None:
        """``gone`` tells whether a participant has left.

        Whether it is in ``room.remote_participants`` does not: servers announce participants that publish nothing
        seconds after these have begun to send.
        """
        self._room, self._gone = room, gone
        self._boxes: dict[str, _Box] = {}
        self._stir = Stir()
        for event in WATCHED:
            room.on(event, self.stir)

    def close(self) -> None:
        """Let go of the room. May be called twice."""
        for event in WATCHED:
            self._room.off(event, self.stir)

    def stir(self, *_: object) -> None:
        """Somebody has come back, or the room."""
        self._stir()

    def post(self, identity: str, notice: Call | Message) -> None:
        """Have it delivered; never waits. What is beyond the bounds is dropped, messages first."""
        box = self._boxes.setdefault(identity, _Box())
        crowded = isinstance(notice, Message) and box.messages >= MOST_MESSAGES
        if crowded or len(box.waiting) >= MOST_WAITING:
            log.debug("%s hears nothing of %s: too much waits for it", identity, notice)
            return
        box.waiting.append(notice)
        self._stir()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                change = self._stir.next
                self._serve(tasks)
                await change.wait()

    async def farewell(self) -> None:
        """Deliver what is left, for a second at most. ``run`` is over by now."""
        if not self._boxes or not self._room.isconnected():
            return
        with anyio.move_on_after(FAREWELL_SECONDS):
            async with anyio.create_task_group() as tasks:
                for box in self._boxes.values():
                    box.served = False
                self._serve(tasks)

    def _serve(self, tasks: TaskGroup) -> None:
        for identity, box in self._boxes.items():
            if not box.served:
                box.served = True
                tasks.start_soon(self._deliver, identity, box, tasks)

    async def _deliver(self, identity: str, box: _Box, tasks: TaskGroup) -> None:
        while box.waiting:
            if not await self._in_reach(identity):
                log.info("%s has left the room: %d events are not delivered", identity, len(box.waiting))
                break
            await box.places.acquire()
            answered = anyio.Event()
            # It is off the list only once it is on its way: a delivery that is cancelled here is made by the farewell.
            tasks.start_soon(self._send, identity, box.waiting.popleft(), box, answered)
            with anyio.move_on_after(HEAD_START):
                await answered.wait()
        if self._boxes.get(identity) is box:
            del self._boxes[identity]

    async def _in_reach(self, identity: str) -> bool:
        """Wait until the room is connected and the participant can be called."""
        with anyio.move_on_after(ABSENT_SECONDS):
            while True:
                change = self._stir.next
                if self._here(identity):
                    return True
                await change.wait()
        return False

    def _here(self, identity: str) -> bool:
        return self._room.connection_state == rtc.ConnectionState.CONN_CONNECTED and not self._gone(identity)

    async def _send(self, identity: str, notice: Call | Message, box: _Box, answered: anyio.Event) -> None:
        try:
            await self._transmit(identity, notice)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises: an event that cannot be told stops nobody
            self._report(identity, notice, error)
        finally:
            answered.set()
            box.places.release()

    async def _transmit(self, identity: str, notice: Call | Message) -> None:
        if isinstance(notice, Message):
            us = self._room.local_participant
            await us.send_text(notice.text, destination_identities=[identity], topic=ERROR_TOPIC)
            return
        session = self._session_of(identity)
        try:
            await self._call(identity, notice)
        except rtc.RpcError as error:
            # One side joined anew while the call was on its way: it is lost with the old connection, so say it again.
            # On the same connection it may have been heard although the answer is missing: then never twice.
            lost = error.code in (rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT, rtc.RpcError.ErrorCode.SEND_FAILED)
            if not lost or session == self._session_of(identity) or not await self._in_reach(identity):
                raise
            await self._call(identity, notice)

    async def _call(self, identity: str, call: Call) -> None:
        await self._room.local_participant.perform_rpc(
            destination_identity=identity,
            method=call.method,
            payload=call.payload,
            response_timeout=ANSWER_SECONDS,
        )

    def _session_of(self, identity: str) -> tuple[str, str]:
        """Changes when either side joins anew."""
        them = self._room.remote_participants.get(identity)
        return self._room.local_participant.sid, "" if them is None else them.sid

    @staticmethod
    def _report(identity: str, notice: Call | Message, error: Exception) -> None:
        what = notice.method if isinstance(notice, Call) else "a message"
        code = error.code if isinstance(error, rtc.RpcError) else None
        if code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD:
            log.debug("%s does not listen for %s", identity, what)
        elif code == rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED:
            log.info("%s has left as it was told of %s", identity, what)
        else:
            log.warning("%s could not be told of %s: %s %s", identity, what, type(error).__name__, code or "")
