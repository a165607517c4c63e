"""The contract of what paints: from expressions to finished pictures, as one exchangeable piece.

:class:`visavis.graphs1.graphs.FaceGraph` brings drawn regions to the processor and lays them there. A renderer whose
device can lay them itself gives a painter of its own (``Graphs1Renderer.make_painter``), and only finished pictures
leave the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from visavis.graphs1.compose import Plane
from visavis.graphs1.motion import Vector
from visavis.graphs1.scene import Scene
from visavis.hvia import Precision

Place = tuple[Scene, int]
"""An avatar's scene, and the base frame in it."""


class Painter(Protocol):
    """Draws faces and lays them over base frames. Called from several threads.

    What ``draw`` gives for a row is the painter's own: a session keeps it for as long as its face does not move, and
    hands it back to ``lay``, maybe several times and on other base frames.
    """

    @property
    def precision(self) -> Precision:
        """In which precision the face graph is executed."""

    def draw(self, expressions: Sequence[Vector], places: Sequence[Place]) -> list[Any]:
        """A face for each expression ``[E]``, as it looks over the base frame of the same row."""

    def lay(self, drawn: Sequence[Any], places: Sequence[Place]) -> list[Plane]:
        """A new picture ``[height * 3 / 2, width]`` for each row: the drawn face over its base frame."""

    def close(self) -> None:
        """Let go of the weights. May be called twice."""
