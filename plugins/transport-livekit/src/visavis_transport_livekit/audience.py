"""Rooms for a bench, and subscribers in processes of their own: they take nothing from the server but its packets."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream
from visavis.errors import ConfigError, TransportError
from visavis.interfaces.audience import Audience, Seat, Seen, Sight

from visavis_transport_livekit import minting

VARIABLES: Final = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
HINT: Final = (
    "a local one is run by `livekit-server --dev`; then "
    "export LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret"
)
ROOMS_EACH: Final = 16
"""Rooms that one process watches: it has one interpreter for all of their pictures."""
ANSWERS: Final = 30.0
"""Seconds in which a watching process answers; joining a room is the longest it does."""
ENDS: Final = 5.0
MOST_ANSWER: Final = 2**20
NAME: Final = "visavis-bench-"
DEPARTURE_S: Final = 1
"""Seconds after which LiveKit forgets a bench's room that everybody has left."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where rooms are made, and by whose key."""

    url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Account:
        """What the environment says. Raises ConfigError that names what is missing."""
        missing = [name for name in VARIABLES if not environment.get(name)]
        if missing:
            raise ConfigError(f"a bench makes rooms of its own, for which {', '.join(missing)} must be set", hint=HINT)
        return cls(*(environment[name] for name in VARIABLES))


class _Watching:
    """One process that watches rooms. It answers every line with a line."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.rooms: set[str] = set()
        self._asked, self._answers = process.stdin, BufferedByteReceiveStream(process.stdout)
        self._turn = anyio.Lock()

    async def ask(self, what: str, **about: str) -> dict[str, Any]:
        """Ask, and wait for the answer. Raises TransportError."""
        # Whoever is cancelled in the middle would leave the answer to the next one who asks.
        async with self._turn:
            with anyio.CancelScope(shield=True):
                try:
                    with anyio.fail_after(ANSWERS):
                        await self._asked.send(json.dumps({"do": what, **about}).encode() + b"\n")
                        said = await self._answers.receive_until(b"\n", MOST_ANSWER)
                except TimeoutError:
                    raise TransportError(f"the subscribers did not answer within {ANSWERS:g} s") from None
                except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as error:
                    raise TransportError("the process of the subscribers has ended") from error
        answer: dict[str, Any] = json.loads(said)
        if "failed" in answer:
            raise TransportError(answer["failed"], hint=answer.get("hint", ""))
        return answer

    async def end(self) -> None:
        """Have it leave its rooms and end; kill it if it does not."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(ENDS):
                await self._asked.aclose()  # that is how it learns, also where this process has died
                await self.process.wait()
            if self.process.returncode is None:
                self.process.kill()
            await self.process.aclose()


class LiveKitAudience(Audience):
    """Subscribers in LiveKit rooms of random names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._watching: list[_Watching] = []

    async def __aenter__(self) -> Self:
        """The first process; further ones come with their rooms."""
        await self._spawn()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave all rooms."""
        while self._watching:
            await self._watching.pop().end()

    async def _spawn(self) -> _Watching:
        command = [sys.executable, "-m", "visavis_transport_livekit.subscribing"]
        process = await anyio.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)
        self._watching.append(_Watching(process))
        return self._watching[-1]

    async def take_seat(self) -> Seat:
        """Make a room by joining it."""
        watching = next((each for each in self._watching if len(each.rooms) < ROOMS_EACH), None) or await self._spawn()
        room, account = NAME + secrets.token_hex(8), self._account
        watching.rooms.add(room)
        await watching.ask("join", room=room, url=account.url, token=self._token("viewer", room))
        return Seat(room, {"url": account.url, "token": self._token("avatar", room)})

    def _token(self, identity: str, room: str) -> str:
        config = {"departureTimeout": DEPARTURE_S}
        return minting.mint(self._account.key, self._account.secret, identity, room, roomConfig=config)

    async def leave_seat(self, seat: Seat) -> None:
        """Leave the room; LiveKit forgets it then."""
        for watching in self._watching:
            if seat.room in watching.rooms:
                watching.rooms.discard(seat.room)
                await watching.ask("leave", room=seat.room)

    async def begin(self) -> None:
        """Count anew."""
        for watching in self._watching:
            await watching.ask("begin")

    async def seen(self) -> Sight:
        """What has arrived."""
        seats: dict[str, Seen] = {}
        stalled = 0.0
        for watching in self._watching:
            answer = await watching.ask("seen")
            seats.update({room: Seen(*figures) for room, figures in answer["seats"].items()})
            stalled = max(stalled, answer["stalled"])
        return Sight(seats, stalled)

    @property
    def processes(self) -> Sequence[int]:
        """The ids of its processes."""
        return [watching.process.pid for watching in self._watching]


def audience_by_environment() -> LiveKitAudience:
    """An audience where the environment says. Raises ConfigError."""
    return LiveKitAudience(Account.of(os.environ))
