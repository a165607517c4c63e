"""The two graphs at work, for whichever avatars hold them: batches in, checked results out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visavis.errors import RendererError
from visavis.graphs1.compose import Plane, Region
from visavis.graphs1.executor import GraphExecutor, Tensor, Tensors
from visavis.graphs1.motion import Vector
from visavis.graphs1.painting import Place
from visavis.graphs1.scene import Timer
from visavis.hvia import Face, Motion, Precision


class _Graph:
    """An executor, and what is said when it fails."""

    NAME: str

    def __init__(self, executor: GraphExecutor, precision: Precision, timer: Timer) -> None:
        self.precision: Final = precision
        self._executor = executor
        self._timer = timer

    def _run(self, feeds: Tensors, where: Iterable[str]) -> Tensors:
        try:
            with self._timer(self.NAME):
                return self._executor.run(feeds)
        except RendererError:
            raise
        except Exception as error:  # an engine may raise anything; its words travel with the cause
            said = " ".join(str(error).split())
            raise RendererError(f"{_names(where)}: its {self.NAME} graph failed: {said}") from error

    def close(self) -> None:
        """Let go of the executor."""
        self._executor.close()


class MotionGraph(_Graph):
    """Sound and states to expressions and states. Avatars that hold the same graph share it."""

    NAME = "motion"

    def __init__(self, executor: GraphExecutor, precision: Precision, motion: Motion, timer: Timer) -> None:
        super().__init__(executor, precision, timer)
        self._out: Final = (motion.frames, len(motion.coefficients)), (motion.state,)

    def move(
        self, sounds: Sequence[NDArray[np.float32]], states: Sequence[NDArray[np.float32]], where: Iterable[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``[hop]`` and ``[S]`` each, to ``[B, T, E]`` and ``[B, S]``. ``where`` names the avatars, for errors."""
        out = self._run({"pcm": stacked(sounds), "state": stacked(states)}, where)
        batch = len(sounds)
        expression = checked(out, "expression", np.float32, (batch, *self._out[0]))
        state = checked(out, "state_out", np.float32, (batch, *self._out[1]))
        if not np.isfinite(expression).all():
            raise RendererError(f"{_names(where)}: its motion graph put out what is not a number")
        return expression, state


class FaceGraph(_Graph):
    """The painter of every executor: it brings regions to the processor and lays them there. Avatars that hold the same
    graph share it.
    """

    NAME = "face"

    def __init__(self, executor: GraphExecutor, precision: Precision, face: Face, timer: Timer) -> None:
        super().__init__(executor, precision, timer)
        self._face = face

    def draw(self, expressions: Sequence[Vector], places: Sequence[Place]) -> list[Region]:
        """Regions for a batch of expressions ``[E]``; see :class:`Painter`."""
        face, batch = self._face, len(expressions)
        feeds = face_feeds(expressions, places)
        where = [scene.where for scene, _ in places]
        out = self._run(feeds, where)
        luma, chroma = (batch, 1, face.height, face.width), (batch, 2, face.height // 2, face.width // 2)
        y, uv = checked(out, "y", np.uint8, luma), checked(out, "uv", np.uint8, chroma)
        alpha = checked(out, "alpha", np.uint8, luma) if face.alpha else None
        # Each row is copied out: a session keeps its region, which must not keep the others' or the engine's memory.
        return [
            Region(y[row, 0].copy(), uv[row].copy(), None if alpha is None else alpha[row, 0].copy())
            for row in range(batch)
        ]

    def lay(self, drawn: Sequence[Region], places: Sequence[Place]) -> list[Plane]:
        """Each region over its base frame, by the processor."""
        pictures = []
        for region, (scene, at) in zip(drawn, places, strict=True):
            with self._timer("compose"):
                pictures.append(scene.compositor.lay(scene.frames[at], scene.spots[at], region))
        return pictures


def face_feeds(expressions: Sequence[Vector], places: Sequence[Place]) -> dict[str, Tensor]:
    """The face graph's inputs for expressions ``[E]`` as they look over their base frames."""
    inputs = places[0][0].manifest.face.inputs
    feeds: dict[str, Tensor] = {"expression": stacked(expressions)}
    if "pose" in inputs:
        feeds["pose"] = np.stack([scene.poses[at] for scene, at in places]).astype(np.float32)
    if not {"base_y", "base_uv"}.isdisjoint(inputs):
        lifted = [scene.base(at) for scene, at in places]
        own = {"base_y": np.stack([y[None] for y, _ in lifted]), "base_uv": np.stack([uv for _, uv in lifted])}
        feeds.update({name: own[name] for name in own if name in inputs})
    return feeds


def stacked(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """``[B, n]`` of B rows ``[n]``; a single one is not copied."""
    return rows[0][None] if len(rows) == 1 else np.stack(rows)


def checked(out: Tensors, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Tensor:
    """What came out under ``name``, if it is what the contract says. Raises RendererError."""
    tensor = out.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        found = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise RendererError(f"the engine put out {found} for {name!r}, not {np.dtype(dtype)} {list(shape)}")
    return tensor


def _names(where: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(where))
