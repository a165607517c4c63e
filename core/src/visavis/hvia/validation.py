"""Everything that can be told of an avatar file without executing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.errors import AvatarError, AvatarInvalid
from visavis.hvia.graphs import WHICH, graph_sources, load_graph
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import Clip, source_field
from visavis.hvia.mp4 import check_video
from visavis.hvia.placement import Placement
from visavis.hvia.reader import Hvia, open_hvia

_Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. An ``error`` makes the avatar unusable; a ``warning`` is worth a maker's look.

    ``where`` is a member or a field of the manifest, empty for the file as a whole.
    """

    level: Literal["error", "warning"]
    where: str
    message: str


def validate_hvia(
    path: str | os.PathLike[str], *, packs: Sequence[Path] = (), limits: Limits = LIMITS
) -> list[Finding]:
    """All that is wrong with an avatar file; empty if nothing is. ``packs`` are folders of installed model packs.

    Raises AvatarNotFound if there is no such file. Nothing of the file is executed.
    """
    try:
        avatar = open_hvia(path, limits=limits)
    except AvatarInvalid as error:
        return [Finding("error", "", str(error).removeprefix(f"{error.where}: "))]
    with avatar:
        return [*_errors(avatar, packs), *_warnings(avatar)]


def check_hvia(avatar: Hvia, *, packs: Sequence[Path] = ()) -> None:
    """Check an open avatar file to the last member. Raises AvatarError for the first thing that makes it unusable."""
    for check in _checks(avatar, packs):
        check[1]()


def _checks(avatar: Hvia, packs: Sequence[Path]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each check with the place it looks at."""
    for clip in avatar.manifest.clips:
        yield clip.placement, partial(_check_placement, avatar, clip)
        for video in filter(None, (clip.video, clip.matte)):
            yield video, partial(_check_clip, avatar, clip, video)
    for which in WHICH:
        for precision in graph_sources(avatar.manifest, which):
            yield source_field(which, precision), partial(load_graph, avatar, which, precision, packs=packs)


def _errors(avatar: Hvia, packs: Sequence[Path]) -> Iterator[Finding]:
    for where, check in _checks(avatar, packs):
        try:
            check()
        except AvatarInvalid as error:
            yield Finding("error", where, error.reason)
        except AvatarError as error:
            yield Finding("error", where, str(error))


def _check_clip(avatar: Hvia, clip: Clip, member: str) -> None:
    video = avatar.manifest.video
    try:
        check_video(avatar.read(member), video.width, video.height, video.fps, clip.frames)
    except ValueError as error:
        raise avatar.fault(f"{member!r}: {error}") from error


def _check_placement(avatar: Hvia, clip: Clip) -> None:
    """The face has to land, at least in part, inside the rectangle that bounds it."""
    face, placement = avatar.manifest.face, avatar.placement(clip.id)
    low, high = _landing(placement, face.width, face.height)
    corner = placement.rect[:, :2]
    apart = (high < corner) | (low > corner + placement.rect[:, 2:] - 1)
    if apart.any():
        frame = int(np.argmax(apart.any(axis=1)))
        raise avatar.fault(f"{clip.placement!r}: the face of frame {frame} lands outside its rect")


def _landing(placement: Placement, width: int, height: int) -> tuple[_Points, _Points]:
    """The least and the greatest corner of the landed region for every frame, each ``[frames, 2]`` (x, y)."""
    corners = np.array([[x, y, 1.0] for x in (0, width - 1) for y in (0, height - 1)])
    landed = np.einsum("fij,cj->fci", placement.affine, corners)
    return landed.min(axis=1), landed.max(axis=1)


def _warnings(avatar: Hvia) -> Iterator[Finding]:
    manifest = avatar.manifest
    if manifest.preview is None:
        yield Finding("warning", "preview", "there is none: lists show no picture of the avatar")
    elif not avatar.read(manifest.preview).startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        yield Finding("warning", manifest.preview, "it is neither a JPEG nor a PNG picture")
    if manifest.motion.look_ahead > manifest.motion.sample_rate // 5:
        ahead = 1000 * manifest.motion.look_ahead / manifest.motion.sample_rate
        yield Finding("warning", "motion.look_ahead", f"{ahead:.0f} ms: the face answers that much later")
    if manifest.motion.profile is None:
        yield Finding("warning", "motion.profile", "there is none: blinks and gaze cannot be added to the face")
    for clip in manifest.clips:
        if _cut_off(avatar, clip):
            yield Finding("warning", clip.placement, "the rect of some frames cuts off a part of the face")


def _cut_off(avatar: Hvia, clip: Clip) -> bool:
    """Whether some rectangle leaves out a part of the landed region that lies in the frame."""
    try:
        placement = avatar.placement(clip.id)
    except AvatarInvalid:
        return False
    video, face = avatar.manifest.video, avatar.manifest.face
    low, high = _landing(placement, face.width, face.height)
    low = np.maximum(low, 0)
    high = np.minimum(high, [video.width - 1, video.height - 1])
    corner, far = placement.rect[:, :2], placement.rect[:, :2] + placement.rect[:, 2:] - 1
    return bool(((low < corner - 1) | (high > far + 1)).any())
