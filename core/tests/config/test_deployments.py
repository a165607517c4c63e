"""What a correct file becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from visavis.config import Deployment, default_deployment, load_deployment, make_deployment
from visavis.errors import ConfigError, PluginError
from visavis.interfaces.session import SessionRequest
from visavis.plugins import Kind
from visavis.registry import Registry

Load = Callable[..., Deployment]


def test_missing_sections_have_their_defaults(registry: Registry) -> None:
    made = default_deployment(registry)
    assert [(p.kind.value, p.name) for p in made.parts()] == [
        ("store", "filesystem"),
        ("source", "file"),
        ("renderer", "onnxruntime"),
        ("transport", "file"),
        ("launcher", "local"),
    ]
    assert made.limits.max_sessions == "auto"
    assert made.session is None


def test_a_whole_deployment(load: Load, tmp_path: Path) -> None:
    made = load(
        """
store:     {use: filesystem, root: ./assets/avatars}
source:    {use: file}
renderer:  {use: onnxruntime, threads: 2, cache: off, windows: [{before: 3}]}
transport: {use: file}
server:    {use: http, port: 8081}
launcher:  {use: local}
limits:    {max_sessions: 4, idle_timeout_s: 1.5e2}
session:   {avatar: ada, seed: 7, source: {path: in.wav, strict: yes}, transport: {path: /out.mp4}}
"""
    )
    assert made.store.config.root == tmp_path / "assets/avatars"
    assert made.renderer.config.cache == "off"
    assert made.renderer.config.windows[0].before == 3
    assert made.server is not None
    assert made.server.config.port == 8081
    assert (made.limits.max_sessions, made.limits.idle_timeout_s) == (4, 150.0)
    assert made.session is not None
    assert (made.session.avatar, made.session.seed) == ("ada", 7)
    assert made.session.source == {"path": str(tmp_path / "in.wav"), "strict": "yes"}
    assert made.source.session_options(made.session.source).strict is True
    assert made.session.transport == {"path": "/out.mp4"}
    assert made.path == Path("d.yaml")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.limits = None
    with pytest.raises(ValidationError):
        made.renderer.config.threads = 3


def test_paths_are_relative_to_the_file(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "d.yaml"
    file.write_text("store: {use: filesystem, root: ../here}\nrenderer: {use: onnxruntime, cache: ~/cache}")
    made = load_deployment(file, registry, env={})
    assert made.store.config.root == tmp_path / "sub" / ".." / "here"
    assert made.renderer.config.cache == Path.home() / "cache"


@pytest.mark.parametrize(
    "text, env, device",
    [
        ("${D}", {"D": "cuda:1"}, "cuda:1"),
        ("'${D}'", {"D": "cuda"}, "cuda"),
        ("cuda:${N}", {"N": "2"}, "cuda:2"),
        ("${D:-cpu}", {}, "cpu"),
        ("${D:-cpu}", {"D": ""}, "cpu"),
        ("'${A:-cu}${B:-da}'", {}, "cuda"),
        ("'cpu$${D}'", {}, "cpu${D}"),
        ("'cpu$D'", {}, "cpu$D"),
        ("${D}", {"D": "cpu: [a"}, "cpu: [a"),
        ("${D}", {"D": "cpu${E}"}, "cpu${E}"),
    ],
)
def test_the_environment(load: Load, text: str, env: dict[str, str], device: str) -> None:
    assert load(f"renderer:\n  use: onnxruntime\n  device: {text}", env).renderer.config.device == device


def test_the_environment_keeps_text_and_becomes_numbers_where_wanted(load: Load) -> None:
    made = load(
        "transport: {use: livekit, api_key: '${KEY}'}\nrenderer: {use: onnxruntime, threads: '${N}'}\n",
        {"KEY": "0123", "N": "4"},
    )
    assert made.transport.config.api_key.get_secret_value() == "0123"
    assert made.renderer.config.threads == 4
    assert "0123" not in repr(made)


def test_yaml_1_2(load: Load) -> None:
    assert load("renderer: {use: onnxruntime, threads: 0x10}").renderer.config.threads == 16
    assert load("renderer: {use: onnxruntime, threads: 010}").renderer.config.threads == 10
    assert load("session: {avatar: no, source: {path: a}, transport: {path: b}}").session.avatar == "no"  # type: ignore[union-attr]


def test_aliases_are_followed(load: Load) -> None:
    made = load("renderer: {use: onnxruntime, windows: [&w {before: 9}, *w]}")
    assert [w.before for w in made.renderer.config.windows] == [9, 9]


def test_forced_parts_leave_the_files_sections_and_session_options_aside(load: Load) -> None:
    text = "source: {use: datastream}\ntransport: {use: livekit, url: x}\nsession: {avatar: ada, transport: {room: r}}"
    made = load(text, forced={Kind.SOURCE: "file", Kind.TRANSPORT: "file"})
    assert (made.source.name, made.transport.name) == ("file", "file")
    assert made.session is not None
    assert (made.session.avatar, made.session.transport) == ("ada", {})


def test_with_session(registry: Registry) -> None:
    made = default_deployment(registry)
    request = SessionRequest(avatar="x", source={"path": "a"}, transport={"path": "b"})
    assert made.with_session(request).session == request
    with pytest.raises(ConfigError, match=r"session\.source\.pth: unknown option 'pth'"):
        made.with_session(SessionRequest(source={"pth": "a"}, transport={"path": "b"}))


def test_a_deployment_without_a_server(registry: Registry) -> None:
    with pytest.raises(PluginError, match="has no server"):
        default_deployment(registry).part(Kind.SERVER)


def test_from_python(registry: Registry, tmp_path: Path) -> None:
    made = make_deployment({"store": {"use": "filesystem", "root": "a"}}, registry, folder=tmp_path)
    assert made.store.config.root == tmp_path / "a"
    with pytest.raises(ConfigError, match=r"^store\.rot: unknown option 'rot'"):
        make_deployment({"store": {"use": "filesystem", "rot": "a"}}, registry)


def test_nothing_is_installed() -> None:
    with pytest.raises(ConfigError) as caught:
        default_deployment(Registry())
    assert "no renderer named 'onnxruntime' is installed (installed: none)" in caught.value.message
    assert "pip install visavis-renderer-onnxruntime" in caught.value.message


def test_files_that_cannot_be_read(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load_deployment(tmp_path / "none.yaml", registry)
    with pytest.raises(ConfigError, match="is a folder"):
        load_deployment(tmp_path, registry)
    large = tmp_path / "large.yaml"
    large.write_text("#" * 300_000)
    with pytest.raises(ConfigError, match="more than 256 KiB"):
        load_deployment(large, registry)
