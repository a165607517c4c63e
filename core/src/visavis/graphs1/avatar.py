"""Loaded avatars of engine ``graphs/1``: weights that are in memory once, with a count of who uses them."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from visavis.errors import RendererError
from visavis.graphs1.session import Graphs1Session
from visavis.graphs1.weights import Weights
from visavis.interfaces.renderer import LoadedAvatar, RenderFormat


class Shared:
    """The weights of one avatar and how many avatars and sessions use them.

    ``lock`` is the renderer's: it guards the count and the renderer's ``table`` of digests alike. ``loading`` is held
    by whoever loads, and never taken while ``lock`` is held.
    """

    def __init__(self, table: dict[str, Shared], digest: str, lock: threading.Lock) -> None:
        self._table = table
        self._digest = digest
        self._lock = lock
        self.loading = threading.Lock()
        self.weights: Weights | None = None
        self.users = 0

    def enter(self) -> None:
        """One more user."""
        with self._lock:
            self.users += 1

    def leave(self) -> None:
        """One user less; the last one closes the weights."""
        with self._lock:
            self.users -= 1
            if self.users:
                return
            del self._table[self._digest]
        if self.weights is not None:
            self.weights.close()


class Graphs1Avatar(LoadedAvatar):
    """One loading of an avatar. All loadings of one file share its weights."""

    def __init__(self, shared: Shared, weights: Weights) -> None:
        self._shared = shared
        self.weights = weights
        self._closed = False

    @property
    def format(self) -> RenderFormat:
        """What it draws and hears."""
        return self.weights.format

    @property
    def batch_key(self) -> Hashable:
        """Sessions of one file may share a step, whoever loaded it."""
        return self.weights.digest

    def open(self, *, seed: int = 0) -> Graphs1Session:
        """A new session at the start of the idle clip."""
        if self._closed:
            raise RendererError(f"the avatar {self.weights.where} was closed")
        self._shared.enter()
        return Graphs1Session(self.weights, seed, self._shared.leave)

    def close(self) -> None:
        """Let go; the weights go with the last session. May be called twice."""
        if not self._closed:
            self._closed = True
            self._shared.leave()
