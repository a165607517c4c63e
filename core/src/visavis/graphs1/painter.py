"""From expressions to pictures: the face graph and the laying of what it draws, as one exchangeable piece.

:class:`ProcessorPainter` brings regions to the processor and lays them there. A renderer whose device can lay them
itself gives a painter of its own (``Graphs1Renderer.make_painter``), and only finished pictures leave the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.errors import RendererError
from visavis.graphs1.compose import Compositor, Plane, Region, Spot
from visavis.graphs1.executor import GraphExecutor, Tensor, Tensors
from visavis.graphs1.motion import Vector
from visavis.hvia import Manifest

Timer = Callable[[str], AbstractContextManager[None]]
"""Measures a stage: ``with timer("face"): ...``."""


@dataclass(frozen=True)
class Scene:
    """What a painter needs of an avatar: its base clip, and where the face lands on each of its frames.

    ``frames`` is uint8 ``[frames, height * 3 / 2, width]``, mapped read-only; ``poses`` ``[frames, 3]`` in degrees;
    ``where`` is the file's name, for messages; ``timer`` measures the stages ``face`` and ``compose``.
    """

    manifest: Manifest
    where: str
    frames: Plane
    spots: Sequence[Spot]
    poses: NDArray[np.float64]
    compositor: Compositor
    timer: Timer

    def feeds(self, expressions: Sequence[Vector], at: Sequence[int]) -> dict[str, Tensor]:
        """The face graph's inputs for a batch of expressions ``[E]`` over the base frames ``at``."""
        face = self.manifest.face
        feeds: dict[str, Tensor] = {"expression": np.stack(expressions)}
        if "pose" in face.inputs:
            feeds["pose"] = self.poses[list(at)].astype(np.float32)
        if "base_y" in face.inputs or "base_uv" in face.inputs:
            lifted = [self.compositor.lift(self.frames[index], self.spots[index]) for index in at]
            own = {"base_y": np.stack([y[None] for y, _ in lifted]), "base_uv": np.stack([uv for _, uv in lifted])}
            feeds.update({name: own[name] for name in own if name in face.inputs})
        return feeds


class Painter(Protocol):
    """Draws faces and lays them over base frames. Called from several threads.

    What ``draw`` gives for a row is the painter's own: a session keeps it for as long as its face does not move, and
    hands it back to ``lay``, maybe several times.
    """

    def draw(self, expressions: Sequence[Vector], at: Sequence[int]) -> list[Any]:
        """A face for each expression ``[E]``, as it looks over the base frame of the same place in ``at``."""

    def lay(self, drawn: Sequence[Any], at: Sequence[int]) -> list[Plane]:
        """A new picture ``[height * 3 / 2, width]`` for each row: the drawn face over its base frame."""

    def close(self) -> None:
        """Let go of the weights. May be called twice."""


class ProcessorPainter:
    """Runs the face graph on any executor, and lays what it drew on the processor."""

    def __init__(self, scene: Scene, face: GraphExecutor) -> None:
        self._scene: Final = scene
        self._face: Final = face

    def draw(self, expressions: Sequence[Vector], at: Sequence[int]) -> list[Region]:
        """Regions. Raises RendererError for what the contract does not allow."""
        face, batch = self._scene.manifest.face, len(expressions)
        feeds = self._scene.feeds(expressions, at)
        with self._scene.timer("face"):
            out = executed(self._face, feeds, "face", self._scene.where)
        luma, chroma = (batch, 1, face.height, face.width), (batch, 2, face.height // 2, face.width // 2)
        y, uv = checked(out, "y", np.uint8, luma), checked(out, "uv", np.uint8, chroma)
        alpha = checked(out, "alpha", np.uint8, luma) if face.alpha else None
        # Each row is copied out: a session keeps its region, which must not keep the others' or the engine's memory.
        return [
            Region(y[row, 0].copy(), uv[row].copy(), None if alpha is None else alpha[row, 0].copy())
            for row in range(batch)
        ]

    def lay(self, drawn: Sequence[Region], at: Sequence[int]) -> list[Plane]:
        """Each region over its base frame."""
        scene, pictures = self._scene, []
        for region, index in zip(drawn, at, strict=True):
            with scene.timer("compose"):
                pictures.append(scene.compositor.lay(scene.frames[index], scene.spots[index], region))
        return pictures

    def close(self) -> None:
        """Let go of the face graph."""
        self._face.close()


def executed(executor: GraphExecutor, feeds: Tensors, which: str, where: str) -> Tensors:
    """Run a graph. Whatever its engine raises becomes a RendererError that names graph and avatar."""
    try:
        return executor.run(feeds)
    except RendererError:
        raise
    except Exception as error:  # an engine may raise anything; its words travel with the cause
        raise RendererError(f"{where}: its {which} graph failed: {' '.join(str(error).split())}") from error


def checked(out: Tensors, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Tensor:
    """The output of that name. Raises RendererError if it is not of that type and shape."""
    tensor = out.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        found = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise RendererError(f"the engine put out {found} for {name!r}, not {np.dtype(dtype)} {list(shape)}")
    return tensor
