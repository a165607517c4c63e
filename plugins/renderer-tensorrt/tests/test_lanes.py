"""What goes to the device and comes back, what is recorded, and that nothing stays there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from computing import ComputingDriver, computing_device
from visavis.errors import RendererError
from visavis.graphs1 import Graphs1Avatar
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.device import Device
from visavis_renderer_tensorrt.lane import RECORDED, STEADY, Lane, ports_of
from visavis_renderer_tensorrt.painting import DevicePainter
from visavis_renderer_tensorrt.renderer import TensorRTRenderer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("tiny"), variants=("fp16",))


@pytest.fixture
def device() -> Device:
    return computing_device()


def loaded(device: Device, path: Path, **options: object) -> tuple[TensorRTRenderer, Graphs1Avatar]:
    renderer = TensorRTRenderer(TensorRTOptions(max_batch=8, **options), device=device)
    with open_hvia(path) as file:
        return renderer, renderer.load(file)


def speech(count: int, seed: int = 0) -> list[RenderInput]:
    return [RenderInput(pcm) for pcm in np.random.default_rng(seed).normal(0, 0.2, (count, 1600)).astype(np.float32)]


def driver_of(device: Device) -> ComputingDriver:
    assert isinstance(device.driver, ComputingDriver)
    return device.driver


def test_one_copy_comes_back_for_a_picture_and_it_is_the_window(device: Device, path: Path) -> None:
    renderer, avatar = loaded(device, path)
    sessions, driver = [avatar.open(seed=n) for n in range(4)], driver_of(device)
    painter = avatar.weights.face
    assert isinstance(painter, DevicePainter)
    before = dict(driver.moved)
    renderer.step(sessions, speech(4))
    moved = {way: driver.moved[way] - before[way] for way in before}
    motion_out = 4 * (52 + 4) * 4
    assert moved["out"] == 4 * painter._window.size + motion_out
    assert moved["within"] == 4 * painter._window.size  # the base frames are there already
    assert moved["in"] == 4 * ((1600 + 4) * 4 + (52 + 17) * 4)


def test_sessions_take_nothing_of_the_device(device: Device, path: Path) -> None:
    renderer, avatar = loaded(device, path)
    first, driver = avatar.open(), driver_of(device)
    renderer.step([first], speech(1))
    blocks = dict(driver.blocks)
    sessions = [avatar.open(seed=n) for n in range(7)]
    renderer.step(sessions, speech(7))
    assert driver.blocks == blocks
    painter = avatar.weights.face
    assert isinstance(painter, DevicePainter)
    assert painter.memory == sum(block.size for block in blocks.values()) - motion_memory(renderer, path)


def motion_memory(renderer: TensorRTRenderer, path: Path) -> int:
    with open_hvia(path) as file:
        inputs, outputs = ports_of(file.read("graphs/motion.onnx"))
    return sum(port.size for port in (*inputs, *outputs)) * renderer.max_batch


def test_what_is_closed_leaves_nothing_on_the_device(device: Device, path: Path) -> None:
    for _ in range(2):
        renderer, avatar = loaded(device, path)
        session = avatar.open()
        renderer.step([session], speech(1))
        session.close()
        avatar.close()
        assert driver_of(device).blocks == {}
    renderer.close()
    renderer.close()


@pytest.mark.parametrize("room", [100_000, 500_000, 600_000, 1_000_000])
def test_an_avatar_that_does_not_fit_leaves_nothing(path: Path, room: int) -> None:
    device = computing_device(room=room)
    renderer = TensorRTRenderer(TensorRTOptions(max_batch=64), device=device)
    with open_hvia(path) as file, pytest.raises(RendererError, match="out of memory"):
        renderer.load(file)
    assert driver_of(device).blocks == {}


def test_a_build_that_is_refused_names_the_graph(device: Device, path: Path) -> None:
    device.engine.fault = RendererError("it cannot be read", hint="export it anew")  # type: ignore[attr-defined]
    renderer = TensorRTRenderer(device=device)
    renderer._workshop.cache.clean()
    with (
        open_hvia(path) as file,
        pytest.raises(RendererError, match=r"tiny/motion: it cannot be read \(export"),
    ):
        renderer.load(file)


def test_steady_sizes_are_replayed_and_give_the_same(device: Device, path: Path) -> None:
    def film(cuda_graphs: bool) -> tuple[list[np.ndarray], int]:
        device = computing_device()
        renderer, avatar = loaded(device, path, cuda_graphs=cuda_graphs)
        sessions = [avatar.open(seed=n) for n in range(3)]
        sounds = [speech(3, seed) for seed in range(2 * STEADY)]
        drawn = [frame for given in sounds for frame in renderer.step(sessions, given)]
        return [frame.data for frame in drawn if frame is not None], driver_of(device).replayed

    plain, none = film(False)
    replayed, some = film(True)
    assert none == 0
    assert some == 2 * (STEADY + 1)  # motion and face, from the sixteenth step on
    assert all(np.array_equal(one, other) for one, other in zip(plain, replayed, strict=True))


def test_only_so_many_sizes_stay_recorded(device: Device, path: Path) -> None:
    lane = motion_lane(device, path)
    for _ in range(2):
        for size in range(1, RECORDED + 2):
            for _ in range(STEADY + 2):
                lane.run(size, feeds(size))
    assert len(lane._recorded) == RECORDED
    lane.close()
    lane.close()
    with pytest.raises(RendererError, match="closed"):
        lane.run(1, feeds(1))


def test_a_batch_that_was_not_built_for_is_refused(device: Device, path: Path) -> None:
    with pytest.raises(ValueError, match="9 rows; the engine was built for 8"):
        motion_lane(device, path).run(9, feeds(9))


def motion_lane(device: Device, path: Path) -> Lane:
    renderer = TensorRTRenderer(TensorRTOptions(max_batch=8), device=device)
    with open_hvia(path) as file:
        return renderer._workshop.lane(file.read("graphs/motion.onnx"), "tiny/motion", "fp32")


def feeds(batch: int) -> dict[str, np.ndarray]:
    return {"pcm": np.ones((batch, 1600), np.float32), "state": np.zeros((batch, 4), np.float32)}


def test_the_precision_that_is_wanted_is_executed(device: Device, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, half = loaded(device, path, precision="fp16")
    assert half.weights.precisions == ("fp16", "fp16")
    half.close()
    _, whole = loaded(device, path, precision="int8")
    assert whole.weights.precisions == ("fp32", "fp32")
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"tiny.hvia has no {which} graph in int8: fp32 is executed" for which in ("motion", "face")]
