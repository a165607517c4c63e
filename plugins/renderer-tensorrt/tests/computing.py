"""A device that computes: memory is the processor's, and an engine is the ONNX file, executed by ONNX Runtime.

It stands behind the very interface that CUDA and TensorRT stand behind, so all the rest of the renderer runs as it does
on a GPU, and what comes out are pictures. It is as strict as a GPU is lax: every address must lie in memory that was
allocated and not freed, and copies in and out take pinned memory alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from visavis.errors import RendererError
from visavis_renderer_tensorrt.device import Device, Gpu, Profile, StalePlan
from visavis_renderer_tensorrt.lane import Port, ports_of

START = 1 << 32
MAGIC = b"computing 1\n"


class Block:
    """Allocated bytes."""

    def __init__(self, driver: ComputingDriver, address: int, size: int) -> None:
        self.driver, self.address, self.size = driver, address, size
        self.data = np.full(size, 0xA5, np.uint8)  # what was never written is no zero

    def free(self) -> None:
        self.driver.blocks.pop(self.address, None)


class ComputingDriver:
    """Memory and streams."""

    def __init__(self, *, records: bool = True, room: int = 1 << 33) -> None:
        self.gpu = Gpu("Computing", (8, 9), room)
        self.blocks: dict[int, Block] = {}
        self.pins: list[NDArray[np.uint8]] = []
        self.closed = False
        self.records, self.room = records, room
        self.replayed = 0
        self.moved = {"in": 0, "out": 0, "within": 0}
        self._next = START
        self._local = threading.local()

    @contextmanager
    def current(self) -> Iterator[None]:
        if self.closed:
            raise RendererError("the GPU was used after its renderer was closed")
        depth = getattr(self._local, "depth", 0)
        self._local.depth = depth + 1
        try:
            yield
        finally:
            self._local.depth = depth

    def check_current(self) -> None:
        assert getattr(self._local, "depth", 0), "no context is current in this thread"

    def allocate(self, size: int) -> Block:
        if sum(block.size for block in self.blocks.values()) + size > self.room:
            raise RendererError("the GPU refused memory: out of memory")
        block = Block(self, self._next, size)
        self._next += (size + 511) // 256 * 256
        self.blocks[block.address] = block
        return block

    def pinned(self, size: int) -> NDArray[np.uint8]:
        self.pins.append(np.full(size, 0x5A, np.uint8))
        return self.pins[-1]

    def stream(self) -> ComputingStream:
        return ComputingStream(self)

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address."""
        for start, block in self.blocks.items():
            if start <= address and address + size <= start + block.size:
                return block.data[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    def is_pinned(self, array: NDArray[Any]) -> bool:
        return any(np.shares_memory(array, pin) for pin in self.pins)

    def close(self) -> None:
        self.closed = True
        self.blocks.clear()


class ComputingStream:
    """Work in order: put off until somebody waits, as on a GPU."""

    handle = 1

    def __init__(self, driver: ComputingDriver) -> None:
        self._driver = driver
        self.queue: list[Callable[[], None]] = []

    def copy_in(self, to: int, source: NDArray[Any]) -> None:
        self._driver.check_current()
        assert self._driver.is_pinned(source)
        assert source.flags.c_contiguous

        def copy() -> None:
            self._driver.at(to, source.nbytes)[...] = source.reshape(-1).view(np.uint8)
            self._driver.moved["in"] += source.nbytes

        self.queue.append(copy)

    def copy_out(self, target: NDArray[Any], source: int) -> None:
        self._driver.check_current()
        assert self._driver.is_pinned(target)
        assert target.flags.c_contiguous

        def copy() -> None:
            target.reshape(-1).view(np.uint8)[...] = self._driver.at(source, target.nbytes)
            self._driver.moved["out"] += target.nbytes

        self.queue.append(copy)

    def copy_within(self, to: int, source: int, size: int) -> None:
        self._driver.check_current()

        def copy() -> None:
            self._driver.at(to, size)[...] = self._driver.at(source, size)
            self._driver.moved["within"] += size

        self.queue.append(copy)

    def record(self, work: Callable[[], None]) -> ComputingReplay | None:
        if not self._driver.records:
            return None
        assert not self.queue, "what was put in before would be recorded"
        work()
        recorded, self.queue = self.queue, []
        return ComputingReplay(self, recorded)

    def wait(self) -> None:
        self._driver.check_current()
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def free(self) -> None:
        self.queue.clear()


class ComputingReplay:
    """Recorded work."""

    def __init__(self, stream: ComputingStream, work: list[Callable[[], None]]) -> None:
        self._stream, self._work = stream, work
        self.freed = False

    def launch(self) -> None:
        assert not self.freed
        self._stream._driver.replayed += 1
        self._stream.queue.extend(self._work)

    def free(self) -> None:
        self.freed = True


class ComputingEngine:
    """Its plans are the ONNX files themselves."""

    def __init__(self, driver: ComputingDriver, version: str = "1.0") -> None:
        self.name, self.version = "computing", version
        self.driver = driver
        self.built: list[bytes] = []
        self.before_build: Callable[[], None] = lambda: None
        self.fault: RendererError | None = None

    def target(self) -> str:
        return "Computing, sm89"

    def build(self, graph: bytes, profile: Profile, tell: Callable[[str], None]) -> bytes:
        if self.fault is not None:
            raise self.fault
        self.before_build()
        tell("reading")
        onnx.checker.check_model(onnx.load_model_from_string(graph))
        self.built.append(graph)
        return MAGIC + profile.most.to_bytes(2, "big") + graph

    def load(self, plan: bytes) -> ComputingProgram:
        if not plan.startswith(MAGIC):
            raise StalePlan("it is of another version")
        start = len(MAGIC)
        return ComputingProgram(self.driver, plan[start + 2 :], int.from_bytes(plan[start : start + 2], "big"))


class ComputingProgram:
    """An ONNX file on the device."""

    memory = 0
    records_itself = False

    def __init__(self, driver: ComputingDriver, graph: bytes, most: int) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
        self.driver, self.most, self.graph = driver, most, graph
        self.inputs, self.outputs = ports_of(graph)

    def launch(self) -> ComputingLaunch:
        return ComputingLaunch(self)

    def free(self) -> None:
        self.session = None


class ComputingLaunch:
    """Runs it."""

    def __init__(self, program: ComputingProgram) -> None:
        self._program = program

    def run(self, batch: int, addresses: Mapping[str, int], stream: ComputingStream) -> None:
        program = self._program
        assert 1 <= batch <= program.most
        places = dict(addresses)

        def view(port: Port) -> NDArray[Any]:
            flat = program.driver.at(places[port.name], batch * port.size)
            return flat.view(port.dtype).reshape(batch, *port.shape)

        def execute() -> None:
            feeds = {port.name: view(port) for port in program.inputs}
            names = [port.name for port in program.outputs]
            for port, value in zip(program.outputs, program.session.run(names, feeds), strict=True):
                view(port)[...] = value

        stream.queue.append(execute)


def computing_device(**options: Any) -> Device:
    """A new one."""
    driver = ComputingDriver(**options)
    return Device(driver, ComputingEngine(driver))
