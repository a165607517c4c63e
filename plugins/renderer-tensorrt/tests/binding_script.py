"""Runs in a process of its own: a binding of CUDA at work on a driver whose device is the processor.

    python binding_script.py cuda-python SHIM AVATAR
    python binding_script.py pycuda - AVATAR

Memory, streams, recorded work, and a whole renderer on top, whose pictures are compared with ONNX Runtime's.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from computing import ComputingEngine, ComputingLaunch, ComputingProgram
from visavis.errors import RendererError
from visavis.testing.parity import expect_parity, filmed
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.checking import driver_of
from visavis_renderer_tensorrt.device import Device, Driver
from visavis_renderer_tensorrt.renderer import TensorRTRenderer


class Launch(ComputingLaunch):
    """Executes at once, when all that was put into the stream before has happened."""

    def run(self, batch: int, addresses: Any, stream: Any) -> None:
        stream.wait()
        stream.queue = []
        super().run(batch, addresses, stream)
        stream.queue.pop()()


class Program(ComputingProgram):
    """The same on plain addresses."""

    def launch(self) -> Launch:
        return Launch(self)


class Engine(ComputingEngine):
    """What a binding's addresses point to is the processor's memory."""

    def at(self, address: int, size: int) -> np.ndarray:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def load(self, plan: bytes) -> Program:
        loaded = super().load(plan)
        return Program(self, loaded.graph, loaded.most)


def memory_and_streams(driver: Driver, *, records: bool) -> None:
    """Copies in, within and out; recorded work; a refusal."""
    assert (driver.gpu.name, driver.gpu.capability) == ("Computing", (8, 9))
    one, other = driver.allocate(1000), driver.allocate(1000)
    given, taken, stream = driver.pinned(1000), driver.pinned(1000), driver.stream()
    given[:] = np.arange(1000) % 251

    def work() -> None:
        stream.copy_in(one.address, given)
        stream.copy_within(other.address + 500, one.address, 500)
        stream.copy_within(other.address, one.address + 500, 500)
        stream.copy_out(taken, other.address)

    with driver.current():
        work()
        stream.wait()
        assert (taken == np.roll(given, 500)).all()
        replay = stream.record(work)
        assert (replay is not None) == records
        if replay is not None:
            given[:] = 7
            replay.launch()
            stream.wait()
            assert (taken == 7).all()
            replay.free()
            replay.free()
    with pytest.raises(RendererError, match=r"out of memory.*smaller max_batch"):
        driver.allocate(1 << 40)
    for thing in (one, other, stream):
        thing.free()
        thing.free()


def pictures(name: str, avatar: Path) -> None:
    """A renderer whose device is the binding's."""

    def make() -> TensorRTRenderer:
        driver = driver_of(name, 0)
        options = TensorRTOptions(max_batch=4, cuda_graphs=False)
        return TensorRTRenderer(options, device=Device(driver, Engine(driver)))

    truth = filmed(lambda: make_onnxruntime(OnnxRuntimeOptions(precision="fp32")), avatar)
    print(expect_parity(truth, filmed(make, avatar)))


def main(name: str, shim: str, avatar: str) -> None:
    """All of it; then nothing is left."""
    library = ctypes.CDLL(shim, mode=ctypes.RTLD_GLOBAL) if name == "cuda-python" else None
    driver = driver_of(name, 0)
    memory_and_streams(driver, records=name == "cuda-python")
    driver.close()
    driver.close()
    with pytest.raises(RendererError, match="after its renderer was closed"):
        driver.allocate(1)
    with pytest.raises(RendererError, match="there is no GPU 3; 1 can be used"):
        driver_of(name, 3)
    pictures(name, Path(avatar))
    if library is not None:
        gc.collect()
        assert library.computing_contexts() == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
