"""The stage of an avatar: its base clip, and where the face lands on each of its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visavis.errors import MediaError
from visavis.graphs1.clips import ClipSource, open_clip
from visavis.graphs1.compose import Compositor, Plane, Spot, spots_of
from visavis.graphs1.motion import steps_ahead
from visavis.hvia import Clip, Hvia
from visavis.interfaces.renderer import RenderFormat
from visavis.media import VideoFormat

Timer = Callable[[str], AbstractContextManager[None]]
"""Measures a stage: ``with timer("face"): ...``."""

_NOTHING: Final[Plane] = np.empty((0, 0), np.uint8)
STILL_PIXELS: Final = 0.35
"""A sway by less than this between two pictures is not seen: a third of a pixel, eight pixels a second."""
STILL_LEVELS: Final = 8
"""Nor is a change of the mean of 16x16 pixels' differences by less than this, of 255: what sways so has edges."""


class Scene:
    """What a painter needs of an avatar. Safe to use from several threads.

    ``frames`` is uint8 ``[frames, height * 3 / 2, width]``, mapped read-only, ``mattes`` their alpha ``[frames, height,
    width]`` where there is one; ``poses`` are in degrees, ``[frames, 3]``. ``where`` is the file's name, for messages.
    """

    def __init__(self, avatar: Hvia, timer: Timer, cache: Path | None) -> None:
        self.manifest = avatar.manifest
        self.digest = avatar.digest
        self.format = format_of(avatar)
        self.where: Final = avatar.path.name
        self.timer = timer
        clip = self.manifest.idle
        placement = avatar.placement(clip.id)
        self.poses: NDArray[np.float64] = placement.pose
        self.spots: list[Spot] = spots_of(placement)
        self.frames: Plane = _clip(avatar, clip, clip.video, "i420", cache)
        self._sees_base = not {"base_y", "base_uv"}.isdisjoint(self.manifest.face.inputs)
        self._still: dict[int, bool] = {}
        self.mattes: Plane | None = None
        if clip.matte is not None:
            self.mattes = _clip(avatar, clip, clip.matte, "matte", cache)
        video, face_size = self.manifest.video, self.manifest.face
        self.compositor = Compositor(video.width, video.height, face_size.width, face_size.height)

    def base(self, at: int) -> tuple[Plane, Plane]:
        """What base frame ``at`` shows in the region's place, if the face graph wants to see it."""
        if not self._sees_base:
            return _NOTHING, _NOTHING
        return self.compositor.lift(self.frames[at], self.spots[at])

    def still(self, at: int) -> bool:
        """Whether base frame ``at`` can hardly be told from the one before: a face at rest may stand on either."""
        known = self._still.get(at)
        if known is None:
            face = self.manifest.face
            luma = self.frames[:, : self.manifest.video.height]
            known = self._still[at] = hardly_differ(luma, self.spots, at, (face.width, face.height))
        return known


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
