"""Entering a room anew with the same ``rtc.Room``, after the SDK has given up reconnecting.

Sources hold that object: their stream handlers and event listeners hang on it and survive. What does not is done here:
RPC methods belong to the participant, which is a new one; the SDK's list of the others is of the old connection; and of
a connection that the other side ended, it keeps the queue of events, which then grows for as long as the process lives.
The SDK has no public name for these, so each is looked up with a fallback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.rtc._ffi_client import FfiClient

LISTENING_SECONDS: Final = 1.0
"""How long the SDK may take to hear the last event of a connection that is over."""


async def stop_listening(room: rtc.Room) -> None:
    """End what the SDK still does for a connection that is over: the next one's events must not reach it."""
    listening, queue = getattr(room, "_task", None), getattr(room, "_ffi_queue", None)
    if isinstance(listening, asyncio.Task) and not listening.done():
        await asyncio.wait([listening], timeout=LISTENING_SECONDS)
        listening.cancel()
        await asyncio.wait([listening])
    if queue is not None:
        FfiClient.instance.queue.unsubscribe(queue)


def newest_token(room: rtc.Room, given: str) -> str:
    """The token that the server last refreshed; the given one if it never did."""
    return getattr(room, "_token", None) or given


def rpc_methods(room: rtc.Room) -> dict[str, Callable[..., Any]]:
    """The RPC methods that sources have registered."""
    if not known(room):
        return {}
    return dict(getattr(room.local_participant, "_rpc_handlers", {}))


def forget_others(room: rtc.Room) -> None:
    """Let the next connection begin with an empty list; otherwise it refuses who was there before."""
    others = getattr(room, "_remote_participants", None)
    if isinstance(others, dict):
        others.clear()


def restore(room: rtc.Room, methods: dict[str, Callable[..., Any]]) -> None:
    """Register RPC methods with the new participant."""
    for name, method in methods.items():
        room.local_participant.register_rpc_method(name, method)


def known(room: rtc.Room) -> bool:
    """Whether it has ever been connected."""
    return getattr(room, "_local_participant", None) is not None
