"""The control room: servers and workers are its participants and talk by reliable data packets, each pair a wire.

Nobody else can join it without the API key, and nothing of it is seen in the rooms where avatars speak.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio
from livekit import rtc
from visavis.errors import TransportError
from visavis.redaction import redacted
from visavis.remote.wire import MOST_BYTES, MOST_JSON, Message, Wire, WireClosed, packed, whole

from visavis_launcher_livekit.options import DispatchOptions
from visavis_launcher_livekit.order import Participant, token_of

log = logging.getLogger("visavis.launcher.livekit")

TOPIC: Final = "visavis.control"
PIECE: Final = 14_000
"""Bytes of a message in one packet: LiveKit advises against more than 15 KiB."""
MOST_WAITING: Final = 4_096
"""Packets of one peer that may wait to be looked at."""
FIRST, LAST = 1, 2
_HEAD: Final = struct.Struct(">IIBB")
"""Which wire a packet is of (an end that gave up begins a new one), its number, its flags, and the length of its
sender's identity, which follows: the SDK does not know the sender of a packet that is ahead of its announcement."""
CONNECTING_SECONDS: Final = 10.0
PAUSE: Final = 1.0
ECHO_SECONDS: Final = 1.0
PARTING_SECONDS: Final = 3.0


class RoomWire(Wire):
    """The wire to one peer."""

    def __init__(self, room: rtc.Room, us: str, peer: str) -> None:
        self.peer = peer
        self._us = us.encode()
        self._room = room
        self._turn = anyio.Lock()
        self._id, self._sent = secrets.randbits(32), 0
        self._theirs = 0
        self._expected: int | None = None
        self._packets: deque[bytes] = deque()
        self._news = anyio.Event()
        self._why = ""

    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Send one message, in as many packets as it takes."""
        data = packed(message, payload)
        async with self._turn:
            for at in range(0, len(data), PIECE):
                if self._why or not self._room.isconnected():
                    raise WireClosed(self._why or "the control room is lost")
                flags = (FIRST if at == 0 else 0) | (LAST if at + PIECE >= len(data) else 0)
                head = _HEAD.pack(self._id, self._sent % 2**32, flags, len(self._us))
                self._sent += 1
                await self._publish(head + self._us + data[at : at + PIECE])

    async def _publish(self, packet: bytes) -> None:
        try:
            # Half a message would be the end of the wire.
            with anyio.CancelScope(shield=True), anyio.fail_after(CONNECTING_SECONDS):
                us = self._room.local_participant
                await us.publish_data(packet, reliable=True, destination_identities=[self.peer], topic=TOPIC)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the message is not on its way
            self.cut(f"{self.peer} could not be told: {type(error).__name__}")
            raise WireClosed(self._why) from None

    def take(self, packet: bytes) -> None:
        """A packet has come."""
        if self._why:
            return
        if len(self._packets) >= MOST_WAITING:
            self.cut("too much was said at once")
            return
        self._packets.append(packet)
        self._stir()

    def _stir(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def _packet(self) -> bytes:
        while not self._packets:
            if self._why:
                raise WireClosed(self._why)
            await self._news.wait()
        return self._packets.popleft()

    async def receive(self) -> tuple[Message, bytes]:
        """The next message. Raises WireClosed, also where packets were lost."""
        parts: list[bytes] = []
        size = 0
        while True:
            packet = await self._packet()
            if len(packet) < _HEAD.size:
                raise WireClosed("what came is no packet")
            wire, number, flags, length = _HEAD.unpack_from(packet)
            if wire != self._theirs:
                self._theirs, self._expected, size = wire, None, 0
                parts.clear()
            if self._expected is None and not flags & FIRST:
                continue  # the rest of something that was begun before we came
            if self._expected is not None and number != self._expected:
                self.cut("messages were lost on the way")
                raise WireClosed(self._why)
            self._expected = (number + 1) % 2**32
            parts.append(packet[_HEAD.size + length :])
            size += len(packet)
            if size > MOST_JSON + MOST_BYTES:
                raise WireClosed("what came is no message")
            if flags & LAST:
                return whole(b"".join(parts))

    async def aclose(self) -> None:
        """Close it."""
        self.cut("it was closed")

    @property
    def over(self) -> bool:
        """Whether it is of no use any more."""
        return bool(self._why)

    def cut(self, why: str) -> None:
        """The peer is gone. What had come can still be received."""
        self._why = self._why or why
        self._stir()


class ControlRoom:
    """Our stay in the control room. ``came`` is called with the wire to each peer of the other kind, once a stay."""

    def __init__(self, options: DispatchOptions, kind: str, other: str, came: Callable[[RoomWire], None]) -> None:
        self.identity = f"{kind}-{secrets.token_hex(8)}"
        """Ours; the kind goes before the hyphen."""
        self._options, self._other, self._came = options, other, came
        self._room: rtc.Room | None = None
        self._wires: dict[str, RoomWire] = {}
        self._lost = asyncio.Event()

    async def run(self, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        """Stay until cancelled, and come back when the connection is lost. Reports started once it is there.

        Raises TransportError if it cannot be joined at first.
        """
        first = True
        try:
            while True:
                try:
                    await self._join()
                except TransportError as error:
                    if first:
                        raise
                    log.warning("%s", error)
                    await anyio.sleep(PAUSE)
                    continue
                if first:
                    first = False
                    task_status.started()
                await self._lost.wait()
                log.warning("the control room is lost")
                await self._leave("the control room is lost")
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave("we have left")

    async def _join(self) -> None:
        options = self._options
        self._lost = asyncio.Event()
        self._room = room = rtc.Room()
        room.on("data_received", self._data)
        room.on("participant_connected", self._participant)
        room.on("participant_disconnected", self._gone)
        room.on("disconnected", lambda *_: self._lost.set())
        grants = {"can_publish": False, "can_subscribe": True, "can_publish_data": True}
        token = token_of(options, Participant(identity=self.identity, kind="standard", grants=grants), options.room)
        # The SDK cannot stop connecting: it is left to itself, and to its own timeout.
        joining = asyncio.ensure_future(
            room.connect(
                options.url or "",
                token.get_secret_value(),
                rtc.RoomOptions(auto_subscribe=False, connect_timeout=CONNECTING_SECONDS / 3),
            )
        )
        try:
            await asyncio.shield(joining)
        except rtc.ConnectError as error:
            said = redacted(error.message)[:200]
            raise TransportError(
                f"the control room {options.room} at {options.url} could not be joined: {said}",
                hint="check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET; `visavis dial` tells more",
            ) from None
        for participant in room.remote_participants.values():
            self._participant(participant)

    async def _leave(self, why: str) -> None:
        for wire in self._wires.values():
            wire.cut(why)
        self._wires.clear()
        room, self._room = self._room, None
        if room is not None and room.isconnected():
            leaving = asyncio.ensure_future(room.disconnect())
            await asyncio.wait([leaving], timeout=PARTING_SECONDS)

    def wire(self, peer: str) -> RoomWire | None:
        """The wire to a peer; None while we are not there ourselves."""
        if self._room is None or not peer.startswith(f"{self._other}-"):
            return None
        if peer not in self._wires or self._wires[peer].over:
            self._wires[peer] = RoomWire(self._room, self.identity, peer)
            self._came(self._wires[peer])
        return self._wires[peer]

    async def answers(self) -> bool:
        """Whether the room itself answers us: if not, silence of a peer proves nothing."""
        room = self._room
        if room is None or not room.isconnected():
            return False
        with anyio.move_on_after(ECHO_SECONDS):
            await room.local_participant.set_attributes({"visavis.echo": secrets.token_hex(4)})
            return bool(room.isconnected())
        return False

    def _participant(self, participant: rtc.RemoteParticipant) -> None:
        self.wire(participant.identity)

    def _gone(self, participant: rtc.RemoteParticipant) -> None:
        wire = self._wires.pop(participant.identity, None)
        if wire is not None:
            wire.cut("it has left the control room")

    def _data(self, packet: rtc.DataPacket) -> None:
        if packet.topic == TOPIC and len(packet.data) >= _HEAD.size:
            length = _HEAD.unpack_from(packet.data)[3]
            wire = self.wire(packet.data[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace"))
            if wire is not None:
                wire.take(packet.data)
