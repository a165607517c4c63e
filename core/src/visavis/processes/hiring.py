"""Worker processes as such: started, weighed, ended. They are new processes of this interpreter, never forks."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.abc
import psutil

from visavis.errors import PluginError, SessionError
from visavis.remote.wire import StreamWire, Wire

log = logging.getLogger("visavis.launcher")

LEAVING_SECONDS: Final = 5.0
"""How long a worker that has said its last word may take to be gone."""


@dataclass(frozen=True, slots=True)
class Hired:
    """A worker process: the wire to it, how to end it at once, and how much memory it has for itself, in bytes."""

    wire: Wire
    pid: int
    kill: Callable[[], None]
    weigh: Callable[[], int]


Hire = Callable[[Mapping[str, Any], Mapping[str, str]], AbstractAsyncContextManager[Hired]]
"""Starts a worker with its orders and its additional environment."""


@asynccontextmanager
async def hired(orders: Mapping[str, Any], environment: Mapping[str, str]) -> AsyncIterator[Hired]:
    """A worker process for the time of the block; it is gone afterwards, by force if need be.

    Raises PluginError where processes cannot be given a socket (Windows), SessionError if it cannot be started.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise PluginError("the launcher process needs Unix sockets", hint="use launcher: {use: local} on this system")
    ours, theirs = socket.socketpair()
    try:
        process = await _opened(theirs, environment)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    wire = StreamWire(await anyio.abc.UNIXSocketStream.from_socket(ours))
    try:
        await wire.send({"orders": dict(orders)})
        yield Hired(wire, process.pid, lambda: _kill(process), lambda: _weight(process.pid))
    finally:
        with anyio.CancelScope(shield=True):
            await wire.aclose()
            with anyio.move_on_after(LEAVING_SECONDS) as waiting:
                await process.wait()
            if waiting.cancelled_caught:
                log.warning("the worker process %d had to be killed", process.pid)
                _kill(process)
            await process.aclose()


async def _opened(theirs: socket.socket, environment: Mapping[str, str]) -> anyio.abc.Process:
    command = [sys.executable, "-P", "-m", "visavis.processes", str(theirs.fileno())]
    try:
        return await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what engines print is no word of ours: it goes where errors go
            stderr=None,
            env={**os.environ, **environment},
            pass_fds=[theirs.fileno()],
        )
    except OSError as error:
        raise SessionError(f"no worker process could be started: {error.strerror}") from error


def _kill(process: anyio.abc.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def _weight(pid: int) -> int:
    """Bytes of memory that no other process shares (as far as the system tells): clips are mapped by all workers."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss) - int(getattr(memory, "shared", 0))
