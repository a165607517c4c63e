"""The real server on loopback, over real sessions whose way out is a recorder: no room, nothing else is feigned."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import jwt
import pytest
from pydantic import SecretStr
from visavis.component import ComponentConfig
from visavis.config import Deployment
from visavis.config.deployment import Limits, Part
from visavis.errors import TransportError
from visavis.interfaces.session import SessionContext
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.plugins import (
    AudioSourcePlugin,
    AvatarStorePlugin,
    Kind,
    RendererPlugin,
    TransportPlugin,
)
from visavis.registry import Origin
from visavis.supervisor import LocalLauncher
from visavis.testing.fakes import FakeRenderer, Recorder
from visavis.testing.tiny import tiny_avatar
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.server import HttpServer
from visavis_server_http.telemetry import PrometheusMetrics
from visavis_store_filesystem import FilesystemStoreOptions
from visavis_store_filesystem.store import FilesystemStore

KEY, SECRET = "devkey", "a-secret-of-at-least-32-characters-"
URL = "ws://127.0.0.1:7880"
ORIGIN = Origin("tests", "0", "tests")


class RoomOptions(ComponentConfig):
    """What the server tells the way out."""

    url: str
    token: SecretStr
    agent: str | None = None


class HeardOptions(ComponentConfig):
    """What the server tells the source."""

    identity: str | None = None


class RecordedRoom(Transport):
    """Each session gets a recorder. ``failure`` is raised when one connects, after ``gate`` has opened."""

    def __init__(self) -> None:
        self.asked: list[RoomOptions] = []
        self.ways: list[Recorder] = []
        self.failure: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()

    def refuse(self, why: str) -> None:
        """Let no session join from now on."""
        self.failure = JoinFailed(why)

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        assert isinstance(options, RoomOptions)
        self.asked.append(options)
        way = _Joining(Pacing.REALTIME, room=self)
        self.ways.append(way)
        return way


class _Joining(Recorder):
    def __init__(self, pacing: Pacing, room: RecordedRoom) -> None:
        super().__init__(pacing)
        self._room = room

    async def open(self, context: SessionContext) -> None:
        await self._room.gate.wait()
        if self._room.failure is not None:
            raise self._room.failure


class JoinFailed(TransportError):  # noqa: N818
    """A room that refuses, with the step at which it did."""

    step = "connect"


class Listening(AudioSource):
    """Hears nothing, for as long as the session lasts."""

    async def run(self, speech: SpeechWriter) -> None:
        await anyio.sleep_forever()


@dataclass
class Bench:
    """A served launcher, and the client that talks to it."""

    http: httpx.AsyncClient
    server: HttpServer
    launcher: LocalLauncher
    room: RecordedRoom
    avatars: Path
    token: Callable[..., str] = field(repr=False)

    async def start(self, **more: Any) -> dict[str, Any]:
        """A session that runs."""
        reply = await self.http.post("/v1/sessions", json=self.wanted(**more))
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def wanted(self, **more: Any) -> dict[str, Any]:
        """A request for a session."""
        said = {"avatar_id": "anna", "livekit_url": URL, "livekit_token": self.token(), **more}
        return {name: value for name, value in said.items() if value is not None}

    @staticmethod
    def told(reply: httpx.Response) -> tuple[int, str]:
        """Status and code of a refusal, which has our form."""
        body = reply.json()
        assert body.keys() == {"error", "code", "details"}, body
        assert isinstance(body["error"], str)
        assert isinstance(body["details"], dict)
        assert body["error"]
        return reply.status_code, body["code"]

    async def until(self, session_id: str, **wanted: Any) -> dict[str, Any]:
        """The session once it is as wanted."""
        while True:
            found: dict[str, Any] = (await self.http.get(f"/v1/sessions/{session_id}")).json()
            if all(found[name] == value for name, value in wanted.items()):
                return found
            await anyio.sleep(0.01)


Serving = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Avatar files, made once."""
    folder = tmp_path_factory.mktemp("made")
    return {name: tiny_avatar(folder / f"{name}.hvia", seed=n).read_bytes() for n, name in enumerate(("anna", "ben"))}


@pytest.fixture
def token() -> Callable[..., str]:
    """A room token; ``number`` makes identities differ."""
    counted = iter(range(10**6))

    def make(identity: str | None = None, room: str = "lounge", *, secret: str = SECRET, **claims: Any) -> str:
        now = int(time.mktime(time.gmtime()))
        said = {
            "iss": KEY,
            "sub": identity or f"avatar-{next(counted)}",
            "nbf": now - 86_400,
            "exp": now + 2 * 86_400,
            "video": {"roomJoin": True, "room": room},
        }
        return jwt.encode(said | claims, secret, "HS256")

    return make


@pytest.fixture
def serving(
    made: dict[str, bytes], tmp_path: Path, token: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serving]:
    """``async with serving(api_keys=["k"]) as bench``: the server's options as keywords."""
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "VISAVIS_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "avatars"
    folder.mkdir()
    for name, content in made.items():
        (folder / f"{name}.hvia").write_bytes(content)

    @asynccontextmanager
    async def serve(
        limits: Limits | None = None, headers: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[Bench]:
        room = RecordedRoom()
        metrics = PrometheusMetrics()
        known = {"livekit_url": URL, "livekit_api_key": KEY, "livekit_api_secret": SECRET, "port": 0}
        server = HttpServer(HttpServerOptions.model_validate({**known, "load_ahead": 0, **options}), metrics)
        launcher = LocalLauncher(deployed(folder, room, limits or Limits(max_sessions=8)), metrics=metrics)
        store = FilesystemStore(FilesystemStoreOptions(root=folder, builtin=False, poll_s=0.1))
        async with launcher, anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, launcher, store)
            await server.listening.wait()
            async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:
                yield Bench(http, server, launcher, room, folder, token)
            server.stop()
            server.stop()
            await store.aclose()

    logging.getLogger("visavis").setLevel(logging.DEBUG)
    yield serve
    logging.getLogger("visavis").setLevel(logging.NOTSET)


def deployed(folder: Path, room: RecordedRoom, limits: Limits) -> Deployment:
    """A deployment of stand-ins around a real store."""
    options = FilesystemStoreOptions(root=folder, builtin=False)
    store = AvatarStorePlugin(name="folder", summary="a folder", factory=FilesystemStore)
    source = AudioSourcePlugin(
        name="listening", summary="hears nothing", session=HeardOptions, factory=lambda _c, _o: Listening()
    )
    renderer = RendererPlugin(name="fake", summary="draws loudness", factory=lambda _c: FakeRenderer(fps=25))
    way = TransportPlugin(name="recorded", summary="a recorder", session=RoomOptions, factory=lambda _c: room)
    parts = {Kind.SOURCE: source, Kind.RENDERER: renderer, Kind.TRANSPORT: way}
    made: dict[str, Any] = {
        kind.value: Part(kind, record.name, record, record.config(), ORIGIN) for kind, record in parts.items()
    }
    return Deployment(store=Part(Kind.STORE, "folder", store, options, ORIGIN), **made, limits=limits)
