"""What all sessions of an avatar share: its two executors, its base clip, and where the face lands on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visavis.errors import MediaError, RendererError
from visavis.graphs1.clips import ClipSource, open_clip
from visavis.graphs1.compose import Compositor, Plane, Region, Spot, spots_of
from visavis.graphs1.executor import GraphExecutor, Tensor, Tensors
from visavis.graphs1.motion import Vector, steps_ahead
from visavis.hvia import Clip, Hvia
from visavis.interfaces.renderer import RenderFormat
from visavis.media import VideoFormat

Timer = Callable[[str], AbstractContextManager[None]]
"""Measures a stage: ``with timer("face"): ...``."""


def format_of(avatar: Hvia) -> RenderFormat:
    """What the avatar draws and hears. Raises AvatarInvalid if a frame has no whole number of samples."""
    video, motion = avatar.manifest.video, avatar.manifest.motion
    if motion.hop % motion.frames:
        raise avatar.fault(f"a hop of {motion.hop} samples is not a whole number of samples for each of its frames")
    return RenderFormat(
        video=VideoFormat(video.width, video.height, Fraction(video.fps)),
        sample_rate=motion.sample_rate,
        hop=motion.hop // motion.frames,
        look_ahead=steps_ahead(motion),
    )


STILL_PIXELS: Final = 0.35
"""A sway by less than this between two pictures is not seen: a third of a pixel, eight pixels a second."""
STILL_LEVELS: Final = 8
"""Nor is a change of the mean of 16x16 pixels' differences by less than this, of 255: what sways so has edges."""


class Weights:
    """What all sessions of an avatar share. Safe to use from several threads."""

    def __init__(
        self, avatar: Hvia, motion: GraphExecutor, face: GraphExecutor, timer: Timer, cache: Path | None
    ) -> None:
        self.manifest = avatar.manifest
        self.digest = avatar.digest
        self.format = format_of(avatar)
        self.where: Final = avatar.path.name
        self.timer = timer
        self._motion, self._face = motion, face
        clip = self.manifest.idle
        placement = avatar.placement(clip.id)
        self.poses: NDArray[np.float64] = placement.pose
        self.spots: list[Spot] = spots_of(placement)
        self.frames: Plane = _clip(avatar, clip, clip.video, "i420", cache)
        self._still: dict[int, bool] = {}
        self.mattes: Plane | None = None
        if clip.matte is not None:
            self.mattes = _clip(avatar, clip, clip.matte, "matte", cache)
        video, face_size = self.manifest.video, self.manifest.face
        self.compositor = Compositor(video.width, video.height, face_size.width, face_size.height)
        self._warm_up()

    @property
    def coefficients(self) -> int:
        """How many coefficients an expression has (E)."""
        return len(self.manifest.motion.coefficients)

    def move(
        self, sounds: Sequence[NDArray[np.float32]], states: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The motion graph for a batch: ``[hop]`` and ``[S]`` each, to ``[B, T, E]`` and ``[B, S]``."""
        motion, batch = self.manifest.motion, len(sounds)
        with self.timer("motion"):
            out = self._run("motion", self._motion, {"pcm": np.stack(sounds), "state": np.stack(states)})
        expression = _checked(out, "expression", np.float32, (batch, motion.frames, self.coefficients))
        state = _checked(out, "state_out", np.float32, (batch, motion.state))
        if not np.isfinite(expression).all():
            raise RendererError(f"{self.where}: its motion graph put out what is not a number")
        return expression, state

    def draw(self, expressions: Sequence[Vector], at: Sequence[int]) -> list[Region]:
        """The face graph for a batch: ``[E]`` each over the base frames ``at``."""
        face, batch = self.manifest.face, len(expressions)
        feeds: dict[str, Tensor] = {"expression": np.stack(expressions)}
        if "pose" in face.inputs:
            feeds["pose"] = self.poses[list(at)].astype(np.float32)
        if "base_y" in face.inputs or "base_uv" in face.inputs:
            lifted = [self.compositor.lift(self.frames[index], self.spots[index]) for index in at]
            own = {"base_y": np.stack([y[None] for y, _ in lifted]), "base_uv": np.stack([uv for _, uv in lifted])}
            feeds.update({name: own[name] for name in own if name in face.inputs})
        with self.timer("face"):
            out = self._run("face", self._face, feeds)
        luma, chroma = (batch, 1, face.height, face.width), (batch, 2, face.height // 2, face.width // 2)
        y, uv = _checked(out, "y", np.uint8, luma), _checked(out, "uv", np.uint8, chroma)
        alpha = _checked(out, "alpha", np.uint8, luma) if face.alpha else None
        # Each row is copied out: a session keeps its region, which must not keep the others' or the engine's memory.
        return [
            Region(y[row, 0].copy(), uv[row].copy(), None if alpha is None else alpha[row, 0].copy())
            for row in range(batch)
        ]

    def still(self, at: int) -> bool:
        """Whether base frame ``at`` can hardly be told from the one before: a face at rest may stand on either."""
        known = self._still.get(at)
        if known is None:
            face = self.manifest.face
            luma = self.frames[:, : self.manifest.video.height]
            known = self._still[at] = hardly_differ(luma, self.spots, at, (face.width, face.height))
        return known

    def close(self) -> None:
        """Let go of both graphs."""
        self._motion.close()
        self._face.close()

    def _run(self, which: str, executor: GraphExecutor, feeds: Tensors) -> Tensors:
        try:
            return executor.run(feeds)
        except RendererError:
            raise
        except Exception as error:  # an engine may raise anything; its words travel with the cause
            raise RendererError(f"{self.where}: its {which} graph failed: {' '.join(str(error).split())}") from error

    def _warm_up(self) -> None:
        """Run both graphs once: engines set up on their first call, and a wrong output shows before a session does."""
        motion = self.manifest.motion
        zeros = np.zeros(motion.hop, np.float32), np.zeros(motion.state, np.float32)
        expression, _ = self.move([zeros[0]], [zeros[1]])
        region = self.draw([expression[0, 0]], [0])[0]
        self.compositor.lay(self.frames[0], self.spots[0], region)


def hardly_differ(luma: Plane, spots: Sequence[Spot], at: int, region: tuple[int, int]) -> bool:
    """Whether face and clip moved by less than STILL_PIXELS and STILL_LEVELS from frame ``at - 1`` to ``at``.

    ``luma`` is ``[frames, height, width]``, ``region`` the face region's width and height.
    """
    corners = np.array([(x, y, 1.0) for x in (0, region[0]) for y in (0, region[1])]).T
    if np.abs((spots[at].affine - spots[at - 1].affine) @ corners).max() > STILL_PIXELS:
        return False
    change = cv2.absdiff(np.asarray(luma[at - 1]), np.asarray(luma[at]))
    size = max(1, change.shape[1] // 16), max(1, change.shape[0] // 16)
    return int(cv2.resize(change, size, interpolation=cv2.INTER_AREA).max()) <= STILL_LEVELS


def _clip(avatar: Hvia, clip: Clip, member: str, kind: Literal["i420", "matte"], cache: Path | None) -> Plane:
    video = avatar.manifest.video
    digest = next(item.sha256 for item in avatar.manifest.members if item.path == member)
    try:
        return open_clip(
            ClipSource(
                data=lambda: avatar.read(member),
                sha256=digest,
                width=video.width,
                height=video.height,
                frames=clip.frames,
                kind=kind,
            ),
            cache,
        )
    except MediaError as error:
        raise avatar.fault(f"{member!r}: {error.message}") from error


def _checked(out: Tensors, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Tensor:
    tensor = out.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        found = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise RendererError(f"the engine put out {found} for {name!r}, not {np.dtype(dtype)} {list(shape)}")
    return tensor
