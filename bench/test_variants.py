"""The shipped variants of Mira's graphs draw and move as fp32 does, within the bounds that RESULTS.md claims."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from visavis.hvia import open_hvia

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH)]

import variants  # noqa: E402


def test_miras_variants_keep_their_quality() -> None:
    sound = variants.read(BENCH / "speech")[0]
    with open_hvia(variants.MIRA) as avatar:
        assert set(avatar.manifest.face.sources) == {"fp32", "fp16"}
        assert set(avatar.manifest.motion.sources) == {"fp32", "int8"}
        figures = variants.judge(avatar, [sound], every=6)
    assert [(each.which, each.precision) for each in figures] == [
        ("motion", "int8"),
        ("face", "fp16"),
    ]
    for each in figures:
        assert not each.missed, variants.told(each)


def test_a_worse_variant_is_found_out() -> None:
    """Errors of 40 dB cost more than is allowed, errors of 48 dB do not; a mouth's box leaves the eyes out."""
    assert variants.implied_loss([40.0]) > variants.LOSS > variants.implied_loss([48.0]) > 0
    assert abs(variants.implied_loss([variants.TRUTH]) - 3.01) < 0.01  # as much again is twice the error
    luma = np.full((8, 64, 64), 100, np.uint8)
    luma[::2, 10:14, 20:44] = 200
    luma[::2, 40:50, 24:40] = 200
    assert variants.lips(luma) == (slice(40, 50), slice(24, 40))
