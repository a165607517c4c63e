"""ONNX Runtime draws avatars: the same bits every time, one set of weights, little memory, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from visavis.errors import RendererError
from visavis.graphs1 import Graphs1Avatar
from visavis.hvia import ARKIT_52, open_hvia
from visavis.interfaces.renderer import RenderInput
from visavis.media import VideoFrame
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_onnxruntime import OnnxRuntimeOptions, check, make
from visavis_renderer_onnxruntime.renderer import OnnxRuntimeRenderer

JAW = ARKIT_52.index("jawOpen")
IDLE = RenderInput(None)
MEGA = 1e6


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def renderer() -> Iterator[OnnxRuntimeRenderer]:
    made = OnnxRuntimeRenderer()
    yield made
    made.close()


@pytest.fixture
def avatar(renderer: OnnxRuntimeRenderer, path: Path) -> Iterator[Graphs1Avatar]:
    loaded = load(renderer, path)
    yield loaded
    loaded.close()


def load(renderer: OnnxRuntimeRenderer, path: Path) -> Graphs1Avatar:
    with open_hvia(path) as file:
        return renderer.load(file)


def speech(frames: int, seed: int = 0) -> list[RenderInput]:
    sound = np.random.default_rng(seed).normal(0, 0.2, (frames, 1600)).astype(np.float32)
    return [RenderInput(sound[0], draw=False), *map(RenderInput, sound[1:])]


PLANS = [
    [IDLE] * 3 + speech(12) + [IDLE] * 5,
    speech(20, seed=1),
    [IDLE] * 20,
    [IDLE] * 7 + speech(8, seed=2) + [IDLE] * 5,
]


def film(renderer: OnnxRuntimeRenderer, avatar: Graphs1Avatar, plan: list[RenderInput], seed: int = 0) -> list[NDArray]:
    session = avatar.open(seed=seed)
    frames = [renderer.step([session], [given])[0] for given in plan]
    session.close()
    return [frame.data for frame in frames if frame is not None]


def test_the_mouth_follows_the_sound(renderer: OnnxRuntimeRenderer, avatar: Graphs1Avatar) -> None:
    session = avatar.open()
    opened = []
    for given in PLANS[0]:
        (frame,) = renderer.step([session], [given])
        assert isinstance(frame, VideoFrame) == given.draw
        if given.draw:
            opened.append(session.last_expression[JAW])
    assert not any(opened[:3])
    assert min(opened[4:13]) > 0.2
    assert not any(opened[-3:])


@pytest.mark.parametrize("plan", PLANS)
def test_equal_bits_every_time(path: Path, plan: list[RenderInput]) -> None:
    first, second = OnnxRuntimeRenderer(), OnnxRuntimeRenderer()
    films = [film(renderer, load(renderer, path), plan, seed=4) for renderer in (first, first, second)]
    for other in films[1:]:
        assert all((one == two).all() for one, two in zip(films[0], other, strict=True))


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_a_batch_is_its_sessions_within_one_level(
    renderer: OnnxRuntimeRenderer, tmp_path: Path, inputs: tuple[str, ...]
) -> None:
    avatar = load(renderer, tiny_avatar(tmp_path, inputs=inputs))
    sessions = [avatar.open(seed=n) for n in range(len(PLANS))]
    steps = [renderer.step(sessions, given) for given in zip(*PLANS, strict=True)]
    for row, plan in enumerate(PLANS):
        together = [frame.data for frame in (step[row] for step in steps) if frame is not None]
        for one, two in zip(film(renderer, avatar, plan, seed=row), together, strict=True):
            assert np.abs(one.astype(int) - two).max() <= 1


def test_a_second_load_shares_the_weights(renderer: OnnxRuntimeRenderer, avatar: Graphs1Avatar, path: Path) -> None:
    second = load(renderer, path)
    assert second.weights is avatar.weights
    second.close()
    assert None not in renderer.step([avatar.open()], [IDLE])


def test_a_session_costs_little_memory(renderer: OnnxRuntimeRenderer, avatar: Graphs1Avatar) -> None:
    first = avatar.open()
    for given in PLANS[1] * 3:
        renderer.step([first], [given])
    before = psutil.Process().memory_full_info().uss
    sessions = [avatar.open(seed=n) for n in range(8)]
    for given in PLANS[1] * 3:
        renderer.step(sessions, [given] * 8)
    assert (psutil.Process().memory_full_info().uss - before) / 8 < 4 * MEGA


PROCESS = """
import sys
import psutil
from visavis_renderer_onnxruntime import OnnxRuntimeOptions, make
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput
renderer = make(OnnxRuntimeOptions())
with open_hvia(sys.argv[1]) as file:
    session = renderer.load(file).open()
for _ in range(30):
    renderer.step([session], [RenderInput(None)])
print(psutil.Process().memory_full_info().uss, psutil.Process().num_threads())
"""


def test_a_process_with_an_avatar_is_lean(path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", PROCESS, str(path)], capture_output=True, text=True, timeout=60)
    assert ran.stderr == ""
    private, threads = map(int, ran.stdout.split())
    assert private < 250 * MEGA
    assert threads <= 4


def test_threads_and_batch_are_options(path: Path) -> None:
    renderer = OnnxRuntimeRenderer(OnnxRuntimeOptions(threads=2, max_batch=2))
    avatar = load(renderer, path)
    with pytest.raises(ValueError, match="at most 2"):
        renderer.step([avatar.open() for _ in range(3)], [IDLE] * 3)
    one = film(OnnxRuntimeRenderer(), load(OnnxRuntimeRenderer(), path), PLANS[0])
    two = film(renderer, avatar, PLANS[0])
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cuda:-1"])
def test_unknown_devices_are_refused_by_the_options(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        OnnxRuntimeOptions(device=device)


def test_a_missing_gpu_is_one_sentence_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RendererError, match=r"has no CUDA, so cuda:1 cannot be used.*onnxruntime-gpu"):
        make(OnnxRuntimeOptions(device="cuda:1"))


def test_a_gpu_that_refuses_is_not_replaced_in_silence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime goes on with the CPU; we do not."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    renderer = OnnxRuntimeRenderer(OnnxRuntimeOptions(device="cuda"))
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(RendererError, match="cannot use cuda"),
    ):
        load(renderer, path)


def test_its_entry_point_is_found_and_costs_nothing() -> None:
    record = Registry.discover().get(Kind.RENDERER, "onnxruntime")
    assert record.factory is make
    assert record.check is check
    assert check() is None
    code = "import sys, visavis_renderer_onnxruntime; print(*{'onnxruntime', 'cv2', 'av', 'onnx'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == ""
