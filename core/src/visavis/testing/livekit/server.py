"""A real livekit-server on loopback alone: found on PATH, or built once with Go and kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

VERSION = "v1.13.5"
MODULE = f"github.com/livekit/livekit-server/cmd/server@{VERSION}"
KEY, SECRET = "devkey", "devsecret-devsecret-devsecret-01"

_CONFIG = """\
port: {port}
bind_addresses: ["127.0.0.1"]
rtc:
  tcp_port: 0  # its listener would ignore bind_addresses
  udp_port: {udp}
  node_ip: 127.0.0.1
  use_external_ip: false
  enable_loopback_candidate: true
  interfaces: {{includes: [lo]}}
  ips: {{includes: ["127.0.0.1/32"]}}
  stun_servers: ["127.0.0.1:{dead}"]  # empty would send clients to public ones
  use_mdns: false
turn: {{enabled: false}}
room: {{auto_create: true, empty_timeout: 30, departure_timeout: 5}}
keys: {{{key}: {secret}}}
logging: {{level: info, json: false, pion_level: error}}
"""


class LiveKitMissing(RuntimeError):  # noqa: N818 - it is named after what it says
    """There is no livekit-server and none can be built; the message says what to install."""


def executable() -> Path:
    """The server's path: VISAVIS_LIVEKIT_SERVER, PATH, or a build of its own kept in the user's cache.

    Raises LiveKitMissing. A build takes two to three minutes, once.
    """
    named = os.environ.get("VISAVIS_LIVEKIT_SERVER")
    if named and not os.access(named, os.X_OK):
        raise LiveKitMissing(f"VISAVIS_LIVEKIT_SERVER names {named}, which cannot be run")
    found = named or shutil.which("livekit-server")
    if found:
        return Path(found)
    kept = _cache() / f"livekit-server-{VERSION}"
    if kept.is_file():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _locked(kept.with_suffix(".lock")):  # of several test runs one builds, the others wait for it
        if not kept.is_file():
            _build(kept)
    return kept


def _build(kept: Path) -> None:
    """Build it beside where it is kept, and move it there whole."""
    go = shutil.which("go")
    if go is None:
        raise LiveKitMissing(
            f"livekit-server is not on PATH, and there is no Go to build {VERSION} with: "
            "put one of the two on PATH (Go 1.26 or newer), or name the server in VISAVIS_LIVEKIT_SERVER"
        )
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        env = {**os.environ, "GOBIN": folder, "GOFLAGS": "-mod=mod"}
        command = [go, "install", "-p", "2", "-ldflags", "-s -w", MODULE]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if ran.returncode:
            why = ran.stderr.strip()[-400:] or f"exit status {ran.returncode}"
            raise LiveKitMissing(f"livekit-server {VERSION} could not be built by {go}: {why}")
        os.replace(Path(folder) / "server", kept)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock between processes; it goes with the process that holds it."""
    with path.open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "visavis"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LiveKitServer:
    """A context manager around one server process. ``url`` is what clients dial; ``log`` the file it writes."""

    def __init__(self, folder: Path) -> None:
        self.key, self.secret = KEY, SECRET
        self.log = folder / "livekit-server.log"
        self._config = folder / "livekit.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        self._choose_ports()

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.http_url = f"http://127.0.0.1:{self.port}"
        udp, dead = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        text = _CONFIG.format(port=self.port, udp=udp, dead=dead, key=self.key, secret=self.secret)
        self._config.write_text(text, encoding="utf-8")

    @property
    def pid(self) -> int:
        """The process's id. Raises RuntimeError if it does not run."""
        if self._process is None:
            raise RuntimeError("livekit-server does not run")
        return self._process.pid

    def __enter__(self) -> LiveKitServer:
        for _ in range(3):
            try:
                self.start()
            except RuntimeError:  # somebody may have taken a port since it was chosen
                if "address already in use" not in self.log.read_text(errors="replace"):
                    raise
                self._choose_ports()
            else:
                return self
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers; also again after ``kill``, on the same ports."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(executable()), "--config", str(self._config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        for _ in range(200):
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(self.http_url, timeout=1):
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
                break
        self.stop()
        raise RuntimeError(f"livekit-server did not start: {self.log.read_text(errors='replace')[-1000:]}")

    def stop(self) -> None:
        """End it: the first signal drains, the second insists."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        for _ in range(2):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
                return
        process.kill()
        process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the time of the block: the network is gone."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # until it stands still
        try:
            yield
        finally:
            if self._process is not None:
                self._process.send_signal(signal.SIGCONT)

    def token(
        self,
        identity: str,
        room: str,
        *,
        agent: bool = False,
        on_behalf_of: str | None = None,
        attributes: dict[str, str] | None = None,
        ttl: float = 3600,
        update_own_metadata: bool = True,
    ) -> str:
        """A participant's token. ``agent`` gives it kind agent; ``on_behalf_of`` sets ``lk.publish_on_behalf``."""
        from livekit import api

        token = api.AccessToken(self.key, self.secret).with_identity(identity).with_name(identity)
        token = token.with_grants(
            api.VideoGrants(room_join=True, room=room, can_update_own_metadata=update_own_metadata, agent=agent)
        ).with_ttl(timedelta(seconds=ttl))
        if agent:
            token = token.with_kind("agent")
        facts = {**(attributes or {}), **({"lk.publish_on_behalf": on_behalf_of} if on_behalf_of else {})}
        return str(token.with_attributes(facts).to_jwt() if facts else token.to_jwt())


if __name__ == "__main__":
    print(executable())  # noqa: T201 - this is what it is run for
