"""The page's routes over a real store and a launcher that starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
from visavis.errors import SessionError
from visavis.interfaces.launcher import Capacity, Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.testing.tiny import tiny_avatar
from visavis_server_http.app import make_app
from visavis_server_http.desk import Desk
from visavis_server_http.options import HttpServerOptions
from visavis_store_filesystem import FilesystemStoreOptions
from visavis_store_filesystem.store import FilesystemStore

KEY, SECRET = "devkey", "a-secret-of-at-least-32-characters-"
URL = "ws://127.0.0.1:7880"


class IdleLauncher(Launcher):
    """Starts nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return None

    async def start(self, request: SessionRequest) -> SessionHandle:
        raise SessionError("this one starts nothing")

    async def sessions(self) -> list[SessionHandle]:
        return []

    async def capacity(self) -> Capacity:
        return Capacity(0, 0, 1)

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        return [0.001] * frames


Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny has no still; Mira, who stands in, has one; a third file is broken."""
    folder = tmp_path_factory.mktemp("avatars")
    tiny_avatar(folder / "tiny.hvia")
    (folder / "broken.hvia").write_bytes(b"no archive")
    return folder


@pytest.fixture
def serving(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """``async with serving(api_keys=["k"]) as http``: options of the server as keywords."""
    for name in ("LIVEKIT_URL", "LIVEKIT_PUBLIC_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "VISAVIS_API_KEYS"):
        monkeypatch.delenv(name, raising=False)

    @asynccontextmanager
    async def serve(**options: Any) -> AsyncIterator[httpx.AsyncClient]:
        known = {"livekit_url": URL, "livekit_api_key": KEY, "livekit_api_secret": SECRET}
        settings = HttpServerOptions.model_validate({**known, **options})
        store = FilesystemStore(FilesystemStoreOptions(root=shelf))
        async with Desk(settings, IdleLauncher(), store) as desk:
            transport = httpx.ASGITransport(make_app(desk))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield http
        await store.aclose()

    return serve
