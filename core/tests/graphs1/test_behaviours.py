"""Blinks, gaze and brows: at a living pace, without jumps, and the same for the same seed."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from visavis.graphs1.behaviours import Behaviours
from visavis.hvia import ARKIT_52

FPS = Fraction(25)
MINUTE = 60 * 25
LIDS = [ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]
SQUINTS = [ARKIT_52.index("eyeSquintLeft"), ARKIT_52.index("eyeSquintRight")]
LOOKS = [index for index, name in enumerate(ARKIT_52) if name.startswith("eyeLook")]
FACING = np.zeros(3)


def live(frames: int, seed: str = "a", heard: NDArray[np.float32] | None = None, pose: object = FACING) -> np.ndarray:
    """``[frames, 52]``: a face at rest, or one whose lids follow ``heard``."""
    behaviours = Behaviours(ARKIT_52, FPS, seed)
    rest = np.zeros(52, np.float32)
    rows = []
    for frame in range(frames):
        if heard is not None:
            rest[LIDS] = heard[frame]
        rows.append(behaviours.step(rest, np.asarray(pose, float)))
    return np.stack(rows)


def blinks(faces: np.ndarray) -> np.ndarray:
    """The frames in which the lids begin to be more shut than open."""
    shut = faces[:, LIDS].mean(axis=1) > 0.5
    return np.flatnonzero(shut[1:] & ~shut[:-1]) + 1


@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_blinks_ten_to_twenty_five_times_a_minute(seed: str) -> None:
    begun = blinks(live(10 * MINUTE, seed))
    assert 12 <= len(begun) / 10 <= 18
    for minute in range(10):
        assert 10 <= np.sum(begun // MINUTE == minute) <= 25
    assert np.diff(begun).min() >= 1.2 * FPS


@pytest.mark.parametrize("rate", [6, 12, 20])
def test_blinks_of_the_speech_count(rate: float) -> None:
    random = Random(rate)
    heard = np.zeros(10 * MINUTE, np.float32)
    at = 0.0
    while (at := at + random.expovariate(rate / MINUTE)) < len(heard) - 6:
        heard[int(at) : int(at) + 5] = 0.3, 0.8, 1.0, 0.6, 0.2
    begun = blinks(live(len(heard), heard=heard))
    assert 10 <= len(begun) / 10 <= 25


@pytest.mark.parametrize("every", [1.0, 2.0, 2.7, 4.0, 7.0])
def test_blinks_come_in_pauses_but_not_more_often(every: float) -> None:
    behaviours = Behaviours(ARKIT_52, FPS, "a")
    face = np.zeros(52, np.float32)
    faces, period = [], round(every * FPS)
    for frame in range(10 * MINUTE):
        face[ARKIT_52.index("jawOpen")] = 0.4 if frame % period < period - 10 else 0.0
        faces.append(behaviours.step(face, FACING))
    begun = blinks(np.stack(faces))
    assert 10 <= len(begun) / 10 <= 25
    in_pauses = np.mean(begun % period >= period - 10)
    assert in_pauses > 1.3 * 10 / period


def test_lids_shut_fully_and_quickly() -> None:
    lids = live(MINUTE)[:, LIDS]
    assert lids.max() == 1.0
    assert (lids.max(axis=0) > 0.96).all()
    for at in blinks(live(MINUTE)):
        around = lids[max(at - 3, 0) : at + 9].mean(axis=1)
        assert 3 <= np.sum(around > 0.1) <= 8  # 120 to 320 ms in all


def test_a_blink_at_its_end_leaves_no_trace() -> None:
    lids = live(MINUTE)[:, LIDS]
    assert np.mean(lids.max(axis=1) == 0.0) > 0.8


def test_nothing_jumps_but_lids_and_saccades() -> None:
    faces = live(10 * MINUTE)
    slow = np.setdiff1d(np.arange(52), LIDS + LOOKS + SQUINTS)
    steps = np.abs(np.diff(faces, axis=0))
    assert steps[:, slow].max() <= 0.03
    assert steps[:, LOOKS].max() <= 0.5
    assert np.mean(steps[:, LOOKS].max(axis=1) > 0.05) < 0.06


def test_the_mouth_is_left_alone() -> None:
    mouth = [index for index, name in enumerate(ARKIT_52) if name.startswith(("mouth", "jaw", "cheek", "tongue"))]
    assert not live(MINUTE)[:, mouth].any()


def gaze(faces: np.ndarray) -> np.ndarray:
    """Left eye: out minus in (towards the avatar's left), up minus down."""
    part = {name: faces[:, ARKIT_52.index(f"eyeLook{name}Left")] for name in ("Out", "In", "Up", "Down")}
    return np.stack([part["Out"] - part["In"], part["Up"] - part["Down"]], axis=1)


def test_looks_mostly_at_the_viewer_but_not_only() -> None:
    away = np.abs(gaze(live(10 * MINUTE))).max(axis=1)
    assert 0.6 < np.mean(away < 0.08) < 0.95
    assert 0.1 < away.max() < 0.4


def test_eyes_turn_against_the_head() -> None:
    ahead, turned = gaze(live(MINUTE)).mean(axis=0), gaze(live(MINUTE, pose=(5.2, 2.0, 0.0))).mean(axis=0)
    assert turned - ahead == pytest.approx([-0.2, -0.1], abs=0.02)


def test_a_face_at_rest_repeats_itself() -> None:
    faces = live(10 * MINUTE)
    assert np.mean((faces[1:] == faces[:-1]).all(axis=1)) > 0.6


def test_equal_seeds_behave_alike_and_others_do_not() -> None:
    assert np.array_equal(live(500, "a"), live(500, "a"))
    assert not np.array_equal(live(500, "a"), live(500, "b"))


def test_never_beyond_one_and_never_in_place() -> None:
    full = np.ones(52, np.float32)
    behaviours = Behaviours(ARKIT_52, FPS, "a")
    for _ in range(300):
        face = behaviours.step(full, FACING)
        assert face.min() >= 0
        assert face.max() <= 1
    assert (full == 1).all()
