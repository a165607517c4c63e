"""Sound is cut into the graph's calls, old sound is forgotten, and the face comes to rest without a corner."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from visavis.graphs1.motion import Easing, SoundStream, steps_ahead
from visavis.hvia import ARKIT_52, Motion


def motion(frames: int = 1, look_ahead: int = 1) -> Motion:
    return Motion(
        graph="m.onnx",
        sample_rate=16_000,
        hop=640 * frames,
        frames=frames,
        look_ahead=640 * look_ahead,
        state=3,
        profile="arkit-52",
        coefficients=ARKIT_52,
    )


def sound(level: float) -> np.ndarray:
    return np.full(640, level, np.float32)


def test_a_call_of_three_frames_waits_for_three_slices() -> None:
    stream = SoundStream(motion(3), Fraction(25))
    assert steps_ahead(motion(3, look_ahead=2)) == 2 + 2
    assert stream.hear(sound(1)) is None
    assert stream.hear(sound(2)) is None
    assert stream.next() is None
    call = stream.hear(sound(3))
    assert call is not None
    assert call.shape == (1920,)
    assert call[::640].tolist() == [1, 2, 3]
    stream.take(np.arange(3, dtype=np.float32)[:, None], np.ones(3, np.float32))
    assert [row[0] if row is not None else None for row in (stream.next() for _ in range(4))] == [0, 1, 2, None]


def test_a_pause_drops_a_half_full_call() -> None:
    stream = SoundStream(motion(2), Fraction(25))
    assert stream.hear(sound(1)) is None
    stream.pause()
    assert stream.hear(sound(2)) is None
    call = stream.hear(sound(3))
    assert call is not None
    assert call[0] == 2


@pytest.mark.parametrize(("idle", "forgets"), [(0, False), (50, False), (51, True)])
def test_context_survives_two_seconds_of_idle(idle: int, forgets: bool) -> None:
    stream = SoundStream(motion(), Fraction(25))
    stream.hear(sound(1))
    stream.take(np.zeros((1, 52), np.float32), np.ones(3, np.float32))
    for _ in range(idle):
        stream.pause()
    stream.hear(sound(1))
    assert stream.state.any() != forgets


def test_easing_goes_all_the_way_in_time_and_never_back() -> None:
    easing, rest = Easing(1), np.zeros(1, np.float32)
    easing.start(np.ones(1, np.float32), 4)
    levels = [float(easing.towards(rest)[0]) for _ in range(6)]
    assert levels[3:] == [0, 0, 0]
    assert (np.diff([1, *levels]) <= 0).all()
    assert np.abs(np.diff([1, *levels])).max() < 0.4
    assert easing.done
