"""A server whose engines are being built is not ready, and one whose avatars are prewarmed does not even listen."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import httpx
import pytest
from computing import ComputingEngine, computing_device
from visavis.config import Deployment, make_deployment
from visavis.hookspecs import hookimpl
from visavis.interfaces.renderer import Renderer
from visavis.plugins import RendererPlugin
from visavis.registry import Origin, Registry
from visavis.supervisor import LocalLauncher
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.cache import EngineCache
from visavis_renderer_tensorrt.device import Device
from visavis_renderer_tensorrt.renderer import TensorRTRenderer
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.server import HttpServer


class Plugin:
    """The TensorRT renderer on a device that computes."""

    def __init__(self, device: Device, cache: EngineCache) -> None:
        self.device, self.cache = device, cache

    def make(self, options: TensorRTOptions) -> Renderer:
        return TensorRTRenderer(options, device=self.device, cache=self.cache)

    @hookimpl
    def visavis_renderers(self) -> Sequence[RendererPlugin]:
        return [RendererPlugin(name="computing", summary="For tests.", config=TensorRTOptions, factory=self.make)]


class Site:
    """A deployment whose engines are built only once ``go`` is set."""

    def __init__(self, folder: Path) -> None:
        device = computing_device()
        assert isinstance(device.engine, ComputingEngine)
        self.engine = device.engine
        self.begun, self.go = threading.Event(), threading.Event()
        self.engine.before_build = self._wait
        tiny_avatar(folder / "avatars" / "tiny.hvia")
        self.registry = Registry.discover()
        self.registry.add(Plugin(device, EngineCache(folder / "engines")), Origin("tests", "1", "tests"))
        self.folder = folder

    def _wait(self) -> None:
        self.begun.set()
        assert self.go.wait(60)

    def deployment(self, **sections: object) -> Deployment:
        store = {"use": "filesystem", "root": str(self.folder / "avatars")}
        return make_deployment({"store": store, "renderer": {"use": "computing"}, **sections}, self.registry)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "avatars").mkdir()
    made = Site(tmp_path)
    yield made
    made.go.set()


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_it_is_ready_once_the_engines_are(site: Site) -> None:
    deployment = site.deployment()
    server = HttpServer(HttpServerOptions(port=0, load_ahead=1))
    async with LocalLauncher(deployment) as launcher, anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, launcher, deployment.store.make())
        await server.listening.wait()
        async with httpx.AsyncClient(base_url=server.url) as client:
            await anyio.to_thread.run_sync(site.begun.wait, 60)
            answer = await client.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["error"] == "avatars are being loaded"
            assert site.engine.built == []
            site.go.set()
            with anyio.fail_after(60):
                while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110 (a probe asks again)
                    await anyio.sleep(0.02)
            assert len(site.engine.built) == 2  # motion, and the face with its laying
        server.stop()


async def test_prewarmed_avatars_have_their_engines_before_anybody_listens(site: Site) -> None:
    opened = anyio.Event()

    async def launch() -> None:
        async with LocalLauncher(site.deployment(prewarm=["tiny"])):
            opened.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launch)
        await anyio.to_thread.run_sync(site.begun.wait, 60)
        assert not opened.is_set()
        site.go.set()
        with anyio.fail_after(60):
            await opened.wait()
    assert len(site.engine.built) == 2
