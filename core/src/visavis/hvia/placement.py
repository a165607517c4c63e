"""Where the face region lands on every frame of a base clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.strict_json import parse_json

_LARGEST_SHIFT: Final = 65_536.0
_LARGEST_SCALE: Final = 64.0
_SMALLEST_AREA: Final = 1e-3
_KEYS: Final = {"affine": 6, "rect": 4, "pose": 3}


@dataclass(frozen=True, slots=True)
class Placement:
    """One row a frame of a clip.

    ``affine``: float64 ``[frames, 2, 3]``; ``x_frame = a*x + b*y + tx``, ``y_frame = c*x + d*y + ty`` take the centre
    of a region pixel to the frame, in pixels. ``rect``: int64 ``[frames, 4]``, x, y, width and height in pixels, all
    even, inside the frame: nothing outside is touched. ``pose``: float64 ``[frames, 3]``, yaw, pitch, roll in degrees.
    """

    affine: NDArray[np.float64]
    rect: NDArray[np.int64]
    pose: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.rect.shape[0])


def parse_placement(data: bytes, frames: int, width: int, height: int, *, limits: Limits = LIMITS) -> Placement:
    """Read a clip's placement for a video of ``frames`` pictures of ``width`` x ``height`` pixels.

    Raises ValueError with a reason.
    """
    said = parse_json(data, max_bytes=limits.placement, max_depth=limits.json_depth)
    if not isinstance(said, dict) or set(said) != set(_KEYS):
        raise ValueError(f"it must be an object with the keys {', '.join(_KEYS)} and no others")
    rows = {key: _rows(said[key], key, frames, columns) for key, columns in _KEYS.items()}
    rect = _rectangles(rows["rect"], width, height)
    pose = rows["pose"]
    if np.abs(pose).max() > 180:
        raise ValueError(f"pose of frame {_first(np.abs(pose).max(axis=1) > 180)} is beyond 180 degrees")
    return Placement(affine=_affines(rows["affine"]), rect=rect, pose=pose)


def _rows(said: Any, key: str, frames: int, columns: int) -> NDArray[np.float64]:
    if not isinstance(said, list) or len(said) != frames:
        raise ValueError(f"{key} must be a list with one row for each of the {frames} frames")
    for index, row in enumerate(said):
        if not isinstance(row, list) or len(row) != columns or not all(type(n) in (int, float) for n in row):
            raise ValueError(f"{key} of frame {index} must be {columns} numbers")
    return np.array(said, dtype=np.float64)


def _rectangles(rows: NDArray[np.float64], width: int, height: int) -> NDArray[np.int64]:
    bound = np.abs(rows).max(axis=1) <= _LARGEST_SHIFT
    if not bound.all():
        raise ValueError(f"rect of frame {_first(~bound)} does not lie inside the frame")
    rect = rows.astype(np.int64)
    if (uneven := (rect != rows).any(axis=1) | (rect % 2 != 0).any(axis=1)).any():
        raise ValueError(f"rect of frame {_first(uneven)} must be even whole numbers")
    x, y, w, h = rect.T
    outside = (x < 0) | (y < 0) | (w < 2) | (h < 2) | (x + w > width) | (y + h > height)
    if outside.any():
        raise ValueError(f"rect of frame {_first(outside)} does not lie inside the frame")
    return rect


def _affines(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = rows.reshape(-1, 2, 3)
    linear, shift = affine[:, :, :2], affine[:, :, 2]
    far = (np.abs(linear).max(axis=(1, 2)) > _LARGEST_SCALE) | (np.abs(shift).max(axis=1) > _LARGEST_SHIFT)
    if far.any():
        raise ValueError(f"affine of frame {_first(far)} is out of bounds")
    area = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    if (flat := np.abs(area) < _SMALLEST_AREA).any():
        raise ValueError(f"affine of frame {_first(flat)} squeezes the face to nothing")
    return affine


def _first(found: NDArray[np.bool_]) -> int:
    return int(np.argmax(found))
