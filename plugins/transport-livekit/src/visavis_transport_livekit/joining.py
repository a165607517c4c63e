"""Joining a room: bounded in time, never half, and with errors that say which step failed and what to do."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import anyio
from livekit import rtc
from visavis.errors import TransportError

from visavis_transport_livekit import reentry
from visavis_transport_livekit import token as tokens

log = logging.getLogger("visavis.transport.livekit")

TRIES: Final = 3
"""LiveKit's SDK tries to connect so often, each time for its ``connect_timeout``."""
PARTING_SECONDS: Final = 3.0
"""How long leaving a room may take."""
_SAID: Final = (
    ("token is expired", "its token has expired", "get a new token"),
    ("signature is invalid", "its token was signed with another secret", "use the secret of that server's API key"),
    ("invalid api key", "the server does not know the API key that signed its token", "use a key of that server"),
    ("permissions denied", "its token does not allow to join", "grant roomJoin for that room"),
    ("invalid authorization token", "what was given is not a LiveKit token", "give the avatar's own token"),
    ("invalid token", "the server refused its token", "get a new token"),
    ("401", "the server refused its token", "get a new token"),
    ("404", "the server does not know the room", "check the address, or let the server create rooms"),
    ("pc_connection", "no media path could be made", "open the server's UDP port, or TCP/TURN, in the firewall"),
    ("peer connection", "no media path could be made", "open the server's UDP port, or TCP/TURN, in the firewall"),
    ("dns", "its host is not known", "check the address"),
    ("lookup", "its host is not known", "check the address"),
    ("resolve", "its host is not known", "check the address"),
    ("refused", "nothing answers there", "check the address, and that the server runs"),
    ("unreachable", "nothing answers there", "check the address, and that the server runs"),
    ("certificate", "its certificate is not trusted", "check the address and the server's certificate"),
    ("timeout", "it did not answer in time", "check the network and the firewall"),
    ("timed out", "it did not answer in time", "check the network and the firewall"),
)


class Refused(TransportError):  # noqa: N818 - it is named after what it says
    """The server answered, and does not want this token: to try again is of no use."""


async def join(room: rtc.Room, url: str, token: str, seconds: float) -> None:
    """Connect a room. Raises TransportError; then, as after a cancellation, nobody is left in the room."""
    tokens.keep_out_of_logs()
    options = rtc.RoomOptions(auto_subscribe=False, dynacast=False, connect_timeout=max(1.0, seconds / TRIES))
    joining = asyncio.ensure_future(room.connect(url, token, options))
    try:
        with anyio.fail_after(seconds):
            await asyncio.shield(joining)
    except TimeoutError:
        _abandon(joining, room)
        what = f"the room at {place(url)} could not be joined: it took longer than {seconds:g} s"
        raise TransportError(what, hint="check the network and the firewall: visavis dial tells more") from None
    except rtc.ConnectError as error:
        raise explained(error.message, url, token) from None
    except asyncio.CancelledError:
        _abandon(joining, room)
        raise


def _abandon(joining: asyncio.Future[None], room: rtc.Room) -> None:
    """The SDK cannot stop connecting: if it succeeds after all, leave at once."""

    def came_late(done: asyncio.Future[None]) -> None:
        _STRAYS.discard(done)
        if not done.cancelled() and done.exception() is None:
            leaving = asyncio.ensure_future(leave(room))
            _STRAYS.add(leaving)
            leaving.add_done_callback(_STRAYS.discard)

    _STRAYS.add(joining)
    joining.add_done_callback(came_late)


_STRAYS: Final[set[asyncio.Future[None]]] = set()
"""Connections that were given up and have not ended yet: a loop holds its tasks weakly."""


async def settled(seconds: float) -> None:
    """Wait until what was given up has ended, but no longer than that: a process should not end in the middle of it."""
    if _STRAYS:
        await asyncio.wait(set(_STRAYS), timeout=seconds)


async def leave(room: rtc.Room) -> None:
    """Disconnect, if it is connected; never fails.

    In a task of its own: the SDK waits for one of its tasks, whose cancellation would look like ours, and ours must not
    reach it.
    """
    leaving = asyncio.ensure_future(_part(room))
    _STRAYS.add(leaving)
    leaving.add_done_callback(_parted)
    with anyio.CancelScope(shield=True):
        await asyncio.wait([leaving], timeout=PARTING_SECONDS)


async def _part(room: rtc.Room) -> None:
    await room.disconnect()
    await reentry.stop_listening(room)  # where the server ended it, the SDK does not


def _parted(leaving: asyncio.Future[None]) -> None:
    _STRAYS.discard(leaving)
    if not leaving.cancelled() and (error := leaving.exception()) is not None:
        log.debug("leaving a room failed: %s", type(error).__name__)


def place(url: str) -> str:
    """An address as it may be shown: without what may stand in its query."""
    return url.partition("?")[0]


def explained(said: str, url: str, token: str) -> TransportError:
    """What the SDK said when it could not connect, as a sentence; the token is in neither."""
    clean = tokens.redacted(said)
    if token:
        clean = clean.replace(token, "<token>")
    claims = tokens.read(token)
    where = (
        f"the room {claims.room} at {place(url)}" if claims is not None and claims.room else f"the room at {place(url)}"
    )
    small = clean.lower()
    kind = Refused if any(code in small for code in ("401", "403", "client error")) else TransportError
    for mark, why, hint in _SAID:
        if mark in small:
            log.debug("livekit said: %s", clean)
            return kind(f"{where} could not be joined: {why}", hint=hint)
    return kind(f"{where} could not be joined: {clean[:200]}", hint="visavis dial tells which step fails")
