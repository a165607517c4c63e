"""Rate conversion: the right sound, of the right length, soon, whatever pieces it comes in."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from visavis.pipeline.resampling import resampler

PAIRS = [
    (8_000, 16_000),
    (8_000, 48_000),
    (16_000, 24_000),
    (16_000, 48_000),
    (22_050, 16_000),
    (24_000, 16_000),
    (24_000, 48_000),
    (44_100, 16_000),
    (44_100, 48_000),
    (48_000, 16_000),
    (48_000, 24_000),
    (12_345, 16_000),
]


def converted(pcm: np.ndarray, source: int, target: int, block: int) -> np.ndarray:
    stream = resampler(source, target, pcm.shape[1])
    parts = [stream.feed(pcm[at : at + block], False) for at in range(0, len(pcm), block)]
    return np.concatenate([*parts, stream.feed(pcm[:0], True)])


@pytest.mark.parametrize("source, target", PAIRS[:-1])  # the last one is libsoxr's own
def test_tones_come_out_as_they_went_in(source: int, target: int) -> None:
    low = min(source, target)
    for tone in (0.01 * low, 0.1 * low, 0.4 * low):
        t = np.arange(source)
        pcm = np.stack([np.sin(2 * np.pi * tone * t / source), np.cos(2 * np.pi * tone * t / source)], 1)
        out = converted(pcm.astype(np.float32), source, target, source // 100)
        assert len(out) == target
        t = np.arange(target) / target
        want = np.stack([np.sin(2 * np.pi * tone * t), np.cos(2 * np.pi * tone * t)], 1)
        middle = slice(target // 10, -target // 10)
        noise = np.mean((out[middle] - want[middle]) ** 2) / np.mean(want[middle] ** 2)
        assert 10 * np.log10(noise) < -80


@pytest.mark.parametrize("source, target", [(24_000, 16_000), (44_100, 16_000), (48_000, 16_000)])
def test_what_does_not_fit_is_left_out(source: int, target: int) -> None:
    pcm = np.sin(2 * np.pi * 0.56 * target * np.arange(source) / source).astype(np.float32)[:, None]
    out = converted(pcm, source, target, source // 100)
    assert 20 * np.log10(np.abs(out[target // 10 : -target // 10]).max()) < -80


@pytest.mark.parametrize("source, target", PAIRS)
@pytest.mark.parametrize("samples", [1, 7, 440, 441, 5_003])
def test_lengths_are_those_of_libsoxr(source: int, target: int, samples: int) -> None:
    pcm = np.random.default_rng(samples).uniform(-1, 1, (samples, 1)).astype(np.float32)
    out = converted(pcm, source, target, 160)
    assert abs(len(out) - len(soxr.resample(pcm, source, target))) <= 1
    assert np.isfinite(out).all()


@pytest.mark.parametrize("source, target", [(8_000, 16_000), (24_000, 16_000), (24_000, 48_000), (44_100, 48_000)])
def test_it_holds_back_little(source: int, target: int) -> None:
    """What speech in real time waits for: a libsoxr stream holds back 30 ms and more."""
    stream, out = resampler(source, target, 1), 0
    block = np.zeros((source // 100, 1), np.float32)
    for n in range(1, 50):
        out += len(stream.feed(block, False))
        assert n / 100 - out / target < 0.012
