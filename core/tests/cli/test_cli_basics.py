"""Usage, errors and exit statuses; what plugins add; how quick the start is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import visavis as package
from visavis.cli.failing import status_of
from visavis.cli.output import Output
from visavis.errors import BadInput, MediaError, PluginError, TransportError

Run = Callable[..., Any]
Install = Callable[[str, str], None]


def test_help_and_version(visavis: Run) -> None:
    shown = visavis("--help")
    assert shown.status == 0
    for command in ("render", "run", "check", "plugins", "schema", "avatars", "bench", "doctor"):
        assert f"  {command} " in shown.out
        assert visavis(command, "--help").status == 0
    assert visavis("--version").out == f"visavis {package.__version__}\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["rendr"], "No such command 'rendr'"),
        (["render"], "Missing argument 'SPEECH'"),
        (["render", "a.wav"], "Missing option '--output'"),
        (["render", "a.wav", "-o", "b.mp4", "--sped"], "No such option: --sped"),
        (["check"], "Missing argument"),
        (["avatars", "lst"], "No such command 'lst'"),
        (["bench", "--seconds", "x"], "Invalid value for '--seconds'"),
    ],
)
def test_bad_usage_is_one_line_and_where_to_look(visavis: Run, words: list[str], said: str) -> None:
    ran = visavis(*words)
    first, second = ran.err.splitlines()
    assert ran.status == 2
    assert first.startswith("visavis: error: ")
    assert said in first
    assert second.startswith("  see `visavis ")
    assert ran.out == ""


def test_no_command_shows_the_help(visavis: Run) -> None:
    ran = visavis()
    assert ran.status == 2
    assert "Usage: visavis" in ran.err


ENDINGS: dict[str, tuple[BaseException, int, str]] = {
    "bad input": (BadInput("no such thing", hint="try another"), 2, "visavis: error: no such thing\n  try another\n"),
    "media": (MediaError("it is empty"), 2, "visavis: error: it is empty\n"),
    "a plugin": (PluginError("it is gone"), 1, "visavis: error: it is gone\n"),
    "a full disk": (OSError(28, "No space left on device", "o.mp4"), 1, "visavis: error: o.mp4: the disk is full\n"),
    "another failure of the system": (
        PermissionError(13, "Permission denied", "x"),
        1,
        "visavis: error: x: permission",
    ),
    "a defect": (ZeroDivisionError("division by zero"), 1, "visavis: error: ZeroDivisionError: division by zero\n"),
    "an interrupt": (KeyboardInterrupt(), 130, "visavis: interrupted\n"),
    "a group": (
        ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("more", [TransportError("disk full: o")])]),
        1,
        "visavis: error: disk full: o\n",
    ),
}


@pytest.mark.parametrize("error, status, said", ENDINGS.values(), ids=ENDINGS)
def test_how_failures_end(capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str) -> None:
    assert status_of(error, Output()) == status
    told = capsys.readouterr().err
    assert told.startswith(said)
    assert "Traceback" not in told


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.verbose = True
    try:
        raise BadInput("no")
    except BadInput as error:
        status_of(error, output)
    assert "Traceback" in capsys.readouterr().err


COMMANDS = """
    from visavis.hookspecs import hookimpl
    from visavis.plugins import CommandPlugin

    @hookimpl
    def visavis_commands():
        yield CommandPlugin(name="greet", summary="Say hello.", target="visavis_greetings_cli:greet")
        yield CommandPlugin(name="broken", summary="Never works.", target="visavis_greetings_cli:nothing")
        yield CommandPlugin(name="gone", summary="Is not there.", target="visavis_no_such_module:main")
        yield CommandPlugin(name="render", summary="Not ours.", target="visavis_no_such_module:main")
    """
GREET = """
import typer

def greet(name: str, loud: bool = False):
    '''Say hello.'''
    typer.echo(f"hello {name.upper() if loud else name}")
    raise typer.Exit(3 if name == "nobody" else 0)
"""


def test_commands_of_plugins(visavis: Run, dist: Install, tmp_path: Path) -> None:
    dist("visavis-greetings", COMMANDS)
    (tmp_path / "site" / "visavis_greetings_cli.py").write_text(GREET)
    shown = visavis("--help")
    assert "greet" in shown.out
    assert "Say hello." in shown.out
    assert "visavis_greetings_cli" not in sys.modules  # listed without being imported
    assert visavis("greet", "ada", "--loud").out == "hello ADA\n"
    assert visavis("greet", "nobody").status == 3
    assert "Usage: visavis greet [OPTIONS]" in visavis("greet", "--help").out
    usage = visavis("greet")
    named = "NAME" if "'NAME'" in usage.err else "name"  # as the version of typer has it
    assert (usage.status, usage.err.splitlines()[0]) == (2, f"visavis: error: Missing argument {named!r}")
    for name in ("broken", "gone"):
        ran = visavis(name)
        assert ran.status == 1
        assert f"the command {name!r} of visavis-greetings 0.9 cannot be used" in ran.err
    assert visavis("render", "--help").out.splitlines()[2].strip().startswith("Let an avatar speak")


BROKEN = "raise ImportError('libcudart.so.12: cannot open shared object file')"


def test_a_broken_renderer_is_listed_with_its_reason_and_all_else_works(visavis: Run, dist: Install) -> None:
    dist("visavis-renderer-gpu", BROKEN)
    listed = visavis("plugins")
    reason = "import failed: ImportError: libcudart.so.12: cannot open shared object file"
    assert listed.status == 0
    assert f"broken  visavis-renderer-gpu 0.9: {reason}" in listed.out
    assert re.search(r"^launcher +local ", listed.out, re.M)
    as_json = json.loads(visavis("plugins", "--json").out)
    assert as_json["broken"] == [{"dist": "visavis-renderer-gpu", "version": "0.9", "reason": reason}]
    assert {"launcher"} <= {item["kind"] for item in as_json["plugins"]}
    assert json.loads(visavis("schema").out)["title"] == "visavis deployment"
    assert "Traceback" in visavis("--verbose", "plugins").err


def test_check_names_the_cause_of_a_broken_renderer(visavis: Run, dist: Install, tmp_path: Path) -> None:
    dist("visavis-renderer-gpu", BROKEN)
    file = tmp_path / "d.yaml"
    file.write_text("renderer: {use: gpu}\n")
    ran = visavis("check", file)
    assert ran.status == 2
    assert "the renderer 'gpu' is installed but broken: import failed: ImportError: libcudart.so.12" in ran.err
    assert "run `visavis doctor`" in ran.err


def test_check_tells_all_problems_then_counts_them(visavis: Run, tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("stor: {use: filesystem}\nlimits: {max_sessions: none}\n")
    ran = visavis("check", file)
    assert ran.status == 2
    assert f"{file}:1:1: stor: unknown section 'stor'" in ran.err
    assert f"{file}:2:24: limits.max_sessions: should be a valid integer" in ran.err
    assert ran.err.splitlines()[-1].startswith(f"visavis: error: {file}: ")
    told = json.loads(visavis("check", file, "--json").out)
    assert told["ok"] is False
    assert told["problems"][0]["line"] == 1
    assert (
        visavis("check", tmp_path / "none.yaml").err == f"visavis: error: there is no file {tmp_path / 'none.yaml'}\n"
    )


def test_run_wants_a_session(visavis: Run, dist: Install, tmp_path: Path) -> None:
    dist(
        "visavis-everything",
        """
        from visavis.hookspecs import hookimpl
        from visavis.plugins import AudioSourcePlugin, AvatarStorePlugin, RendererPlugin, TransportPlugin

        def make(*_):
            raise AssertionError

        @hookimpl
        def visavis_avatar_stores():
            yield AvatarStorePlugin(name="everything", summary="", factory=make)

        @hookimpl
        def visavis_audio_sources():
            yield AudioSourcePlugin(name="everything", summary="", factory=make)

        @hookimpl
        def visavis_renderers():
            yield RendererPlugin(name="everything", summary="", factory=make)

        @hookimpl
        def visavis_transports():
            yield TransportPlugin(name="everything", summary="", factory=make)
        """,
    )
    file = tmp_path / "d.yaml"
    kinds = ("store", "source", "renderer", "transport")
    file.write_text("".join(f"{kind}: {{use: everything}}\n" for kind in kinds))
    assert visavis("check", file).out.startswith(f"{file} is fine\n  store      everything  visavis-everything 0.9\n")
    assert json.loads(visavis("check", file, "--json").out)["ok"] is True
    ran = visavis("run", file)
    assert ran.status == 2
    assert "has no section `session`" in ran.err


@pytest.mark.parametrize("words", [["--help"], ["render", "--help"], ["--version"], ["nope"]])
def test_the_start_is_light(words: list[str]) -> None:
    code = f"import sys; from visavis.cli import main; main({words!r}); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(ran.stderr.split())
    heavy = {
        "numpy",
        "onnx",
        "onnxruntime",
        "av",
        "cv2",
        "soxr",
        "livekit",
        "cryptography",
        "ruamel.yaml",
        "rich.console",
    }
    if words in (["--help"], ["nope"]):
        heavy.remove("numpy")  # all plugins are asked for their commands, and not all are ours
    else:
        assert "visavis.registry" not in loaded
    assert loaded & heavy == set()
    assert "visavis.config" not in loaded


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    pipe = f"{sys.executable} -m visavis schema | head -c 10"
    ran = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout == '{\n  "$sche'
    assert ran.stderr == ""
