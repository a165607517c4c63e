"""Parity catches what makes pictures differ, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from visavis.graphs1 import GraphExecutor, Graphs1Renderer, Tensors
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.testing import ConformanceFailure, tiny_avatar
from visavis.testing.parity import FP16, FP32, Film, compare, expect_parity, filmed

Change = Callable[[np.ndarray, int], np.ndarray]


class Reference:
    def __init__(self, model: bytes) -> None:
        self.evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))

    def run(self, feeds: Tensors) -> Tensors:
        return dict(zip(self.evaluator.output_names, self.evaluator.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        pass


class Altered(Graphs1Renderer):
    """A correct renderer whose pictures are changed afterwards."""

    def __init__(self, change: Change = lambda data, row: data) -> None:
        super().__init__(max_batch=4)
        self.change = change

    def make_executor(self, model: bytes, *, name: str) -> GraphExecutor:
        return Reference(model)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        frames = super().step(sessions, inputs)
        return [
            frame and replace(frame, data=np.ascontiguousarray(self.change(frame.data, row)))
            for row, frame in enumerate(frames)
        ]


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("parity"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def truth(avatar: Path) -> Film:
    return filmed(Altered, avatar)


def swapped(data: np.ndarray, row: int) -> np.ndarray:
    high = data.shape[0] * 2 // 3
    chroma = data[high:].reshape(2, -1)
    return np.concatenate([data[:high], chroma[::-1].reshape(-1, data.shape[1])])


def noisy(levels: float) -> Change:
    chance = np.random.default_rng(0)
    return lambda data, row: np.clip(data + chance.normal(0, levels, data.shape), 0, 255).astype(np.uint8)


FAULTS: dict[str, Change] = {
    "chroma planes swapped": swapped,
    "one row of a batch is brighter": lambda data, row: np.minimum(data, 247) + np.uint8(8 * (row == 2)),
    "a pixel to the side": lambda data, row: np.roll(data, 1, axis=1),
    "noise": noisy(4.0),
    "coarse levels": lambda data, row: data // 8 * 8,
}


@pytest.mark.parametrize("change", FAULTS.values(), ids=FAULTS)
def test_what_differs_is_seen(avatar: Path, truth: Film, change: Change) -> None:
    with pytest.raises(ConformanceFailure, match="every picture needs 45 dB"):
        expect_parity(truth, filmed(lambda: Altered(change), avatar), psnr=FP32)


def test_rounding_passes_and_is_measured(avatar: Path, truth: Film) -> None:
    found = expect_parity(truth, filmed(lambda: Altered(lambda data, row: data ^ np.uint8(1)), avatar))
    assert found.levels == 1
    assert found.worst_db == pytest.approx(48.13, abs=0.01)
    assert found.pictures == sum(len(row) for row in truth.rows)


def test_half_precision_has_its_own_bound(avatar: Path, truth: Film) -> None:
    grainy = filmed(lambda: Altered(noisy(1.6)), avatar)
    assert FP16 <= expect_parity(truth, grainy, psnr=FP16).worst_db < FP32


def test_a_picture_late_is_seen(truth: Film) -> None:
    late = Film([[row[0], *row[:-1]] for row in truth.rows], truth.batched)
    with pytest.raises(ConformanceFailure, match="every picture needs"):
        expect_parity(truth, late)


def test_equal_films_are_equal_and_shorter_ones_are_refused(truth: Film) -> None:
    assert compare(truth, truth).levels == 0
    with pytest.raises(ConformanceFailure, match="other pictures"):
        compare(truth, Film([row[:-1] for row in truth.rows], truth.batched))


def test_a_frozen_face_proves_nothing(truth: Film) -> None:
    frozen = Film([[row[0]] * len(row) for row in truth.rows], truth.batched)
    with pytest.raises(ConformanceFailure, match="nobody moves"):
        compare(frozen, frozen)
