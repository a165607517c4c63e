"""Running async work under a command, so that Ctrl-C ends it tidily."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run to the end on asyncio and return the result.

    SIGINT and SIGTERM cancel the work, which then tidies up (a partial file is removed); KeyboardInterrupt is raised
    afterwards. A second signal ends the process at once.
    """
    return anyio.run(_guarded, work)


async def _guarded(work: Callable[[], Awaitable[T]]) -> T:
    results: list[T] = []
    interrupted = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal interrupted
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
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
