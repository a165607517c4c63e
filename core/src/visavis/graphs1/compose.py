"""Lays a drawn face region over a base frame: ``out = base + alpha * (region - base) / 255``, in I420.

A region pixel's centre lands where the frame's affine says. Chroma lies in the middle of its 2x2 luma pixels (it is
their average), so its affine is not simply half of luma's. Everything here is OpenCV on uint8 and int16: exact to the
rounding, and the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from visavis.hvia import Placement

Plane = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_SAME: Final = 1e-6
# Cubic keeps lips and lashes sharp at any sub-pixel offset; linear would blur them at half a pixel and so make the
# mouth pulse as the head sways. Chroma and alpha have no such detail to lose.
_SHARP: Final = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
_SMOOTH: Final = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_FINE: Final = 2
"""A region is enlarged so many times, by cubic interpolation, and then sampled linearly: nearly as sharp as cubic
sampling, steadier as the head sways, at a quarter of its cost; a face at rest is enlarged once for many pictures."""


@dataclass(frozen=True)
class Region:
    """What the face graph put out for one session: ``y`` ``[H, W]``, ``uv`` ``[2, H/2, W/2]``, ``alpha`` ``[H, W]``.

    All uint8; no alpha means opaque.
    """

    y: Plane
    uv: Plane
    alpha: Plane | None

    @cached_property
    def fine(self) -> Plane:
        """``y`` enlarged."""
        return _bytes(cv2.resize(self.y, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC))


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the region lands on one base frame.

    ``shift`` is the whole even translation in pixels where the affine is nothing else; otherwise ``luma``, ``chroma``
    take pixels of the rectangle to pixels of the region, in each plane's own resolution.
    """

    x: int
    y: int
    width: int
    height: int
    affine: Matrix
    shift: tuple[int, int] | None
    luma: Matrix
    chroma: Matrix


def spots_of(placement: Placement) -> list[Spot]:
    """The spots of all frames of a clip."""
    return [_spot(affine, rect) for affine, rect in zip(placement.affine, placement.rect, strict=True)]


def _spot(affine: Matrix, rect: NDArray[np.int64]) -> Spot:
    x, y, width, height = (int(n) for n in rect)
    linear, move = affine[:, :2], affine[:, 2]
    half = linear @ (0.5, 0.5)
    # Chroma pixel c lies at luma 2c + 0.5; solved for a map between chroma pixels.
    chroma = np.column_stack([linear, (half + move - 0.5) / 2])
    return Spot(
        x, y, width, height, affine, _even_shift(linear, move), _back(affine, (x, y)), _back(chroma, (x / 2, y / 2))
    )


def _even_shift(linear: Matrix, move: Matrix) -> tuple[int, int] | None:
    even = 2 * np.rint(move / 2)
    if np.abs(linear - np.eye(2)).max() > _SAME or np.abs(move - even).max() > _SAME:
        return None
    return int(even[0]), int(even[1])


def _back(affine: Matrix, origin: tuple[float, float]) -> Matrix:
    """From pixels of a rectangle whose corner is ``origin`` to pixels of the region."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.column_stack([inverse, inverse @ (np.array(origin) - affine[:, 2])])


class Compositor:
    """Lays regions over frames of one size. Holds no picture; safe to use from several threads."""

    def __init__(self, width: int, height: int, region_width: int, region_height: int) -> None:
        self._width, self._height = width, height
        self._region = (region_width, region_height)
        self._opaque: Plane = np.full((region_height, region_width), 255, np.uint8)

    def lay(self, base: Plane, spot: Spot, region: Region) -> Plane:
        """A new frame ``[h * 3 / 2, w]``: ``base`` with the region over it."""
        out: Plane = np.array(base, copy=True, order="C", subok=False)
        if spot.shift is None:
            self._warp(out, spot, region)
        else:
            self._shift(out, spot, spot.shift, region)
        return out

    def _planes(self, frame: Plane) -> tuple[Plane, Plane]:
        h, w = self._height, self._width
        return frame[:h], frame[h:].reshape(2, h // 2, w // 2)

    def _warp(self, out: Plane, spot: Spot, region: Region) -> None:
        y, uv = self._planes(out)
        size, half = (spot.width, spot.height), (spot.width // 2, spot.height // 2)
        mask = self._opaque if region.alpha is None else region.alpha
        alpha = _bytes(cv2.warpAffine(mask, spot.luma, size, flags=_SMOOTH))
        # Only the rectangle around what is not clear is worth the rest.
        left, top, width, height = cv2.boundingRect(alpha)
        if not width:
            return
        left, top, right, bottom = left & ~1, top & ~1, (left + width + 1) & ~1, (top + height + 1) & ~1
        size, half = (right - left, bottom - top), ((right - left) // 2, (bottom - top) // 2)
        alpha = alpha[top:bottom, left:right]
        picture = _warped(region.fine, _finer(_moved(spot.luma, left, top)), size, _SMOOTH)
        at = slice(spot.y + top, spot.y + bottom), slice(spot.x + left, spot.x + right)
        blend(y[at], picture, alpha)
        thin = _bytes(cv2.resize(alpha, half, interpolation=cv2.INTER_AREA))
        matrix = _moved(spot.chroma, left // 2, top // 2)
        colours = np.stack([_warped(colour, matrix, half, _SMOOTH) for colour in region.uv])
        blend(uv[:, *_half(at)], colours, thin)

    def _shift(self, out: Plane, spot: Spot, shift: tuple[int, int], region: Region) -> None:
        y, uv = self._planes(out)
        # The part of the rectangle on which the region lands, in pixels of the frame.
        left, top = max(spot.x, shift[0]), max(spot.y, shift[1])
        right = min(spot.x + spot.width, shift[0] + self._region[0])
        bottom = min(spot.y + spot.height, shift[1] + self._region[1])
        if left >= right or top >= bottom:
            return
        at = slice(top, bottom), slice(left, right)
        of = slice(top - shift[1], bottom - shift[1]), slice(left - shift[0], right - shift[0])
        if region.alpha is None:
            y[at] = region.y[of]
            uv[:, *_half(at)] = region.uv[:, *_half(of)]
            return
        alpha = region.alpha[of]
        blend(y[at], region.y[of], alpha)
        thin = _bytes(cv2.resize(alpha, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        blend(uv[:, *_half(at)], region.uv[:, *_half(of)], thin)

    def lift(self, base: Plane, spot: Spot) -> tuple[Plane, Plane]:
        """The base frame's own pixels in the region's place: y ``[H, W]``, uv ``[2, H/2, W/2]``."""
        y, uv = self._planes(np.asarray(base))
        linear, move = spot.affine[:, :2], spot.affine[:, 2]
        chroma = np.column_stack([linear, (linear @ (0.5, 0.5) + move - 0.5) / 2])
        half = (self._region[0] // 2, self._region[1] // 2)
        colours = [_warped(plane, chroma, half, _SMOOTH) for plane in uv]
        return _warped(y, spot.affine, self._region, _SHARP), np.stack(colours)


def blend(base: Plane, over: Plane, alpha: Plane) -> None:
    """``base += alpha * (over - base) / 255`` in place, rounded: ``[H, W]``, or planes ``[N, H, W]`` of one alpha.

    In 16 bits, which hold 255 * 255 and the rounding: x / 255 is ``(x + 128 + (x + 128 >> 8)) >> 8`` for all of these x
    (Blinn, "Three wrongs make a right", 1995). OpenCV takes more than twice as long where its operands' types differ.
    """
    mixed = np.multiply(over, alpha, dtype=np.uint16)
    mixed += np.multiply(base, np.uint8(255) - alpha, dtype=np.uint16)
    mixed += np.uint16(128)
    mixed += mixed >> np.uint16(8)
    np.right_shift(mixed, np.uint16(8), out=base, casting="unsafe")


def _warped(plane: Plane, matrix: Matrix, size: tuple[int, int], flags: int) -> Plane:
    return _bytes(cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _bytes(array: NDArray[Any]) -> Plane:
    """OpenCV's stubs say less than it does: uint8 in, uint8 out."""
    return array


def _moved(matrix: Matrix, left: int, top: int) -> Matrix:
    """The same map for a rectangle that begins ``left``, ``top`` pixels further in."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, 0] * left + matrix[:, 1] * top
    return moved


def _finer(matrix: Matrix) -> Matrix:
    """The same map into an enlarged picture, whose pixels' centres lie between those of the original."""
    finer = matrix * _FINE
    finer[:, 2] += (_FINE - 1) / 2
    return finer


def _half(at: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = at
    return slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2)
