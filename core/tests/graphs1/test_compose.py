"""The region lands where the affine says, in luma and in chroma, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from visavis.graphs1.compose import Compositor, Region, Spot, blend, spots_of
from visavis.hvia import Placement

W, H, R = 128, 96, 48
RECT = (20, 10, 70, 74)
EVEN = (1, 0, 30, 0, 1, 24)
TURNED = (1.02, -0.08, 33.3, 0.08, 0.98, 20.7)


def spot(affine: tuple[float, ...], rect: tuple[int, ...] = RECT) -> Spot:
    placement = Placement(affine=np.array(affine, float).reshape(1, 2, 3), rect=np.array([rect]), pose=np.zeros((1, 3)))
    return spots_of(placement)[0]


def base(value: int | None = None) -> NDArray[np.uint8]:
    if value is not None:
        return np.full((H * 3 // 2, W), value, np.uint8)
    return np.random.default_rng(0).integers(0, 256, (H * 3 // 2, W), dtype=np.uint8)


def noise(alpha: bool = True) -> Region:
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 256, (R, R), dtype=np.uint8) if alpha else None
    return Region(
        rng.integers(0, 256, (R, R), dtype=np.uint8), rng.integers(0, 256, (2, R // 2, R // 2), dtype=np.uint8), mask
    )


def planes(frame: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return frame[:H].astype(int), frame[H:].reshape(2, H // 2, W // 2).astype(int)


COMPOSITOR = Compositor(W, H, R, R)


def test_an_even_shift_without_alpha_is_a_copy() -> None:
    region = noise(alpha=False)
    y, uv = planes(COMPOSITOR.lay(base(), spot(EVEN), region))
    assert (y[24 : 24 + R, 30 : 30 + R] == region.y).all()
    assert (uv[:, 12 : 12 + R // 2, 15 : 15 + R // 2] == region.uv).all()


def test_an_even_shift_blends_by_the_formula() -> None:
    region, under = noise(), base()
    assert region.alpha is not None
    y, uv = planes(COMPOSITOR.lay(under, spot(EVEN), region))
    y0, uv0 = planes(under)
    at = np.s_[24 : 24 + R, 30 : 30 + R]
    alpha = region.alpha.astype(float)
    assert (y[at] == np.rint(y0[at] + alpha * (region.y - y0[at]) / 255)).all()
    thin = alpha.reshape(R // 2, 2, R // 2, 2).mean(axis=(1, 3))
    half = np.s_[:, 12 : 12 + R // 2, 15 : 15 + R // 2]
    assert np.abs(uv[half] - (uv0[half] + thin * (region.uv - uv0[half]) / 255)).max() <= 1


def test_blending_rounds_rightly_for_every_value() -> None:
    levels = np.arange(256, dtype=np.uint8)
    under, over = np.meshgrid(levels, levels)
    for alpha in levels:
        mixed = np.stack([under, under])
        blend(mixed, np.stack([over, over]), np.full_like(under, alpha))
        expected = np.rint(under + alpha * (over.astype(float) - under) / 255)
        assert (mixed == expected).all(), alpha


@pytest.mark.parametrize("affine", [EVEN, TURNED, (1, 0, 31, 0, 1, 25), (1, 0, 80.5, 0, 1, 70.25)])
@pytest.mark.parametrize("alpha", [True, False])
def test_nothing_outside_the_rectangle_is_touched(affine: tuple[float, ...], alpha: bool) -> None:
    under = base()
    y, uv = planes(COMPOSITOR.lay(under, spot(affine, (30, 20, 40, 40)), noise(alpha)))
    y0, uv0 = planes(under)
    y[20:60, 30:70] = y0[20:60, 30:70]
    uv[:, 10:30, 15:35] = uv0[:, 10:30, 15:35]
    assert (y == y0).all()
    assert (uv == uv0).all()


@pytest.mark.parametrize("affine", [EVEN, TURNED])
def test_clear_regions_leave_the_frame_as_it_is(affine: tuple[float, ...]) -> None:
    region = noise()
    clear = Region(region.y, region.uv, np.zeros((R, R), np.uint8))
    under = base()
    out = COMPOSITOR.lay(under, spot(affine), clear)
    assert (out == under).all()
    assert out is not under


@pytest.mark.parametrize("affine", [EVEN, TURNED, (1, 0, 31, 0, 1, 25), (0.9, 0.1, 30.5, -0.1, 0.9, 28.25)])
def test_luma_and_chroma_land_where_the_affine_says(affine: tuple[float, ...]) -> None:
    """A smooth picture, known at every point of the region, is found at the right points of the frame."""

    def picture(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return 128 + 60 * np.sin(x / 7) + 50 * np.cos(y / 9)

    rows, columns = np.mgrid[:R, :R].astype(float)
    small = np.mgrid[: R // 2, : R // 2] * 2 + 0.5
    colour = picture(small[1], small[0])
    region = Region(
        np.rint(picture(columns, rows)).astype(np.uint8),
        np.rint(np.stack([colour, 255 - colour])).astype(np.uint8),
        np.full((R, R), 255, np.uint8),
    )
    y, uv = planes(COMPOSITOR.lay(base(0), spot(affine, (0, 0, W, H)), region))
    matrix = np.array(affine, float).reshape(2, 3)

    def inside(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        back = np.linalg.inv(matrix[:, :2])
        x = back[0, 0] * (columns - matrix[0, 2]) + back[0, 1] * (rows - matrix[1, 2])
        y = back[1, 0] * (columns - matrix[0, 2]) + back[1, 1] * (rows - matrix[1, 2])
        return x, y, (x > 4) & (x < R - 5) & (y > 4) & (y < R - 5)

    rows, columns = np.mgrid[:H, :W].astype(float)
    px, py, known = inside(rows, columns)
    assert known.sum() > 1000
    assert np.abs(y - picture(px, py))[known].max() < 2
    small = np.mgrid[: H // 2, : W // 2] * 2 + 0.5
    px, py, known = inside(small[0], small[1])
    assert np.abs(uv[0] - picture(px, py))[known].max() < 2.5
    assert np.abs(uv[1] - (255 - picture(px, py)))[known].max() < 2.5


def test_detail_does_not_pulse_as_the_head_sways() -> None:
    """Stripes of six pixels keep nearly all of their contrast at every sub-pixel offset."""
    stripes = np.rint(128 + 80 * np.sin(2 * np.pi * np.arange(R) / 6)).astype(np.uint8)
    region = Region(np.tile(stripes, (R, 1)), np.full((2, R // 2, R // 2), 128, np.uint8), None)
    contrast = []
    for offset in np.arange(0, 1, 0.125):
        y, _ = planes(COMPOSITOR.lay(base(128), spot((1, 0, 30 + offset, 0, 1, 24 + offset)), region))
        contrast.append(y[40:60, 42:66].std())
    assert min(contrast) > 0.94 * max(contrast)


@pytest.mark.parametrize("affine", [EVEN, TURNED])
def test_what_is_lifted_and_laid_back_is_the_frame(affine: tuple[float, ...]) -> None:
    ramp = np.empty((H * 3 // 2, W), np.uint8)
    ramp[:H] = (np.arange(W)[None] + np.arange(H)[:, None]) * 0.8 + 20
    ramp[H:].reshape(2, H // 2, W // 2)[:] = np.arange(W // 2)[None] + 2 * np.arange(H // 2)[:, None] + 10
    y, uv = COMPOSITOR.lift(ramp, spot(affine))
    assert y.shape == (R, R)
    assert uv.shape == (2, R // 2, R // 2)
    alpha = np.zeros((R, R), np.uint8)
    alpha[4:-4, 4:-4] = 255
    out = COMPOSITOR.lay(ramp, spot(affine), Region(y, uv, alpha))
    assert np.abs(out.astype(int) - ramp).max() <= 2


def test_equal_input_gives_equal_bits_and_the_base_stays() -> None:
    under, region = base(), noise()
    under.flags.writeable = False
    first = COMPOSITOR.lay(under, spot(TURNED), region)
    assert (first == COMPOSITOR.lay(under, spot(TURNED), region)).all()
    assert (under == base()).all()
    assert first.flags.c_contiguous
