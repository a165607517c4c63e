"""Blocking work off the event loop, without a bare thread.

Under a virtual clock (tests) threads would let time run away, so :func:`inline` makes :func:`run` call
directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple

import anyio.to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_inline: ContextVar[bool] = ContextVar("visavis_workers_inline", default=False)


async def run(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call a blocking function in anyio's worker threads and return its result.

    The call is not abandoned on cancellation: it ends first (a renderer's state must not be torn).
    """
    if _inline.get():
        return function(*args)
    return await anyio.to_thread.run_sync(function, *args)


def is_inline() -> bool:
    """Whether :func:`run` calls directly here, because threads would disturb a virtual clock."""
    return _inline.get()


@contextmanager
def inline() -> Iterator[None]:
    """Within this context :func:`run` calls directly, in the event loop's own thread."""
    token = _inline.set(True)
    try:
        yield
    finally:
        _inline.reset(token)
