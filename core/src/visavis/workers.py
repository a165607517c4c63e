"""Blocking work off the event loop, without a bare thread.

Under a virtual clock (tests) threads would let time run away, so :func:`inline` makes :func:`run` call
directly.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar, TypeVarTuple

import anyio.to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURN: Final = 0.0005
"""Seconds after which a thread gives the interpreter up to one that waits for it; Python's own are ten times as many.

The event loop lets go of the interpreter in every native call (half a dozen a frame) and has to ask for it again. While
the renderer draws ahead, each of these could cost the whole 5 ms, and a picture was 30 ms late.
"""

_inline: ContextVar[bool] = ContextVar("visavis_workers_inline", default=False)


async def run(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call a blocking function in anyio's worker threads and return its result.

    The call is not abandoned on cancellation: it ends first (a renderer's state must not be torn).
    """
    if _inline.get():
        return function(*args)
    return await anyio.to_thread.run_sync(function, *args)


def take_short_turns() -> None:
    """Let no thread of this process keep the event loop waiting for long. For programs: it holds for all threads."""
    sys.setswitchinterval(TURN)


def settle() -> None:
    """All that this process needs is loaded: no search for garbage goes through it any more. For programs.

    A full collection of a server's hundred and sixty thousand objects stops all threads for 80 to 150 ms, longer than
    the sound that any buffer here holds. Frozen, they are left out; what sessions leave is found in a moment.
    """
    gc.collect()
    gc.freeze()


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
