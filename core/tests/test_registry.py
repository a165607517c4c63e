"""Discovery: every record is checked, a broken plugin is kept with its cause and hurts nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from visavis.component import ComponentConfig
from visavis.errors import PluginError
from visavis.hookspecs import hookimpl
from visavis.plugins import AudioSourcePlugin, CommandPlugin, Kind, RendererPlugin
from visavis.registry import Origin, Registry


def never(*_: Any) -> Any:
    raise AssertionError("nothing is made to list plugins")


def source(name: Any = "tone", **changes: Any) -> AudioSourcePlugin:
    fields: dict[str, Any] = {"name": name, "summary": "A sine.", "factory": never} | changes
    return AudioSourcePlugin(**fields)


def plugin(yielding: Callable[[], Any]) -> object:
    class Plugin:
        @hookimpl
        def visavis_audio_sources(self) -> Any:
            return yielding()

    return Plugin()


def origin(dist: str = "visavis-tone") -> Origin:
    return Origin(dist, "1.0", "tone = tone")


def test_a_plugin_is_found_with_its_origin() -> None:
    registry = Registry()
    registry.add(plugin(lambda: [source()]), origin())
    assert registry.get(Kind.SOURCE, "tone").summary == "A sine."
    assert [(i.kind, i.name, str(i.origin)) for i in registry.all()] == [(Kind.SOURCE, "tone", "visavis-tone 1.0")]
    assert registry.names(Kind.RENDERER) == []


class NotOptions:
    pass


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "a wrong type": (lambda: [object()], "yielded object, not AudioSourcePlugin"),
    "a record of another kind": (
        lambda: [RendererPlugin(name="r", summary="", factory=never)],
        "yielded RendererPlugin, not AudioSourcePlugin",
    ),
    "no records": (lambda: 5, "must return records, not int"),
    "a bad name": (lambda: [source("To ne")], "lower case letters, digits and hyphens"),
    "no name": (lambda: [source(None)], "yielded the name None"),
    "options of another family": (lambda: [source(config=NotOptions)], "its config is not a ComponentConfig"),
    "session options that are an instance": (lambda: [source(session=ComponentConfig())], "its session is not"),
    "no factory": (lambda: [source(factory="make")], "its factory cannot be called"),
    "a name twice": (lambda: [source(), source()], "two sources named 'tone'"),
    "an exception": (lambda: 1 / 0, "its hooks failed: ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("yielding, reason", BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_breaks_the_rules_is_kept_with_its_reason(yielding: Callable[[], Any], reason: str) -> None:
    registry = Registry()
    registry.add(plugin(yielding), origin("visavis-bad"))
    registry.add(plugin(lambda: [source("good")]), origin())
    assert registry.names(Kind.SOURCE) == ["good"]
    (broken,) = registry.broken
    assert reason in broken.reason
    assert broken.origin.dist == "visavis-bad"
    assert "Traceback" in broken.details


def test_two_plugins_of_one_name_are_refused_and_both_named() -> None:
    registry = Registry()
    registry.add(plugin(lambda: [source()]), origin("visavis-a"))
    registry.add(plugin(lambda: [source()]), origin("visavis-b"))
    assert registry.broken[0].reason == "two plugins bring the source 'tone': visavis-a and visavis-b"
    found = registry.find(Kind.SOURCE, "tone")
    assert found is not None
    assert found.origin.dist == "visavis-a"


def test_a_command_needs_a_target() -> None:
    class Commands:
        @hookimpl
        def visavis_commands(self) -> Iterable[CommandPlugin]:
            yield CommandPlugin(name="serve", summary="", target="nowhere")

    registry = Registry()
    registry.add(Commands(), origin())
    assert "not package.module:attribute" in registry.broken[0].reason


FAILING_IMPORTS = {
    "import cuda_that_is_not_there": "import failed: ModuleNotFoundError: No module named 'cuda_that_is_not_there'",
    "raise RuntimeError('libcudart.so.12:\\n cannot open')": "RuntimeError: libcudart.so.12: cannot open",
    "def (": "import failed: SyntaxError",
    "import sys; sys.exit('no GPU')": "import failed: SystemExit: no GPU",
}


@pytest.mark.parametrize("code, reason", FAILING_IMPORTS.items(), ids=list(FAILING_IMPORTS))
def test_an_import_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    (tmp_path / "broken_plugin_for_tests.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.load(EntryPoint("gpu", "broken_plugin_for_tests", "visavis"))
    sys.modules.pop("broken_plugin_for_tests", None)
    (broken,) = registry.broken
    assert reason in broken.reason
    assert "\n" not in broken.reason


def test_what_is_missing_says_what_to_do() -> None:
    registry = Registry()
    registry.add(plugin(lambda: [source(), source("file")]), origin())
    with pytest.raises(PluginError) as close:
        registry.get(Kind.SOURCE, "tne")
    assert close.value.message == "no source named 'tne' is installed (installed: file, tone)"
    assert close.value.hint == "did you mean 'tone'?"
    with pytest.raises(PluginError) as far:
        registry.get(Kind.RENDERER, "onnxruntime")
    assert far.value.hint == "pip install visavis-renderer-onnxruntime"
    with pytest.raises(PluginError) as strange:
        registry.get(Kind.SOURCE, "not-of-this-project")
    assert "pip install" not in strange.value.hint  # anybody could have taken that name
    registry.add(plugin(lambda: 1 / 0), origin("visavis-source-gpu"))
    with pytest.raises(PluginError, match="is installed but broken: its hooks failed") as broken:
        registry.get(Kind.SOURCE, "gpu")
    assert broken.value.hint == "run `visavis doctor`"
