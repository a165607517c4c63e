"""Running async work under a command, so that Ctrl-C ends it tidily."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


Stop = Callable[[], Awaitable[bool]]
"""Ends the work in its own way at the first signal; False if it has none, and is cancelled then."""


def run_async(work: Callable[[], Awaitable[T]], *, stop: Stop | None = None) -> T:
    """Run to the end on asyncio and return the result.

    SIGINT and SIGTERM cancel the work, which then tidies up (a partial file is removed); KeyboardInterrupt is raised
    afterwards. Work that can ``stop`` is asked to at the first signal and cancelled at the second one, and what it
    returns is returned. Any further signal ends the process at once.
    """
    return anyio.run(_guarded, work, stop)


async def _guarded(work: Callable[[], Awaitable[T]], stop: Stop | None) -> T:
    results: list[T] = []
    interrupted = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal interrupted
        asked = False
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    if not asked and stop is not None and await stop():
                        asked = True
                        continue
                    interrupted = True
                    break
        except NotImplementedError:
            # No signal handlers in this event loop (Windows): KeyboardInterrupt cancels the work from outside.
            await anyio.sleep_forever()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        results.append(await work())
        tasks.cancel_scope.cancel()
    if interrupted and not results:
        raise KeyboardInterrupt
    return results[0]
