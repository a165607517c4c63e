"""What is measured: the floor, the peer, and visavis, each a process of its own that one client can drive alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
from visavis.testing.livekit.flash import discoverable
from visavis.testing.livekit.floor import FloorOptions, floor
from visavis.testing.livekit.server import LiveKitServer, free_port
from visavis.testing.livekit.spawning import Spawned, spawned

HERE = Path(__file__).resolve().parent
AVATAR = "avatar"
AGENT = "agent"

CONFIG = """\
store: {{use: filesystem, root: {avatars}}}
source: {{use: datastream}}
renderer: {renderer}
transport: {{use: livekit{transport}}}
launcher: {launcher}
server: {{use: http}}
limits: {{max_sessions: {most}}}
"""
FLASH = "{use: flash, look_ahead: 3}"
MIRA = "{use: onnxruntime, device: cpu, threads: 1}"
LOCAL = "{use: local}"


@dataclass
class Subject:
    """Somebody who speaks in a room as ``avatar`` to whoever streams to it. ``pid`` is the process that does it."""

    name: str
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time used so far, by the process and by those that it has started."""
        process = psutil.Process(self.pid)
        return _used(process) + sum(_used(child) for child in process.children(recursive=True))

    def own_cpu(self) -> float:
        """The same, less what those have used that it has started."""
        return _used(psutil.Process(self.pid))


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def floor_subject(
    livekit: LiveKitServer, room: str, rate: int, *, ready: Path | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[Subject]:
    """The plain SDK with ready pictures."""
    options = FloorOptions(rate=rate, ready=str(ready) if ready else None)
    async with floor(livekit, room, identity=AVATAR, options=options, prefix=prefix) as process:
        yield Subject("floor", process.pid)


@asynccontextmanager
async def peer_subject(
    livekit: LiveKitServer, room: str, rate: int, *, ready: Path | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[Subject]:
    """livekit-agents' stock AvatarRunner with ready pictures."""
    asked = {
        "url": livekit.url,
        "token": livekit.token(AVATAR, room),
        "agent": AGENT,
        "rate": rate,
        "ready": str(ready) if ready else None,
    }
    async with spawned(Spawned, str(HERE / "peer_runner.py"), asked, prefix=prefix) as process:
        yield Subject("peer", process.pid)


@dataclass
class AvatarServer:
    """A running ``visavis serve``."""

    livekit: LiveKitServer
    url: str
    pid: int
    log: Path
    client: httpx.AsyncClient = field(repr=False)

    async def start(self, room: str, *, avatar: str = "mira", identity: str = AVATAR) -> str:
        """Start a session in a room; returns its id."""
        token = self.livekit.token(identity, room, agent=True, on_behalf_of=AGENT)
        asked = {"avatar_id": avatar, "livekit_url": self.livekit.url, "livekit_token": token}
        reply = await self.client.post("/v1/sessions", json=asked)
        if reply.status_code >= 300:
            raise RuntimeError(f"POST /v1/sessions: {reply.status_code} {reply.text}\n{self.said()}")
        return str(reply.json()["id"])

    async def session(self, number: str) -> dict[str, Any]:
        """A session as the server shows it."""
        reply = await self.client.get(f"/v1/sessions/{number}")
        found: dict[str, Any] = reply.raise_for_status().json()
        return found

    async def stop(self, number: str) -> None:
        """End a session."""
        (await self.client.delete(f"/v1/sessions/{number}")).raise_for_status()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]


@asynccontextmanager
async def serving(
    livekit: LiveKitServer,
    folder: Path,
    *,
    renderer: str = FLASH,
    avatars: Path | None = None,
    most: int = 100,
    prefix: Sequence[str] = (),
    launcher: str = LOCAL,
    transport: str = "",
) -> AsyncIterator[AvatarServer]:
    """``visavis serve`` as a user runs it, ready to start sessions; ended by SIGTERM. ``transport`` is an option of the
    transport, as ``name=value``."""
    (folder / "avatars").mkdir(parents=True, exist_ok=True)
    config = folder / "visavis.yaml"
    config.write_text(
        CONFIG.format(
            renderer=renderer,
            most=most,
            avatars=avatars or folder / "avatars",
            launcher=launcher,
            transport=", " + transport.replace("=", ": ") if transport else "",
        )
    )
    env = {
        **discoverable(folder / "flash"),
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.key,
        "LIVEKIT_API_SECRET": livekit.secret,
        "OMP_NUM_THREADS": "1",
    }
    port, log = free_port(), folder / "serve.log"
    command = [*prefix, sys.executable, "-m", "visavis", "serve", str(config), "--port", str(port)]
    with log.open("wb") as out:
        process = await anyio.open_process(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            server = AvatarServer(livekit, url, process.pid, log, client)
            await _until_ready(server, process)
            yield server
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
            with anyio.move_on_after(20):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _until_ready(server: AvatarServer, process: anyio.abc.Process) -> None:
    for _ in range(600):
        if process.returncode is not None:
            break
        try:
            if (await server.client.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await anyio.sleep(0.1)
    raise RuntimeError(f"visavis serve is not ready: {server.said()}")


@asynccontextmanager
async def our_subject(
    livekit: LiveKitServer, room: str, rate: int, *, folder: Path, **options: Any
) -> AsyncIterator[Subject]:
    """visavis: a server with one session; ``options`` as ``serving`` takes them. ``rate`` is that of the speech, which
    it need not know."""
    async with serving(livekit, folder, **options) as server:
        await server.start(room)
        yield Subject("visavis", server.pid)


def subject(
    name: str, livekit: LiveKitServer, room: str, rate: int, folder: Path, **options: Any
) -> Any:  # an async context manager of one of three kinds
    """The subject of that name: floor, peer or visavis.

    More may follow a colon: an option of visavis's transport (``visavis:audio_dtx=false``), or anything that tells two
    of a kind apart (``floor:again``).
    """
    kind, _, variant = name.partition(":")
    if kind == "floor":
        return floor_subject(livekit, room, rate, **options)
    if kind == "peer":
        return peer_subject(livekit, room, rate, **options)
    served = folder / f"serve-{os.urandom(3).hex()}"
    return our_subject(livekit, room, rate, folder=served, transport=variant, **options)
