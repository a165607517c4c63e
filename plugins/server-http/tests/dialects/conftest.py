"""The real application over a launcher that only notes what it is asked for: no room is joined."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import pytest
from livekit import api
from visavis.errors import AvatarNotFound, VisavisError
from visavis.hvia import Hvia, open_hvia
from visavis.interfaces.avatar import AvatarEntry, AvatarStore
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionHandle, SessionLimits, SessionRequest, SessionStats, SpeechStream
from visavis.testing.tiny import tiny_avatar
from visavis_server_http.app import make_app
from visavis_server_http.desk import Desk
from visavis_server_http.options import HttpServerOptions

KEY, SECRET = "devkey", "a-secret-of-at-least-32-characters-"
URL = "ws://127.0.0.1:7880"


class NotedSession(SessionHandle):
    """Runs until it is closed."""

    def __init__(self, number: int, request: SessionRequest) -> None:
        self._id = f"inner-{number}"
        self.request = request
        self.reason = ""
        self._over = anyio.Event()

    @property
    def id(self) -> str:
        return self._id

    async def stats(self) -> SessionStats:
        return SessionStats(state="closed" if self.reason else "running", reason=self.reason)

    async def interrupt(self) -> None:
        pass

    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        raise AssertionError("no dialect speaks")

    async def swap(self, avatar: str) -> None:
        raise AssertionError("no dialect swaps")

    @property
    def limits(self) -> SessionLimits:
        return self.request.limits

    async def close(self, reason: str = "closed", *, finish: bool = False) -> None:
        self.reason = self.reason or reason
        self._over.set()

    async def wait(self) -> None:
        await self._over.wait()


class NotingLauncher(Launcher):
    """``asked`` holds every request; ``gate`` holds starts back; ``failure`` is raised by the next ones."""

    def __init__(self) -> None:
        self.asked: list[SessionRequest] = []
        self.made: list[NotedSession] = []
        self.failure: VisavisError | None = None
        self.full: str | None = None
        self.rehearsed: list[int] = []
        self.gate = anyio.Event()
        self.gate.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return None

    async def start(self, request: SessionRequest) -> SessionHandle:
        self.asked.append(request)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.made.append(NotedSession(len(self.made), request))
        return self.made[-1]

    async def sessions(self) -> list[SessionHandle]:
        return [made for made in self.made if not made.reason]

    async def capacity(self) -> Capacity:
        return Capacity(len(await self.sessions()), 0, 8, self.full, 7.0)

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        self.rehearsed.append(frames)
        return [0.004, 0.006] * (frames // 2) + [0.005] * (frames % 2)


class Shelf(AvatarStore):
    """Mira and Tiny, and one that is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def list(self) -> list[AvatarEntry]:
        whole = [AvatarEntry(name, name.title(), 1, "0" * 64) for name in ("mira", "tiny", "42")]
        return [*whole, AvatarEntry("broken", "broken", 1, "", "broken.hvia: it is no zip archive")]

    async def open(self, avatar_id: str) -> Hvia:
        if avatar_id not in ("mira", "tiny"):
            raise AvatarNotFound(f"there is no avatar {avatar_id}")
        return open_hvia(self.path)


@dataclass
class Counter:
    """A served desk: the client that talks to it, and what its launcher noted."""

    http: httpx.AsyncClient
    desk: Desk
    launcher: NotingLauncher = field(repr=False)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.post(path, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)


Serving = Callable[..., AbstractAsyncContextManager[Counter]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("shelf") / "tiny.hvia")


@pytest.fixture
def serving(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """``async with serving(api_keys=["k"]) as counter``: options of the server as keywords."""
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "VISAVIS_API_KEYS"):
        monkeypatch.delenv(name, raising=False)

    @asynccontextmanager
    async def serve(**options: Any) -> AsyncIterator[Counter]:
        known = {"livekit_url": URL, "livekit_api_key": KEY, "livekit_api_secret": SECRET}
        settings = HttpServerOptions.model_validate({**known, **options})
        launcher = NotingLauncher()
        async with Desk(settings, launcher, Shelf(tiny)) as desk:
            transport = httpx.ASGITransport(make_app(desk))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield Counter(http, desk, launcher)

    return serve


@pytest.fixture
def room_token() -> Callable[..., str]:
    """A token as an avatar's plugin makes it, another one each time."""
    number = itertools.count()

    def make(identity: str = "avatar-tiny", room: str = "lounge", agent: str | None = "agent-1") -> str:
        attributes = {"lk.publish_on_behalf": agent} if agent else {}
        token = api.AccessToken(KEY, SECRET).with_identity(identity).with_name(identity).with_kind("agent")
        token = token.with_grants(api.VideoGrants(room_join=True, room=room)).with_attributes(attributes)
        return str(token.with_metadata(str(next(number))).to_jwt())

    return make
