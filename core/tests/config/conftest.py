"""A registry of invented plugins, so that these tests need none installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator
from visavis.component import ComponentConfig
from visavis.config import Deployment, load_deployment
from visavis.hookspecs import hookimpl
from visavis.plugins import (
    AudioSourcePlugin,
    AvatarStorePlugin,
    LauncherPlugin,
    RendererPlugin,
    ServerPlugin,
    TransportPlugin,
)
from visavis.registry import Origin, Registry


class StoreOptions(ComponentConfig):
    root: Path = Path("avatars")
    """The folder with the avatar files."""


class Window(ComponentConfig):
    before: int = 1
    after: int = 2


class RendererOptions(ComponentConfig):
    device: str = "cpu"
    threads: int = Field(default=1, ge=1, le=64)
    """How many threads."""
    cache: Path | Literal["off"] = "off"
    precision: int | Literal["auto"] = "auto"
    windows: tuple[Window, ...] = ()

    @field_validator("device")
    @classmethod
    def _known(cls, value: str) -> str:
        if not value.startswith(("cpu", "cuda")):
            raise ValueError(f"{value} is not a device")
        return value


class FileSession(ComponentConfig):
    path: Path
    """The recording."""
    strict: bool = False


class OutSession(ComponentConfig):
    path: Path
    """The video."""


class Room(ComponentConfig):
    url: str = "ws://localhost"
    api_key: SecretStr | None = None
    passcode: SecretStr | None = None


class RoomSession(ComponentConfig):
    room: str
    token: SecretStr | None = None


class ServerOptions(ComponentConfig):
    port: int = Field(default=8080, ge=0, le=65535)


def never(*_: Any) -> Any:
    raise AssertionError("a factory must not be called to check a configuration")


class Standard:
    @hookimpl
    def visavis_avatar_stores(self) -> Iterable[AvatarStorePlugin]:
        yield AvatarStorePlugin(name="filesystem", summary="A folder.", config=StoreOptions, factory=never)

    @hookimpl
    def visavis_audio_sources(self) -> Iterable[AudioSourcePlugin]:
        yield AudioSourcePlugin(name="file", summary="A recording.", session=FileSession, factory=never)

    @hookimpl
    def visavis_renderers(self) -> Iterable[RendererPlugin]:
        yield RendererPlugin(name="onnxruntime", summary="ONNX Runtime.", config=RendererOptions, factory=never)

    @hookimpl
    def visavis_transports(self) -> Iterable[TransportPlugin]:
        yield TransportPlugin(name="file", summary="A video.", session=OutSession, factory=never)

    @hookimpl
    def visavis_launchers(self) -> Iterable[LauncherPlugin]:
        yield LauncherPlugin(name="local", summary="This process.", factory=never)


class Rooms:
    @hookimpl
    def visavis_audio_sources(self) -> Iterable[AudioSourcePlugin]:
        yield AudioSourcePlugin(
            name="datastream", summary="A room's streams.", requires=frozenset({"livekit.room"}), factory=never
        )

    @hookimpl
    def visavis_transports(self) -> Iterable[TransportPlugin]:
        yield TransportPlugin(
            name="livekit",
            summary="A room.",
            config=Room,
            session=RoomSession,
            provides=frozenset({"livekit.room"}),
            factory=never,
        )

    @hookimpl
    def visavis_servers(self) -> Iterable[ServerPlugin]:
        yield ServerPlugin(name="http", summary="HTTP.", config=ServerOptions, factory=never)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add(Standard(), Origin("visavis-standard", "1.2", "standard = standard"))
    made.add(Rooms(), Origin("visavis-rooms", "0.3", "rooms = rooms"))
    assert not made.broken
    return made


Load = Callable[..., Deployment]


@pytest.fixture
def load(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write text to ``d.yaml`` in an own folder and load it from there."""
    monkeypatch.chdir(tmp_path)

    def loaded(text: str | bytes, env: dict[str, str] | None = None, **more: Any) -> Deployment:
        Path("d.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_deployment("d.yaml", registry, env=env or {}, **more)

    return loaded


@pytest.fixture
def report(load: Load) -> Callable[..., str]:
    """The report that a text earns."""

    def told(text: str | bytes, env: dict[str, str] | None = None) -> str:
        from visavis.config import DeploymentError

        with pytest.raises(DeploymentError) as caught:
            load(text, env)
        return caught.value.message

    return told
