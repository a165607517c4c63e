"""Without a GPU the benches of GPUs say so and end with a status of their own; their reckoning needs none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import gpu  # noqa: E402 (it lies beside)


@pytest.mark.skipif(gpu.gpus() > 0, reason="there is a GPU here")
@pytest.mark.parametrize("what", ["parity", "capacity"])
def test_without_a_gpu_it_is_one_sentence_and_a_status(what: str) -> None:
    ran = subprocess.run([sys.executable, FOLDER / "gpu.py", what], capture_output=True, text=True, timeout=120)
    assert ran.returncode == gpu.NO_GPU == 77
    assert ran.stdout == ""
    assert ran.stderr == "no NVIDIA GPU and driver were found here, so nothing was run on one\n"


def test_sessions_are_those_of_the_best_batch_in_time() -> None:
    assert gpu._sessions({1: 0.001, 8: 0.002, 64: 0.010}, 25.0) == 204
    assert gpu._sessions({1: 0.001, 8: 0.004, 64: 0.040}, 25.0) == 64  # a step of 64 would miss the picture's time
    assert gpu._sessions({1: 0.050}, 25.0) == 0


def test_memory_bounds_them_on_small_cards() -> None:
    assert gpu._on_card(6, 100, 400.0, 10.0) == 100
    assert gpu._on_card(6, 1_000, 400.0, 10.0) == 501
    assert gpu._on_card(6, 100, 6_000.0, 10.0) == 0
    assert gpu._on_card(24, 100, 400.0, 0.0) == 100
