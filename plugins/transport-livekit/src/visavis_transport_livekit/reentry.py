"""Entering a room anew with the same ``rtc.Room``, after the SDK has given up reconnecting.

Sources hold that object: their stream handlers and event listeners hang on it and survive. What does not is done here:
RPC methods belong to the participant, which is a new one; the SDK's list of the others is of the old connection.
The SDK has no public name for these three, so each is looked up with a fallback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livekit import rtc


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
