"""Python modules as processes that take JSON on stdin and say events as lines of JSON on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

from visavis.session import single

Event = Mapping[str, Any]


S = TypeVar("S", bound="Spawned")


class SpawnedError(RuntimeError):
    """A process failed, or what was waited for did not come."""


class Spawned:
    """The handle of such a process. Made by ``spawned``."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self._change = anyio.Event()
        self.over = False
        self.events: list[Event] = []
        """All events so far."""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def until(
        self,
        event: str,
        *,
        of: str | None = None,
        after: float | None = None,
        timeout: float = 20.0,
        where: Callable[[Event], bool] | None = None,
    ) -> Event:
        """The first event of that name (of that participant, after that time, for which ``where`` holds).

        It may have come already. Raises SpawnedError after ``timeout`` seconds, or if the process ends.
        """
        seen = 0
        with anyio.move_on_after(timeout):
            while True:
                change = self._change
                for row in self.events[seen:]:
                    fits = row["event"] == event and of in (None, row.get("identity"))
                    if fits and (after is None or row["t"] >= after) and (where is None or where(row)):
                        return row
                seen = len(self.events)
                if self.over:
                    break
                await change.wait()
        what = f"{event} of {of}" if of else event
        tail = [" ".join(str(row[k]) for k in ("event", "identity", "why") if row.get(k)) for row in self.events[-12:]]
        how = "the process ended" if self.over else f"not within {timeout:g} s"
        raise SpawnedError(f"no event {what!r}: {how}; the last events: {', '.join(tail) or 'none'}")

    async def say(self, line: str) -> None:
        """Write a line to its stdin. Raises SpawnedError if it has ended."""
        if self._process.stdin is None or self.over:
            raise SpawnedError("the process has ended")
        await self._process.stdin.send((line + "\n").encode())

    async def ended(self, timeout: float = 20.0) -> int:
        """Wait for its end; returns its exit status. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            return await self._process.wait()

    async def listen(self) -> None:
        """Read its events until it ends."""
        assert self._process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(self._process.stdout, errors="replace"):
            *lines, rest = (rest + text).split("\n")
            self.events += [json.loads(line) for line in lines if line.startswith("{")]
            self._changed()
        self.over = True
        self._changed()

    def _changed(self) -> None:
        change, self._change = self._change, anyio.Event()
        change.set()


@asynccontextmanager
async def spawned(
    handle: type[S], module: str, asked: Mapping[str, Any], *, prefix: Sequence[str] = ()
) -> AsyncIterator[S]:
    """Run ``module`` (or a script's path), hand it ``asked``, wait until it is ``ready``; killed when the block ends.

    ``prefix`` goes before its command line (``taskset``, say).
    """
    command = [*prefix, sys.executable, *([module] if module.endswith(".py") else ["-m", module])]
    async with await anyio.open_process(command, stdin=subprocess.PIPE, stderr=None) as process:
        child = handle(process)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child.listen)
                await child.say(json.dumps(dict(asked)))
                await child.until("ready", timeout=60)
                yield child
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise single(group) from None  # a failed assertion of the block, not a group of one
        finally:
            if process.returncode is None:
                process.kill()
