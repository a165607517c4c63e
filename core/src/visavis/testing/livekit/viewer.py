"""A viewer in a process of its own that records what a subscriber gets.

    async with watching(server, room) as viewer:          # joined when the block begins
        await viewer.until("picture", of="avatar")        # the first picture of that participant
        viewer.mark("said")
        ...
        seen = await viewer.stop()                        # or viewer.so_far(), and go on watching
    take = seen.of("avatar")                              # take.pictures, take.sound: see ``recording``

Events, as they come (``viewer.events``, ``until``): ``participant``, ``left``, ``attributes`` (``changed``),
``published`` and ``unpublished`` (``kind``), ``picture`` (the first one, and the first of another size), ``sound`` and
``silence`` (a quarter of a second after the last loud sample), ``transcription`` (``text``), ``reconnecting``,
``reconnected``, ``disconnected``. Each has ``t``, its time by ``time.monotonic``, and ``identity`` and ``room`` where
it has them.

What is read off a recording (offsets, gaps, durations, tones, colours) is in ``visavis.testing.livekit.reading``.
One viewer may watch several rooms: processes that decode cost more than what they watch. As a program:
``python -m visavis.testing.livekit.viewer``; ``watching`` says what it reads on stdin.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc

from visavis.testing.livekit.recording import Recording
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.spawning import Spawned, SpawnedError, spawned

ViewerError = SpawnedError


class Viewer(Spawned):
    """The handle of a viewer's process. Made by ``watching``."""

    def __init__(self, process: anyio.abc.Process) -> None:
        super().__init__(process)
        self.folder: Path
        """Where recordings pass through."""
        self._saves = 0
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> float:
        """Note this moment under a name; the recording holds it too. Returns it."""
        self.marks[name] = time.monotonic()
        return self.marks[name]

    async def so_far(self) -> Recording:
        """What has been recorded until now."""
        self._saves += 1
        path = self.folder / f"{self._saves}.npz"
        await self.say(f"save {path}")
        await self.until("saved", timeout=60, where=lambda row: row["path"] == str(path))
        recording = await anyio.to_thread.run_sync(Recording.load, path, dict(self.marks))
        path.unlink()
        return recording

    async def stop(self) -> Recording:
        """All that was recorded; the viewer leaves."""
        recording = await self.so_far()
        await self.say("stop")
        await self.ended()
        return recording


@asynccontextmanager
async def watching(
    server: LiveKitServer, *rooms: str, identity: str = "viewer", decode: bool = True, prefix: Sequence[str] = ()
) -> AsyncIterator[Viewer]:
    """A viewer that has joined these rooms. Without ``decode`` it listens only, which is cheap.

    ``prefix`` goes before its command line (``taskset``, say). Raises ViewerError if it cannot join.
    """
    watch = [{"name": room, "token": server.token(identity, room)} for room in rooms]
    asked = {"url": server.url, "watch": watch, "decode": decode}
    with tempfile.TemporaryDirectory() as folder:
        async with spawned(Viewer, "visavis.testing.livekit.viewer", asked, prefix=prefix) as viewer:
            viewer.folder = Path(folder)
            yield viewer


if __name__ == "__main__":
    from visavis.testing.livekit.watching import main

    main()
