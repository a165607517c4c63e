"""The steps of a call to a LiveKit room, each with what to do if it fails."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.abc
import numpy as np
from livekit import rtc
from visavis.errors import VisavisError
from visavis.media import AudioFormat, VideoFormat, VideoFrame
from visavis.metrics import NoMetrics

from visavis_transport_livekit import joining, minting, tracks
from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.options import LiveKitTransportOptions
from visavis_transport_livekit.picture import Picture
from visavis_transport_livekit.voice import Voice

SIZE: Final = 128
RATE: Final = 48_000
LOUD: Final = 1_000
"""Of 32767: what is louder is the tone and no noise."""
UDP = "the signal works but media does not: open the server's UDP port (or its TCP/TURN port) in the firewall"


@dataclass(frozen=True, slots=True)
class Call:
    """What to dial. ``token`` or ``api_key`` with ``api_secret``; ``seconds`` for each step."""

    url: str
    token: str
    api_key: str
    api_secret: str
    room: str
    seconds: float

    def __repr__(self) -> str:
        return f"Call({joining.place(self.url)!r})"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found."""

    step: str
    fine: bool
    said: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Failed(Exception):  # noqa: N818 - it is named after what it says
    """A step failed: what was found, and what to do."""

    def __init__(self, said: str, hint: str) -> None:
        super().__init__(said)
        self.said, self.hint = said, hint


async def walk(call: Call, tell: Callable[[Finding], None]) -> None:
    """Take the steps until one fails; each is told as it ends."""
    line = _Line(call)
    steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("name", line.name),
        ("port", line.port),
        ("server", line.server),
        ("token", line.token),
        ("join", line.join),
        ("publish", line.publish),
        ("media", line.media),
    ]
    try:
        for step, take in steps:
            try:
                with anyio.fail_after(call.seconds + 2):
                    said = await take()
            except Failed as failure:
                tell(Finding(step, False, failure.said, failure.hint))
                return
            except VisavisError as error:
                tell(Finding(step, False, tokens.redacted(error.message), error.hint))
                return
            except TimeoutError:
                tell(Finding(step, False, f"it took longer than {call.seconds:g} s", UDP))
                return
            tell(Finding(step, True, said))
    finally:
        with anyio.CancelScope(shield=True):
            await line.hang_up()


class _Line:
    """One call in progress."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._url = urlsplit(call.url if "://" in call.url else f"//{call.url}")
        self._secure = self._url.scheme in ("wss", "https")
        self._host = self._url.hostname or ""
        self._token = ""
        self._rooms: list[rtc.Room] = []
        self._picture: Picture | None = None
        self._voice: Voice | None = None

    # -- to the server

    async def name(self) -> str:
        """Look the host up."""
        if self._url.scheme not in ("ws", "wss", "http", "https") or not self._host:
            raise Failed(f"{joining.place(self._call.url)} is no address", "it looks like wss://host or ws://host:7880")
        try:
            found = await anyio.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Failed(f"the host {self._host} is not known", "check the address, and this machine's DNS") from None
        return f"{self._host} is {', '.join(sorted({str(entry[4][0]) for entry in found}))}"

    @property
    def _port(self) -> int:
        return self._url.port or (443 if self._secure else 80)

    async def port(self) -> str:
        """Connect by TCP, and TLS where it is asked for."""
        try:
            async with await self._connect():
                return f"{self._host}:{self._port} answers" + (
                    ", with a certificate that holds" if self._secure else ""
                )
        except ssl.SSLError as error:
            hint = "check that it is wss:// that is spoken there, and the certificate of the server or its proxy"
            raise Failed(f"no TLS with {self._host}:{self._port}: {error.reason or error}", hint) from None
        except (OSError, TimeoutError) as error:
            hint = "check the port, that the server runs, and that a firewall lets TCP through"
            raise Failed(f"nothing answers at {self._host}:{self._port}: {_why(error)}", hint) from None

    async def _connect(self) -> anyio.abc.ByteStream:
        with anyio.fail_after(self._call.seconds):
            if self._secure:
                return await anyio.connect_tcp(self._host, self._port, tls=True, tls_standard_compatible=False)
            return await anyio.connect_tcp(self._host, self._port)

    async def server(self) -> str:
        """Ask whether it is LiveKit that answers."""
        status, body = await self._get("/")
        if status != 200 or "OK" not in body:
            raise Failed(
                f"what answers does not look like LiveKit: HTTP {status}",
                "check the address; a proxy must pass everything on to LiveKit's port (7880)",
            )
        return "LiveKit answers"

    async def _get(self, path: str, *headers: str) -> tuple[int, str]:
        """A GET of a few hundred bytes; no client library for that."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}:{self._port}", "Connection: close", *headers]
        answer = b""
        try:
            async with await self._connect() as stream:
                await stream.send(("\r\n".join(lines) + "\r\n\r\n").encode())
                with anyio.fail_after(self._call.seconds):
                    while len(answer) < 65_536:
                        answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            pass  # it has said what it had to say
        except (OSError, TimeoutError) as error:
            raise Failed(f"the server does not answer HTTP: {_why(error)}", "check that it runs") from None
        head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
        status = head.split(" ", 2)[1] if head.startswith("HTTP/") else "0"
        return int(status) if status.isdigit() else 0, body

    async def token(self) -> str:
        """Show the server the token."""
        call = self._call
        if call.token:
            self._token = call.token
        elif call.api_key and call.api_secret:
            self._token = minting.mint(call.api_key, call.api_secret, "visavis-dial", call.room)
        else:
            raise Failed("there is no token", "give --token, or --api-key and --api-secret (or the LIVEKIT_ variables)")
        claims = tokens.read(self._token)
        if claims is None:
            raise Failed("what was given is not a LiveKit token", "a token has three parts, with dots between")
        status, body = await self._get("/rtc/validate", f"Authorization: Bearer {self._token}")
        if status in (401, 403):
            error = joining.explained(f"{status} {body}", call.url, self._token)
            raise Failed(error.message, error.hint)
        return f"taken for {claims.identity} in the room {claims.room}"

    # -- in the room

    async def join(self) -> str:
        """Join."""
        room = rtc.Room()
        self._rooms.append(room)
        await joining.join(room, self._call.url, self._token, self._call.seconds)
        return f"joined {room.name} as {room.local_participant.identity}"

    async def publish(self) -> str:
        """Publish a grey picture and a tone."""
        room = self._rooms[0]
        if not room.local_participant.permissions.can_publish:
            raise Failed("the token does not allow to publish", "grant canPublish")
        video, audio = VideoFormat(SIZE, SIZE, Fraction(25)), AudioFormat(RATE)
        self._picture, self._voice = Picture(video, NoMetrics()), Voice(audio, 40, 100, NoMetrics())
        await tracks.publish(
            room, LiveKitTransportOptions(), (video, self._picture.source), (audio, self._voice.source)
        )
        self._voice.start()
        return "picture and sound are published"

    async def media(self) -> str:
        """Follow pictures and sound to a second participant, if there is a key to make one of."""
        call = self._call
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._talk)
            if call.api_key and call.api_secret:
                claims = tokens.read(self._token)
                where = claims.room if claims is not None else call.room
                said = await self._look(minting.mint(call.api_key, call.api_secret, "visavis-dial-viewer", where))
            else:
                await anyio.sleep(2)
                said = "not followed to a viewer: give --api-key and --api-secret for that"
            path = await _path(self._rooms[0])
            tasks.cancel_scope.cancel()
        if not path:
            raise Failed("no media path was made", UDP)
        return f"{said}; {path}"

    async def _talk(self) -> None:
        assert self._picture is not None
        assert self._voice is not None
        tone = (0.3 * np.cos(2 * np.pi * 500 * np.arange(RATE // 25) / RATE)).astype(np.float32)[:, None]
        picture = np.full((SIZE * 3 // 2, SIZE), 128, np.uint8)
        begin, index = anyio.current_time(), 0
        while True:
            await anyio.sleep_until(begin + index / 25)
            self._picture.show(VideoFrame(SIZE, SIZE, picture), await self._voice.push(tone))
            index += 1

    async def _look(self, token: str) -> str:
        viewer = rtc.Room()
        self._rooms.append(viewer)
        seen, heard = anyio.Event(), anyio.Event()
        begin = anyio.current_time()
        await joining.join(viewer, self._call.url, token, self._call.seconds)
        us = self._rooms[0].local_participant.identity
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, viewer, us, seen, heard)
            with anyio.move_on_after(self._call.seconds):
                await seen.wait()
                await heard.wait()
            tasks.cancel_scope.cancel()
        if not (seen.is_set() and heard.is_set()):
            missing = " and no ".join(w for w, e in (("picture", seen), ("sound", heard)) if not e.is_set())
            raise Failed(f"no {missing} came to a second participant", UDP)
        return f"a second participant sees and hears it after {anyio.current_time() - begin:.1f} s"

    async def hang_up(self) -> None:
        """Leave."""
        for room in reversed(self._rooms):
            await joining.leave(room)
        if self._voice is not None:
            await self._voice.aclose()
        if self._picture is not None:
            await self._picture.aclose()


async def _watch(viewer: rtc.Room, identity: str, seen: anyio.Event, heard: anyio.Event) -> None:
    """Subscribe to a participant's tracks as they appear, and set the events."""
    followed: set[str] = set()
    async with anyio.create_task_group() as tasks:
        while True:
            there = viewer.remote_participants.get(identity)
            for sid, publication in list(there.track_publications.items()) if there is not None else []:
                if not publication.subscribed and publication.track is None:
                    publication.set_subscribed(True)
                if publication.track is not None and sid not in followed:
                    followed.add(sid)
                    tasks.start_soon(_follow, publication.track, seen, heard)
            await anyio.sleep(0.05)


async def _follow(track: rtc.Track, seen: anyio.Event, heard: anyio.Event) -> None:
    video = track.kind == rtc.TrackKind.KIND_VIDEO
    stream: Any = rtc.VideoStream(track) if video else rtc.AudioStream(track)
    try:
        async for event in stream:
            if video and event.frame.width == SIZE:
                seen.set()
            elif not video and max(event.frame.data) > LOUD:
                heard.set()
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def _path(room: rtc.Room) -> str:
    """How media travels, in words; empty if it does not."""
    stats: dict[str, list[Any]] = {}
    for entry in (await room.get_rtc_stats()).publisher_stats:
        kind = entry.WhichOneof("stats")
        stats.setdefault(kind, []).append(getattr(entry, kind))
    nominated = [p for p in stats.get("candidate_pair", []) if p.candidate_pair.nominated]
    if not nominated:
        return ""
    pair = nominated[0].candidate_pair
    ends = {c.rtc.id: c.candidate for k in ("local_candidate", "remote_candidate") for c in stats.get(k, [])}
    local, remote = ends.get(pair.local_candidate_id), ends.get(pair.remote_candidate_id)
    if local is None or remote is None:
        return "media flows"
    relayed = " through a relay (TURN)" if "relay" in str(local).lower() else ""
    return f"media goes by {local.protocol} to {remote.address}:{remote.port}{relayed}"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    inner = error.__cause__ if isinstance(error.__cause__, OSError) else error
    number = getattr(inner, "errno", None)
    return (os.strerror(number) if number else str(inner) or type(error).__name__).lower()
