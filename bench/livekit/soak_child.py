"""The process that ``soak.py`` watches: visavis' launcher with the data stream source and the LiveKit transport.

Commands, a line each: ``start ROOM TOKEN AVATAR``, ``stop ROOM``, ``count NUMBER``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path

import psutil
from livekit import rtc
from visavis.config import load_deployment
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.registry import Registry
from visavis.supervisor import LocalLauncher
from visavis.testing.livekit.floor import say

CONFIG = """\
store: {{use: filesystem, root: {avatars}}}
source: {{use: datastream}}
renderer: {{use: onnxruntime, device: cpu, threads: 1}}
transport: {{use: livekit}}
limits: {{max_sessions: 100}}
"""


def counted() -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    me = psutil.Process()
    locals_ = [thing for thing in gc.get_objects() if type(thing) is rtc.LocalParticipant]
    return {
        "threads": me.num_threads(),
        "file handles": me.num_fds(),
        "tasks": len(asyncio.all_tasks()),
        "rooms": sum(type(thing) is rtc.Room for thing in gc.get_objects()),
        "rpc handlers": sum(len(one._rpc_handlers) for one in locals_),
        "rss": me.memory_info().rss,
    }


async def obey(launcher: Launcher, url: str, reader: asyncio.StreamReader) -> None:
    """Do what stdin says."""
    running: dict[str, SessionHandle] = {}
    while words := (await reader.readline()).decode().split():
        if words[0] == "start":
            _, room, token, avatar = words
            request = SessionRequest(avatar=avatar, transport={"url": url, "token": token})
            running[room] = await launcher.start(request)
        elif words[0] == "stop":
            handle = running.pop(words[1])
            await handle.close("asked")
            await handle.wait()
            del handle
            say("stopped", room=words[1])
        elif words[0] == "count":
            await asyncio.sleep(0.3)  # what ends with the session has its time to
            say("counted", number=words[1], **counted())


async def main() -> None:
    """Make the launcher and obey."""
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    config = Path(asked["avatars"]).parent / "soak.yaml"
    config.write_text(CONFIG.format(avatars=asked["avatars"]))
    deployment = load_deployment(config, Registry.discover())
    async with LocalLauncher(deployment) as launcher:
        say("ready")
        await obey(launcher, asked["url"], reader)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
