"""What all sessions of an avatar share: its motion graph, its painter, its base clip, where the face lands on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visavis.errors import MediaError, RendererError
from visavis.graphs1.clips import ClipSource, open_clip
from visavis.graphs1.compose import Compositor, Plane, Spot, spots_of
from visavis.graphs1.executor import GraphExecutor
from visavis.graphs1.motion import Vector, steps_ahead
from visavis.graphs1.painter import Painter, Scene, Timer, checked, executed
from visavis.hvia import Clip, Hvia
from visavis.interfaces.renderer import RenderFormat
from visavis.media import VideoFormat


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
        self,
        avatar: Hvia,
        motion: GraphExecutor,
        make_painter: Callable[[Scene], Painter],
        timer: Timer,
        cache: Path | None,
    ) -> None:
        self.manifest = avatar.manifest
        self.digest = avatar.digest
        self.format = format_of(avatar)
        self.where: Final = avatar.path.name
        self.timer = timer
        self._motion = motion
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
        self._painter = make_painter(
            Scene(self.manifest, self.where, self.frames, self.spots, self.poses, self.compositor, timer)
        )
        try:
            self._warm_up()
        except BaseException:
            self._painter.close()
            raise

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
            out = executed(self._motion, {"pcm": np.stack(sounds), "state": np.stack(states)}, "motion", self.where)
        expression = checked(out, "expression", np.float32, (batch, motion.frames, self.coefficients))
        state = checked(out, "state_out", np.float32, (batch, motion.state))
        if not np.isfinite(expression).all():
            raise RendererError(f"{self.where}: its motion graph put out what is not a number")
        return expression, state

    def draw(self, expressions: Sequence[Vector], at: Sequence[int]) -> list[Any]:
        """Faces for a batch: ``[E]`` each over the base frames ``at``; see :class:`Painter`."""
        return self._painter.draw(expressions, at)

    def lay(self, drawn: Sequence[Any], at: Sequence[int]) -> list[Plane]:
        """Pictures of what was drawn over the base frames ``at``."""
        return self._painter.lay(drawn, at)

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
        self._painter.close()

    def _warm_up(self) -> None:
        """Run both graphs once: engines set up on their first call, and a wrong output shows before a session does."""
        motion = self.manifest.motion
        zeros = np.zeros(motion.hop, np.float32), np.zeros(motion.state, np.float32)
        expression, _ = self.move([zeros[0]], [zeros[1]])
        self.lay(self.draw([expression[0, 0]], [0]), [0])


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
