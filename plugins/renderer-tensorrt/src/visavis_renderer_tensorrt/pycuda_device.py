"""Memory and streams by PyCUDA. It has no CUDA graphs: work is launched piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as cuda
from visavis.errors import RendererError

from visavis_renderer_tensorrt.device import Bytes, Gpu, Memory, Replay, Stream


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever PyCUDA raises becomes a RendererError with CUDA's words."""
    try:
        yield
    except cuda.Error as error:
        short = isinstance(error, cuda.MemoryError)
        hint = "give it fewer sessions or a smaller max_batch" if short else "see `nvidia-smi`"
        raise RendererError(f"the GPU refused {what}: {' '.join(str(error).split())}", hint=hint) from error


class PyCudaDriver:
    """One GPU. Raises RendererError if it is not there."""

    def __init__(self, index: int) -> None:
        with refusing("to be used"):
            cuda.init()
            count = cuda.Device.count()
        if index >= count:
            raise RendererError(f"there is no GPU {index}; {count} can be used", hint="`nvidia-smi -L` counts from 0")
        with refusing("to be used"):
            device = cuda.Device(index)
            self._context: Any = device.retain_primary_context()
            self.gpu = Gpu(str(device.name()), tuple(device.compute_capability()), int(device.total_memory()))

    @contextmanager
    def current(self) -> Iterator[None]:
        """This thread's calls are about this GPU, within."""
        if self.closed:
            raise RendererError("the GPU was used after its renderer was closed")
        self._context.push()
        try:
            yield
        finally:
            cuda.Context.pop()

    def allocate(self, size: int) -> Memory:
        """Device memory."""
        with self.current(), refusing(f"{size} bytes"):
            return _Memory(self, cuda.mem_alloc(size), size)

    def pinned(self, size: int) -> Bytes:
        """Page-locked memory; it goes with the array's last view."""
        with self.current(), refusing(f"{size} bytes of pinned memory"):
            block: Bytes = cuda.pagelocked_empty(size, np.uint8)
        return block

    def stream(self) -> Stream:
        """A stream."""
        with self.current(), refusing("a stream"):
            return _Stream(self, cuda.Stream())

    def close(self) -> None:
        """Let go of the GPU."""
        context, self._context = self._context, None
        if context is not None:
            context.detach()

    @property
    def closed(self) -> bool:
        """Whether it was closed: the GPU's memory has gone by then."""
        return self._context is None


class _Memory:
    def __init__(self, driver: PyCudaDriver, block: Any, size: int) -> None:
        self._driver, self._block = driver, block
        self.address, self.size = int(block), size

    def free(self) -> None:
        block, self._block = self._block, None
        if block is not None and not self._driver.closed:
            with self._driver.current(), refusing("to free memory"):
                block.free()


class _Stream:
    def __init__(self, driver: PyCudaDriver, stream: Any) -> None:
        self._driver, self._stream = driver, stream
        self.handle = int(stream.handle)

    def copy_in(self, to: int, source: Bytes) -> None:
        with refusing("a copy"):
            cuda.memcpy_htod_async(to, source, self._stream)

    def copy_out(self, target: Bytes, source: int) -> None:
        with refusing("a copy"):
            cuda.memcpy_dtoh_async(target, source, self._stream)

    def copy_within(self, to: int, source: int, size: int) -> None:
        with refusing("a copy"):
            cuda.memcpy_dtod_async(to, source, size, self._stream)

    def record(self, work: Callable[[], None]) -> Replay | None:
        return None

    def wait(self) -> None:
        with refusing("a step"):
            self._stream.synchronize()

    def free(self) -> None:
        self._stream = None  # PyCUDA destroys it with the object
