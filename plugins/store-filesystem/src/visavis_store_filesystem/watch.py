"""Telling when the folder changes: by the system's notices where there are some, else by looking."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import anyio
from visavis import workers
from visavis.interfaces.avatar import StoreChange

from visavis_store_filesystem.folder import Snapshot

log = logging.getLogger("visavis.store.filesystem")

SETTLE_S: Final = 0.2
"""A file that is the same after so long is no longer being written."""
_MOST_LOOKS: Final = 300
"""Then it is taken as it is: somebody writes for ever."""


def differences(before: Snapshot, after: Snapshot) -> Iterator[StoreChange]:
    """What happened between two looks, by id."""
    for avatar_id in sorted(before.keys() | after.keys()):
        old, new = before.get(avatar_id), after.get(avatar_id)
        if old is None:
            yield StoreChange("added", avatar_id)
        elif new is None:
            yield StoreChange("removed", avatar_id)
        elif (old.path, old.stamp) != (new.path, new.stamp):
            yield StoreChange("replaced", avatar_id)


async def snapshots(
    look: Callable[[], Snapshot], root: Path | None, poll_s: float, closed: anyio.Event
) -> AsyncGenerator[Snapshot, None]:
    """A first look at once, then one whenever something may have changed, until ``closed``."""
    yield await workers.run(look)
    async with aclosing(_wakes(root, poll_s, closed)) as wakes:
        async for _ in wakes:
            yield await _settled(look)


async def _settled(look: Callable[[], Snapshot]) -> Snapshot:
    """The folder once nobody writes to it."""
    seen = await workers.run(look)
    for _ in range(_MOST_LOOKS):
        await anyio.sleep(SETTLE_S)
        again = await workers.run(look)
        if again == seen:
            break
        seen = again
    return seen


async def _wakes(root: Path | None, poll_s: float, closed: anyio.Event) -> AsyncGenerator[None, None]:
    """Wakes up when it may be worth a look."""
    if root is None:
        # The sample avatars do not change while we run.
        await closed.wait()
        return
    if not workers.is_inline():
        async with aclosing(_notices(root, poll_s, closed)) as notices:
            async for _ in notices:
                yield
    while not closed.is_set():
        with anyio.move_on_after(poll_s):
            await closed.wait()
            return
        yield


async def _notices(root: Path, poll_s: float, closed: anyio.Event) -> AsyncGenerator[None, None]:
    """The system's notices, and a look every ``poll_s`` besides: not every mount sends notices.

    Ends where there can be none, the folder gone, say.
    """
    try:
        from watchfiles import awatch
    except ImportError as error:
        log.info("changes are found by looking every %g s: %s", poll_s, error)
        return
    try:
        async for _ in awatch(
            root,
            recursive=False,
            debounce=200,
            rust_timeout=round(poll_s * 1000),
            yield_on_timeout=True,
            stop_event=closed,
            watch_filter=None,
        ):
            yield
    except OSError as error:
        log.info("changes are found by looking every %g s: %s", poll_s, error)
