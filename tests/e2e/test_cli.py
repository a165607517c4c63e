"""The command line with its real plugins: what a person or a script at a terminal gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from visavis.testing import tiny_avatar

RATE = 16_000
Ran = subprocess.CompletedProcess[str]
Visavis = Callable[..., Ran]


def speech(path: Path, seconds: float) -> Path:
    """Noise with a syllable's rhythm."""
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(0, 0.2, len(t)) * np.maximum(0, np.sin(15 * t))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((noise * 20_000).clip(-32_768, 32_767).astype("<i2").tobytes())
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the avatar tiny where the command line looks for it, and a second of speech."""
    (tmp_path / "assets" / "avatars").mkdir(parents=True)
    tiny_avatar(tmp_path / "assets" / "avatars" / "tiny.hvia")
    speech(tmp_path / "speech.wav", 1.0)
    return tmp_path


@pytest.fixture
def visavis(home: Path) -> Visavis:
    """Run a command line in that folder."""

    def run(*words: object) -> Ran:
        command = [sys.executable, "-m", "visavis", *map(str, words)]
        return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=200, check=False)

    return run


def test_render(visavis: Visavis, home: Path) -> None:
    ran = visavis("render", "speech.wav", "-o", "out.mp4", "--avatar", "tiny")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.startswith("visavis: out.mp4: 1.00 s of speech in 10 frames")
    with av.open(str(home / "out.mp4")) as film:
        assert film.streams.video[0].frames == 10


def test_render_for_a_script(visavis: Visavis, home: Path) -> None:
    ran = visavis("render", "speech.wav", "-o", "out.mp4", "-a", "tiny.hvia", "--json")
    said = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert said["output"] == "out.mp4"
    assert said["avatar"] == "tiny"
    assert said["frames"] == 10
    assert said["warnings"] == []


def test_render_takes_an_avatar_by_its_path(visavis: Visavis, home: Path) -> None:
    (home / "ada.hvia").write_bytes((home / "assets" / "avatars" / "tiny.hvia").read_bytes())
    ran = visavis("render", "speech.wav", "-o", "out.mp4", "-a", "./ada.hvia", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["avatar"] == "ada"


def test_render_takes_the_parts_of_a_deployment(visavis: Visavis, home: Path) -> None:
    (home / "sub").mkdir()
    (home / "sub" / "d.yaml").write_text(
        "store: {use: filesystem, root: ../assets/avatars}\n"
        "source: {use: tone}\n"
        "renderer: {use: onnxruntime, threads: 1}\n"
        "session: {avatar: tiny, seed: 5}\n"
    )
    ran = visavis("render", "speech.wav", "-o", "out.mp4", "--config", "sub/d.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "out.mp4: 1.00 s of speech in 10 frames" in ran.stderr
    (home / "sub" / "d.yaml").write_text("renderer: {use: onnxruntime, thread: 1}\n")
    ran = visavis("render", "speech.wav", "-o", "out2.mp4", "--config", "sub/d.yaml")
    assert ran.returncode == 2
    assert "sub/d.yaml:1:30: renderer.thread: unknown option 'thread'" in ran.stderr
    assert not (home / "out2.mp4").exists()


MISTAKES = {
    "no such avatar": (["render", "speech.wav", "-o", "o.mp4", "-a", "ada"], "there is no avatar 'ada'; there are: "),
    "no such recording": (["render", "no.wav", "-o", "o.mp4", "-a", "tiny"], "no.wav does not exist"),
    "no such folder": (["render", "speech.wav", "-o", "no/o.mp4", "-a", "tiny"], "no/o.mp4 cannot be written"),
    "the recording itself": (["render", "speech.wav", "-o", "speech.wav", "-a", "tiny"], "speech.wav"),
    "an unknown kind of file": (["render", "speech.wav", "-o", "o.xyz", "-a", "tiny"], "o.xyz"),
    "no such deployment": (["run", "no.yaml"], "there is no file no.yaml"),
    "no such folder of avatars": (["avatars", "list", "--root", "no"], "no"),
    "no such avatar to inspect": (["avatars", "inspect", "ada"], "there is no avatar 'ada'"),
    "no such file to inspect": (["avatars", "inspect", "ada.hvia"], "there is no avatar file ada.hvia"),
    "nothing to pack": (["avatars", "pack", "no", "-o", "o.hvia"], "there is no folder no"),
    "a wrong name to pack to": (["avatars", "pack", "assets", "-o", "o.zip"], "o.zip does not end in .hvia"),
    "a folder without a manifest": (["avatars", "pack", "assets", "-o", "o.hvia"], "manifest.json"),
}


@pytest.mark.parametrize("words, said", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(visavis: Visavis, home: Path, words: list[str], said: str) -> None:
    before = sorted(home.rglob("*"))
    ran = visavis(*words)
    first, *more = ran.stderr.splitlines()
    assert ran.returncode == 2
    assert first.startswith("visavis: error: ")
    assert said in first
    assert all(line.startswith("  ") for line in more)
    assert sorted(home.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise on Windows")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_cleanly(home: Path, sent: signal.Signals) -> None:
    speech(home / "long.wav", 1800.0)
    command = [sys.executable, "-m", "visavis", "render", "long.wav", "-o", "out.mp4", "-a", "tiny"]
    with subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        while not list(home.glob("*.partial*")) and not list(home.glob(".*partial*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(child.pid, sent)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert told == "visavis: interrupted\n"
    assert sorted(path.name for path in home.iterdir()) == ["assets", "long.wav", "speech.wav"]


def test_run_and_check(visavis: Visavis, home: Path) -> None:
    (home / "d.yaml").write_text(
        "store: {use: filesystem, root: assets/avatars}\n"
        "session: {avatar: tiny, source: {path: speech.wav}, transport: {path: '${OUT:-out.mp4}'}}\n"
    )
    assert visavis("check", "d.yaml").stdout.startswith("d.yaml is fine\n")
    ran = visavis("run", "d.yaml", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["frames"] == 10
    assert (home / "out.mp4").is_file()


def test_the_page_on_configuration_is_right(visavis: Visavis, home: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    (home / "deployment.yaml").write_text(example.replace("avatar: mira", "avatar: tiny"))
    assert visavis("check", "deployment.yaml").returncode == 0
    assert visavis("run", "deployment.yaml").returncode == 0
    told = page.split("```\ndeployment.yaml:3:30")[1].split("```")[0].splitlines()
    text = (home / "deployment.yaml").read_text().splitlines()
    text[2] = told[1].strip()
    (home / "deployment.yaml").write_text("\n".join(text))
    ran = visavis("check", "deployment.yaml").stderr
    assert ran.startswith(f"deployment.yaml:3:30{told[0]}\n{told[1]}\n{told[2]}\n")
    assert "did you mean 'threads'?" in ran


def test_avatars(visavis: Visavis, home: Path) -> None:
    broken = home / "assets" / "avatars" / "broken.hvia"
    broken.write_bytes(b"this is not an avatar")
    listed = visavis("avatars", "list")
    assert listed.returncode == 0
    rows = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert "Tiny" in rows["tiny"]
    assert "cannot be used: " in rows["broken"]
    as_json = {item["id"]: item for item in json.loads(visavis("avatars", "list", "--json").stdout)["avatars"]}
    assert as_json["tiny"]["problem"] is None
    assert as_json["broken"]["problem"]
    shown = visavis("avatars", "inspect", "tiny")
    for wanted in (
        "author",
        "licence",
        "likeness   nobody",
        "128x128 at 10 fps",
        "graphs/motion.onnx",
        "look-ahead 100 ms",
    ):
        assert wanted in shown.stdout
    assert json.loads(visavis("avatars", "inspect", "tiny", "--json").stdout)["manifest"]["format"] == "hvia/1"
    tiny_avatar(home / "many.hvia", variants=("fp16", "int8"))
    shown = visavis("avatars", "inspect", "many.hvia")
    assert "graphs/face.onnx (fp16 graphs/face.fp16.onnx, int8 graphs/face.int8.onnx): 64x64" in shown.stdout
    judged = visavis("avatars", "validate", "assets/avatars/tiny.hvia", broken, "none.hvia", "--json")
    assert judged.returncode == 2
    assert [item["ok"] for item in json.loads(judged.stdout)["files"]] == [True, False, False]
    assert visavis("avatars", "validate", "assets/avatars/tiny.hvia").stdout.startswith(
        "assets/avatars/tiny.hvia: fine"
    )


def test_pack(visavis: Visavis, home: Path) -> None:
    import zipfile

    with zipfile.ZipFile(home / "assets" / "avatars" / "tiny.hvia") as file:
        file.extractall(home / "parts")
    ran = visavis("avatars", "pack", "parts", "-o", "again.hvia")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("again.hvia: ")
    assert (home / "again.hvia").read_bytes() == (home / "assets" / "avatars" / "tiny.hvia").read_bytes()
    (home / "parts" / "graphs" / "face.onnx").write_bytes(b"no graph")
    ran = visavis("avatars", "pack", "parts", "-o", "again.hvia")
    assert ran.returncode == 2
    assert "parts does not make a usable avatar" in ran.stderr
    assert (home / "again.hvia").read_bytes() == (home / "assets" / "avatars" / "tiny.hvia").read_bytes()
    assert sorted(path.name for path in home.iterdir()) == ["again.hvia", "assets", "parts", "speech.wav"]


def test_doctor(visavis: Visavis) -> None:
    ran = visavis("doctor")
    assert ran.returncode == 0, ran.stdout
    assert "everything works" in ran.stdout
    assert "renderer onnxruntime" in ran.stdout
    findings = json.loads(visavis("doctor", "--json").stdout)["findings"]
    assert {"Python", "visavis", "avatars", "clip cache"} <= {finding["subject"] for finding in findings}


def test_doctor_says_what_fails_and_the_next_step(home: Path) -> None:
    code = (
        "import sys; from visavis.registry import Registry; found = Registry.discover\n"
        "Registry.discover = classmethod(lambda cls: cls())\n"
        "from visavis.cli import main; sys.exit(main(['doctor']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 1
    assert "FAIL  renderers" in ran.stdout
    assert "-> pip install visavis-renderer-onnxruntime" in ran.stdout


def test_bench(visavis: Visavis) -> None:
    ran = visavis("bench", "-a", "tiny", "--seconds", "2", "--json")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["frames"] == 20
    assert said["whole"]["stages_ms_a_frame"].keys() == {"motion", "face", "compose", "encode"}
    assert all(spent > 0 for spent in said["whole"]["stages_ms_a_frame"].values())
    assert said["floor"]["ms_a_frame"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_a_terminal_sees_progress(home: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "visavis", "render", "speech.wav", "-o", "out.mp4", "-a", "tiny"]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as child:
        os.close(theirs)
        told = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            told += piece
        assert child.wait(60) == 0
    os.close(ours)
    assert b"tiny" in told
    assert b"real time" in told
