"""`visavis engines` on the command line, with real engines of TensorRT-RTX."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from visavis.cli import main
from visavis.testing.tiny import tiny_avatar

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX has no wheel for this platform")


@pytest.fixture
def avatar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path / "cache"))
    return tiny_avatar(tmp_path / "avatars" / "tiny.hvia", variants=("fp16",))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    (tmp_path / "avatars").mkdir()


def test_build_list_clean(avatar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "build", str(avatar), "--for", "8.9", "--precision", "fp16"]) == 0
    built = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[0] for line in built] == ["tiny/motion", "tiny/face"]
    assert all("(fp16, tensorrt-rtx " in line and "sm89, 1 to 32 rows): " in line for line in built)
    assert all(line.endswith(" MB") for line in built)

    assert main(["engines", "build", "tiny", "--root", str(avatar.parent), "--for", "8.9", "--precision", "fp16"]) == 0
    assert all(line.endswith(": is there") for line in capsys.readouterr().out.splitlines())

    assert main(["engines", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["engines"]
    assert {engine["what"] for engine in told} == {"tiny/motion", "tiny/face"}
    assert {engine["target"] for engine in told} == {"sm89"}

    assert main(["engines", "clean", "--old"]) == 0
    assert capsys.readouterr().out.startswith("0 engines removed")
    assert main(["engines", "clean"]) == 0
    assert capsys.readouterr().out.startswith("2 engines removed")


BAD = {
    "no capability": (["--for", "ada"], "'ada' is no compute capability"),
    "a capability that is not listed": (["--for", "9.0"], "does not build for sm90 ahead of time"),
    "no precision": (["--for", "8.9", "--precision", "fp8"], "the precision 'fp8' is none of fp32, fp16, int8"),
    "no such avatar": (["nobody", "--for", "8.9"], "nobody"),
}


@pytest.mark.parametrize("words, said", BAD.values(), ids=BAD)
def test_bad_words_are_one_clear_line(
    avatar: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    named = [] if words[0] == "nobody" else [str(avatar)]
    assert main(["engines", "build", *named, *words]) in (1, 2)
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
