"""Loaded avatars of engine ``graphs/1``: weights that are in memory once, whoever uses them."""

from __future__ import annotations

from collections.abc import Hashable

from visavis.errors import RendererError
from visavis.graphs1.session import Graphs1Session
from visavis.graphs1.sharing import Share
from visavis.graphs1.weights import Weights
from visavis.interfaces.renderer import LoadedAvatar, RenderFormat


class Graphs1Avatar(LoadedAvatar):
    """One loading of an avatar. All loadings of one file share its weights."""

    def __init__(self, share: Share[Weights]) -> None:
        self._share = share
        self.weights = share.thing

    @property
    def format(self) -> RenderFormat:
        """What it draws and hears."""
        return self.weights.format

    @property
    def batch_key(self) -> Hashable:
        """Sessions of avatars with one motion graph may share a step, whatever faces they have."""
        return self.weights.batch_key

    def open(self, *, seed: int = 0) -> Graphs1Session:
        """A new session at the start of the idle clip."""
        if self._share.closed:
            raise RendererError(f"the avatar {self.weights.where} was closed")
        return Graphs1Session(self.weights, seed, self._share.again().close)

    def close(self) -> None:
        """Let go; the weights go with the last session. May be called twice."""
        self._share.close()
