"""The one narrow interface behind which every CUDA call stands: allocate, copy in, copy out, stream, execute.

``cuda_python_device`` and ``pycuda_device`` bring memory and streams, ``tensorrt_engine`` builds and executes. The unit
tests bring a device of their own that computes the same on the processor, so that pictures are compared, not calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Bytes = NDArray[Any]
"""A contiguous array in the processor's memory."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device: its name, compute capability ``(8, 9)``, and bytes of memory."""

    name: str
    capability: tuple[int, int]
    memory: int


class Memory(Protocol):
    """Bytes on the device. Freed by ``free``, which may be called twice."""

    address: int
    size: int

    def free(self) -> None:
        """Let go."""


class Replay(Protocol):
    """Recorded work."""

    def launch(self) -> None:
        """Put all of it into the stream that it was recorded on."""

    def free(self) -> None:
        """Let go. May be called twice."""


class Stream(Protocol):
    """Work in order. Copies and launches return at once; :meth:`wait` waits. Used by one thread at a time."""

    handle: int
    """What TensorRT knows it by."""

    def copy_in(self, to: int, source: Bytes) -> None:
        """Copy pinned memory to a device address."""

    def copy_out(self, target: Bytes, source: int) -> None:
        """Copy from a device address to fill pinned memory."""

    def copy_within(self, to: int, source: int, size: int) -> None:
        """Copy bytes from one device address to another."""

    def record(self, work: Callable[[], None]) -> Replay | None:
        """Record what ``work`` puts into this stream instead of doing it; None where the binding has no CUDA graphs."""

    def wait(self) -> None:
        """Wait until all is done. Raises RendererError if something failed."""

    def free(self) -> None:
        """Let go. May be called twice."""


class Driver(Protocol):
    """What a binding of CUDA brings: memory and streams of one GPU."""

    gpu: Gpu

    @property
    def closed(self) -> bool:
        """Whether it was closed: all its memory has gone by then."""

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU the one that this thread's calls are about."""

    def allocate(self, size: int) -> Memory:
        """Device memory, aligned to 256 bytes. Raises RendererError if there is no room."""

    def pinned(self, size: int) -> Bytes:
        """Page-locked memory of the processor, uint8 ``[size]``."""

    def stream(self) -> Stream:
        """A stream that waits for no other."""

    def close(self) -> None:
        """Let go of the GPU. May be called twice."""


class Launch(Protocol):
    """An engine with working memory of its own: what puts it into a stream."""

    def run(self, batch: int, addresses: Mapping[str, int], stream: Stream) -> None:
        """Execute for ``batch`` rows, whose tensors lie at the addresses. Returns at once."""


class Program(Protocol):
    """An engine on the device."""

    memory: int
    """Bytes of the device that its weights and its working memory take."""
    records_itself: bool
    """Whether it replays CUDA graphs by itself, so that nobody else should record it."""

    def launch(self) -> Launch:
        """Something to run it with, on one stream; all of them share one working memory."""

    def free(self) -> None:
        """Let go. May be called twice."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The batches that an engine is built for: 1 to ``most`` rows, quickest at ``best``."""

    most: int

    @property
    def best(self) -> int:
        """The size to choose kernels for: a quarter of the most, for boxes are seldom full."""
        return max(1, self.most // 4)


class Engine(Protocol):
    """What builds plans of ONNX graphs and loads them: TensorRT, on some device."""

    name: str
    version: str

    def target(self) -> str:
        """What its plans are bound to: a compute capability, and the GPU's name where that matters."""

    def build(self, graph: bytes, profile: Profile, tell: Callable[[str], None]) -> bytes:
        """Build a plan; ``tell`` hears what it is doing. Raises RendererError with the engine's words."""

    def load(self, plan: bytes) -> Program:
        """Bring a plan to the device. Raises StalePlan if it was built for something else."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU and what executes on it."""

    driver: Driver
    engine: Engine


class StalePlan(Exception):  # noqa: N818 - it is named after what it says
    """A plan that this device or this version does not take."""
