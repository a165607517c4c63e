"""The account of the native queue, against a queue that does what libwebrtc's does."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from visavis_transport_livekit.reservoir import CALLBACK, TICK, WINDOW, Reservoir

RATE = 48_000
SAMPLES = RATE // 100


@dataclass
class Queue:
    """libwebrtc's: a tick every 10 ms on an absolute grid takes 10 ms of samples, if they are there."""

    phase: float
    threshold: int
    level: int = 0
    at: float = 0.0
    dry: int = 0

    def until(self, now: float) -> None:
        while self.at + self.phase <= now:
            self.at += TICK
            if self.level >= SAMPLES:
                self.level -= SAMPLES
            else:
                self.dry += 1

    def done_at(self) -> float | None:
        """When ``capture_frame`` returns; None if at once."""
        over = self.level - self.threshold
        ticks = -(-over // SAMPLES)
        return None if over <= 0 else self.at + self.phase + (ticks - 1) * TICK


def talk(reservoir: Reservoir, queue: Queue, frames: int, late: list[float], delay: list[float]) -> list[int]:
    """Push 40 ms at a time, each late by so much; returns by how many samples the account was off before each."""
    off = []
    for index in range(frames):
        now = 1.0 + index * 0.04 + late[index % len(late)]
        queue.until(now)
        reservoir.settle(now)
        off.append(reservoir.level - queue.level)
        expected = reservoir.push(4 * SAMPLES)
        queue.level += 4 * SAMPLES
        done = queue.done_at()
        heard = now + CALLBACK if done is None else done + CALLBACK + delay[index % len(delay)]
        reservoir.reported(expected, heard)
    return off


@pytest.mark.parametrize("phase", [0.0021, 0.0055, 0.0088])
def test_it_learns_when_the_ticks_are(phase: float) -> None:
    queue, reservoir = Queue(phase, 60 * RATE // 1000), Reservoir(RATE, 60, 0.0)
    queue.until(0.96)
    reservoir.settle(0.96)
    queue.level += 8 * SAMPLES
    reservoir.push(8 * SAMPLES)
    off = talk(reservoir, queue, 4 * WINDOW, [0.0], [0.0])
    assert all(abs(samples) <= SAMPLES for samples in off)
    assert off[-1] == 0


def test_one_late_report_does_not_move_it() -> None:
    queue, reservoir = Queue(0.0042, 60 * RATE // 1000), Reservoir(RATE, 60, 0.0)
    queue.until(0.96)
    reservoir.settle(0.96)
    queue.level += 8 * SAMPLES
    reservoir.push(8 * SAMPLES)
    before = talk(reservoir, queue, WINDOW, [0.0], [0.0])[-1]
    after = talk(reservoir, queue, WINDOW // 2, [0.0], [0.008, 0.02, 0.05])[-1]
    assert before == after


def test_random_lateness_never_leads_it_astray_for_long() -> None:
    rng = random.Random(4)
    for _ in range(20):
        phase = rng.random() * TICK
        queue, reservoir = Queue(phase, 60 * RATE // 1000), Reservoir(RATE, 60, 0.0)
        late = [rng.random() * rng.choice([0.002, 0.02, 0.06]) for _ in range(97)]
        delay = [rng.random() * 0.004 for _ in range(31)]
        off = talk(reservoir, queue, 12 * WINDOW, late, delay)
        assert all(abs(samples) <= 2 * SAMPLES for samples in off[2 * WINDOW :])


def test_it_counts_ticks_that_found_nothing() -> None:
    reservoir = Reservoir(RATE, 60, 0.0)
    assert reservoir.settle(0.5) == 0  # nothing was pushed yet: nobody misses anything
    reservoir.push(3 * SAMPLES)
    assert reservoir.settle(0.535) == 0
    assert reservoir.level == 0
    assert reservoir.settle(0.575) == 4
    assert reservoir.dry == 4


def test_less_than_a_tick_stays_where_it_is() -> None:
    reservoir = Reservoir(44_100, 60, 0.0)
    reservoir.push(440)
    reservoir.settle(1.0)
    assert reservoir.level == 440
    reservoir.push(1)
    reservoir.settle(1.011)
    assert reservoir.level == 0


def test_it_tells_when_a_sample_leaves() -> None:
    reservoir = Reservoir(RATE, 60, 0.0)
    reservoir.push(8 * SAMPLES)
    assert reservoir.leaves_at(0) == pytest.approx(0.0)
    assert reservoir.leaves_at(4 * SAMPLES) == pytest.approx(0.04)
    reservoir.settle(0.0399)
    assert reservoir.left == 3 * SAMPLES
    assert reservoir.leaves_at(4 * SAMPLES) == pytest.approx(0.04)
    assert reservoir.leaves_at(0) <= 0.04  # long gone


def test_what_was_cleared_has_left() -> None:
    reservoir = Reservoir(RATE, 60, 0.0)
    reservoir.push(8 * SAMPLES)
    reservoir.clear(0.025)
    assert reservoir.level == 0
    assert reservoir.left == reservoir.entered


def test_a_push_below_the_threshold_returns_at_once() -> None:
    reservoir = Reservoir(RATE, 60, 0.0)
    assert reservoir.push(6 * SAMPLES) is None
    assert reservoir.push(SAMPLES) == pytest.approx(TICK)
