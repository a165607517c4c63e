"""The server of tests: on loopback alone, found or built once, on ports of its own, and gone afterwards."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from visavis.testing.livekit import browser, fixtures, server
from visavis.testing.livekit.server import LiveKitMissing, LiveKitServer


def test_it_listens_on_loopback_alone(livekit_server: LiveKitServer) -> None:
    sockets = psutil.Process(livekit_server.pid).net_connections(kind="inet")
    here = {s.laddr.ip for s in sockets}
    assert here == {"127.0.0.1"}
    assert any(s.laddr.port == livekit_server.port for s in sockets)


def test_it_comes_back_on_its_port_after_a_kill(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    with LiveKitServer(tmp_path) as other:
        assert other.port != livekit_server.port
        pid, url = other.pid, other.url
        other.kill()
        with pytest.raises(RuntimeError, match="does not run"):
            _ = other.pid
        other.start()
        assert other.url == url
        assert other.pid != pid
        with other.frozen():
            assert psutil.Process(other.pid).status() == psutil.STATUS_STOPPED
        pid = other.pid
    assert not psutil.pid_exists(pid)


def test_a_port_that_was_taken_meanwhile_is_no_failure(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    mine = LiveKitServer(tmp_path)
    config = tmp_path / "livekit.yaml"
    config.write_text(config.read_text().replace(f"port: {mine.port}\n", f"port: {livekit_server.port}\n", 1))
    mine.port, mine.http_url = livekit_server.port, "http://127.0.0.1:9"
    with mine:
        assert mine.port != livekit_server.port


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    mine = LiveKitServer(tmp_path)
    (tmp_path / "livekit.yaml").write_text("port: none\n")
    with pytest.raises(RuntimeError, match="livekit-server did not start: could not parse config"):
        mine.__enter__()


def test_without_server_and_go_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VISAVIS_LIVEKIT_SERVER", raising=False)
    with pytest.raises(LiveKitMissing, match=r"no Go to build .* VISAVIS_LIVEKIT_SERVER"):
        server.executable()
    monkeypatch.setenv("VISAVIS_LIVEKIT_SERVER", str(tmp_path / "none"))
    with pytest.raises(LiveKitMissing, match="which cannot be run"):
        server.executable()


FAKE_GO = """#!{python}
import os, pathlib, time
with open({log!r}, "a") as log:
    log.write("built\\n")
time.sleep(0.5)
made = pathlib.Path(os.environ["GOBIN"]) / "server"
made.write_text("a server")
"""


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    """Go is played by a script: a real build takes minutes, and is what every other test here runs on."""
    log, folder = tmp_path / "log", tmp_path / "bin"
    folder.mkdir()
    go = folder / "go"
    go.write_text(FAKE_GO.format(python=sys.executable, log=str(log)))
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    env = {"PATH": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "visavis.testing.livekit.server"]
    runs = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    (path,) = said
    assert Path(path).read_text() == "a server"
    assert log.read_text() == "built\n"


def test_a_failed_build_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go: cannot find this module >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VISAVIS_LIVEKIT_SERVER", raising=False)
    with pytest.raises(LiveKitMissing, match="cannot find this module"):
        server.executable()
    assert [p.suffix for p in (tmp_path / "cache" / "visavis").iterdir()] == [".lock"]


def test_missing_is_a_skip_and_where_required_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISAVIS_REQUIRE_LIVEKIT", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no server"):
        fixtures.missing("no server")
    monkeypatch.setenv("VISAVIS_REQUIRE_LIVEKIT", "1")
    with pytest.raises(pytest.fail.Exception, match="no server"):
        fixtures.missing("no server")


def test_a_browser_is_found_or_its_lack_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VISAVIS_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(browser.ChromiumMissing, match="apt-get install chromium"):
        browser.find()
    mine = tmp_path / "chromium"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert browser.find().options["executable_path"] == str(mine)
    monkeypatch.setenv("VISAVIS_CHROMIUM", str(tmp_path / "other"))
    with pytest.raises(browser.ChromiumMissing, match="which is not there"):
        browser.find()
