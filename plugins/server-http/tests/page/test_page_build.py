"""How LiveKit's client comes into the wheel: fetched by npm, checked, and missed without harm."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from visavis_server_http.page import vendor

DIST = Path(__file__).resolve().parents[2]
BUILD = """
import sys
import hatchling.build
print(getattr(hatchling.build, sys.argv[1])(sys.argv[2]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the distribution, without the client."""
    unwanted = shutil.ignore_patterns("vendor", "__pycache__", "tests", "dist", "build")
    shutil.copytree(DIST, tmp_path / "tree", ignore=unwanted)
    return tmp_path / "tree"


def npm_that(folder: Path, script: str) -> str:
    """A PATH with an npm that runs a line of shell, and the system's tools."""
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"


def built(tree: Path, kind: str, path: str) -> tuple[list[str], str]:
    """The names in what was built, and what the build said."""
    out = tree.parent / "out"
    out.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(out)],
        cwd=tree,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (made,) = out.iterdir()
    if made.suffix == ".whl":
        with zipfile.ZipFile(made) as archive:
            return archive.namelist(), ran.stdout + ran.stderr
    unpacked = tree.parent / "unpacked"
    shutil.unpack_archive(made, unpacked)
    return [str(path.relative_to(unpacked)) for path in unpacked.rglob("*")], ran.stdout + ran.stderr


SCRIPT = f"visavis_server_http/page/static/vendor/{vendor.SCRIPT}"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on PATH")
@pytest.mark.parametrize("kind", ["build_wheel", "build_editable"])
def test_a_build_fetches_the_client(tree: Path, kind: str) -> None:
    names, said = built(tree, kind, os.environ["PATH"])
    assert vendor.present(tree / "src" / "visavis_server_http" / "page" / "static" / "vendor"), said
    if kind == "build_wheel":
        assert SCRIPT in names
        assert f"visavis_server_http/page/static/vendor/{vendor.LICENCE}" in names
        assert {"visavis_server_http/page/static/notices.txt", "visavis_server_http/page/static/index.html"} <= {*names}


def test_a_build_without_npm_goes_on_and_says_so(tree: Path) -> None:
    names, said = built(tree, "build_wheel", "")
    assert "visavis_server_http/page/static/index.html" in names
    assert SCRIPT not in names
    assert vendor.COMMAND in said


@pytest.mark.parametrize("script", ["exit 1", "echo no tarball", "head -c 4000 /dev/zero > livekit-client.tgz"])
def test_a_build_with_an_npm_that_fails_goes_on(tree: Path, script: str) -> None:
    names, said = built(tree, "build_wheel", npm_that(tree.parent / "bin", script))
    assert SCRIPT not in names
    assert "will lack LiveKit's client" in said


def test_the_source_distribution_holds_no_client(tree: Path) -> None:
    folder = tree / "src" / "visavis_server_http" / "page" / "static" / "vendor"
    folder.mkdir()
    (folder / vendor.SCRIPT).write_bytes(b"fetched before")
    names, _ = built(tree, "build_sdist", "")
    assert any(name.endswith("hatch_build.py") for name in names)
    assert any(name.endswith("page/static/index.html") for name in names)
    assert not [name for name in names if vendor.SCRIPT in name]


def test_a_tarball_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"another")
    with pytest.raises(vendor.VendorError, match="not livekit-client 2"):
        vendor.fetch(tmp_path / "vendor", tmp_path / "other.tgz")
    assert not (tmp_path / "vendor").exists()
    with pytest.raises(vendor.VendorError, match=r"missing\.tgz"):
        vendor.fetch(tmp_path / "vendor", tmp_path / "missing.tgz")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on PATH")
def test_a_client_that_was_altered_is_fetched_anew(tmp_path: Path) -> None:
    path = vendor.fetch(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert not vendor.present(tmp_path)
    vendor.fetch(tmp_path)
    assert vendor.present(tmp_path)
    assert "Apache License" in (tmp_path / vendor.LICENCE).read_text(encoding="utf-8")


def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vendor, "FOLDER", tmp_path / "vendor")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert vendor.main([]) == 1
    assert vendor.main([str(tmp_path / "missing.tgz")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "npm is not on PATH" in first
    assert "missing.tgz" in second
