"""One program with its stream, its pinned memory and its device memory: rows in, rows out.

A step copies its rows into pinned memory, and puts copies, execution and the copy back into the stream at one go; the
processor waits once. Sizes of batch that keep coming are recorded and replayed as CUDA graphs.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from visavis.errors import RendererError

from visavis_renderer_tensorrt.device import Driver, Launch, Memory, Program, Replay, Stream

STEADY: Final = 16
"""So many steps of one size make it worth recording."""
RECORDED: Final = 6
"""The most sizes that are kept recorded; each has a context of its own, as TensorRT asks for."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, type, and the shape of a row. ``staged`` is False where rows stay on the device."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    staged: bool = True

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return prod(self.shape) * self.dtype.itemsize


def ports_of(graph: bytes, *, unstaged: Sequence[str] = ()) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of an ONNX file; those named in ``unstaged`` are filled on the device."""
    model = onnx.load_model_from_string(graph).graph

    def port(value: Any) -> Port:
        kind = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = tuple(dim.dim_value for dim in kind.shape.dim[1:])
        return Port(value.name, dtype, shape, value.name not in unstaged)

    return [port(value) for value in model.input], [port(value) for value in model.output]


@dataclass
class _End:
    """A port with its memory for the largest batch."""

    port: Port
    memory: Memory
    pinned: NDArray[Any] | None

    def rows(self, batch: int) -> NDArray[Any]:
        assert self.pinned is not None
        return self.pinned[:batch]


class Lane:
    """Runs one program for one caller at a time; safe to call from several threads.

    Work of different lanes overlaps on the GPU, for each has a stream of its own.
    """

    def __init__(
        self, driver: Driver, program: Program, ports: tuple[list[Port], list[Port]], most: int, *, record: bool
    ) -> None:
        self._driver, self._program, self._most = driver, program, most
        self._record = record and not program.records_itself
        self._lock = threading.Lock()
        self._seen: Counter[int] = Counter()
        self._recorded: OrderedDict[int, Replay] = OrderedDict()
        self._closed = False
        with ExitStack() as undo:
            undo.callback(program.free)
            self._stream: Stream = driver.stream()
            undo.callback(self._stream.free)
            self._launch = program.launch()
            self._inputs, self._outputs = ([self._end(port, undo) for port in group] for group in ports)
            self._undo = undo.pop_all()
        self._addresses = {end.port.name: end.memory.address for end in (*self._inputs, *self._outputs)}
        self.memory = program.memory + sum(end.memory.size for end in (*self._inputs, *self._outputs))
        """Bytes of the device that it takes."""

    def _end(self, port: Port, undo: ExitStack) -> _End:
        memory = self._driver.allocate(self._most * port.size)
        undo.callback(memory.free)
        if not port.staged:
            return _End(port, memory, None)
        pinned = self._driver.pinned(self._most * port.size)
        return _End(port, memory, pinned.view(port.dtype).reshape(self._most, *port.shape))

    def run(
        self,
        batch: int,
        feeds: Mapping[str, NDArray[Any]],
        fill: Callable[[Stream, Mapping[str, int]], None] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Execute for ``batch`` rows; ``feeds`` has an array for each staged input. The outputs are copies.

        ``fill`` puts what fills the other inputs into the stream, given the addresses of all ports. Raises
        RendererError; ValueError for a batch that is too large.
        """
        if batch > self._most:
            raise ValueError(f"{batch} rows; the engine was built for {self._most}")
        with self._lock, self._driver.current():
            if self._closed:
                raise RendererError("the avatar was closed")
            for end in self._inputs:
                if end.port.staged:
                    end.rows(batch)[...] = feeds[end.port.name]
            if fill is not None:
                fill(self._stream, self._addresses)
            self._execute(batch)
            self._stream.wait()
            return {end.port.name: end.rows(batch).copy() for end in self._outputs}

    def _execute(self, batch: int) -> None:
        recorded = self._recording(batch)
        if recorded is not None:
            recorded.launch()
        else:
            self._work(self._launch, batch)

    def _work(self, launch: Launch, batch: int) -> None:
        """One step, put into the stream."""
        for end in self._inputs:
            if end.port.staged:
                self._stream.copy_in(end.memory.address, end.rows(batch))
        launch.run(batch, self._addresses, self._stream)
        for end in self._outputs:
            self._stream.copy_out(end.rows(batch), end.memory.address)

    def _recording(self, batch: int) -> Replay | None:
        """The recorded step of that size; it is recorded when it has come often enough."""
        if batch in self._recorded:
            self._recorded.move_to_end(batch)
            return self._recorded[batch]
        self._seen[batch] += 1
        if not self._record or self._seen[batch] < STEADY:
            return None
        launch = self._program.launch()
        self._work(launch, batch)  # a context settles its shapes in a first run, which must not be recorded
        self._stream.wait()
        replay = self._stream.record(lambda: self._work(launch, batch))
        self._record = replay is not None
        if replay is None:
            return None
        if len(self._recorded) >= RECORDED:
            size, oldest = self._recorded.popitem(last=False)
            self._seen[size] = 0
            oldest.free()
        self._recorded[batch] = replay
        return replay

    def close(self) -> None:
        """Let go of everything. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._driver.closed:
                return
            with self._driver.current():
                for replay in self._recorded.values():
                    replay.free()
                self._recorded.clear()
                self._undo.close()
