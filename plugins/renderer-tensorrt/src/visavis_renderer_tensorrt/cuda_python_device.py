"""Memory and streams by cuda-python, NVIDIA's own binding (``cuda.bindings``): wheels, no compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from cuda.bindings import driver as cuda
from visavis.errors import RendererError

from visavis_renderer_tensorrt.device import Bytes, Gpu, Memory, Replay, Stream

_NON_BLOCKING: Final = 1
_THREAD_LOCAL: Final = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the driver and give what it returns beside its status. Raises RendererError with CUDA's words."""
    status, *values = function(*arguments)
    if status != cuda.CUresult.CUDA_SUCCESS:
        _, said = cuda.cuGetErrorString(status)
        words = said.decode() if isinstance(said, bytes) else status.name
        hint = "give it fewer sessions or a smaller max_batch" if "MEMORY" in status.name else "see `nvidia-smi`"
        raise RendererError(f"the GPU refused {function.__name__}: {words}", hint=hint)
    return values[0] if len(values) == 1 else tuple(values)


class CudaPythonDriver:
    """One GPU. Raises RendererError if it is not there."""

    def __init__(self, index: int) -> None:
        try:
            call(cuda.cuInit, 0)
            count = call(cuda.cuDeviceGetCount)
        except RuntimeError as error:  # no driver library: the binding's own error
            raise RendererError(f"there is no NVIDIA driver here: {error}", hint="install NVIDIA's driver") from error
        if index >= count:
            raise RendererError(f"there is no GPU {index}; {count} can be used", hint="`nvidia-smi -L` counts from 0")
        self._device: Any = call(cuda.cuDeviceGet, index)
        self._context: Any = call(cuda.cuDevicePrimaryCtxRetain, self._device)
        name = call(cuda.cuDeviceGetName, 128, self._device)
        self.gpu = Gpu(
            name.split(b"\0")[0].decode(),
            (self._attribute("MAJOR"), self._attribute("MINOR")),
            int(call(cuda.cuDeviceTotalMem, self._device)),
        )

    def _attribute(self, which: str) -> int:
        asked = getattr(cuda.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{which}")
        return int(call(cuda.cuDeviceGetAttribute, asked, self._device))

    @contextmanager
    def current(self) -> Iterator[None]:
        """This thread's calls are about this GPU, within."""
        if self.closed:
            raise RendererError("the GPU was used after its renderer was closed")
        call(cuda.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            call(cuda.cuCtxPopCurrent)

    def allocate(self, size: int) -> Memory:
        """Device memory."""
        with self.current():
            return _Memory(self, int(call(cuda.cuMemAlloc, size)), size)

    def pinned(self, size: int) -> Bytes:
        """Page-locked memory; it goes with the array's last view."""
        with self.current():
            address = int(call(cuda.cuMemHostAlloc, size, 0))
        block: Bytes = np.asarray(_Pinned(self, address, size))
        return block

    def stream(self) -> Stream:
        """A stream."""
        with self.current():
            return _Stream(self, call(cuda.cuStreamCreate, _NON_BLOCKING))

    def close(self) -> None:
        """Let go of the GPU."""
        if self._context is not None:
            self._context = None
            call(cuda.cuDevicePrimaryCtxRelease, self._device)

    @property
    def closed(self) -> bool:
        """Whether it was closed: the GPU's memory has gone by then."""
        return self._context is None


class _Memory:
    def __init__(self, driver: CudaPythonDriver, address: int, size: int) -> None:
        self._driver = driver
        self.address, self.size = address, size

    def free(self) -> None:
        address, self.address = self.address, 0
        if address and not self._driver.closed:
            with self._driver.current():
                call(cuda.cuMemFree, address)


class _Pinned:
    """Owns page-locked memory; an array made of it holds on to it."""

    def __init__(self, driver: CudaPythonDriver, address: int, size: int) -> None:
        self._driver, self._address = driver, address
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (size,), "typestr": "|u1"}

    def __del__(self) -> None:
        if not self._driver.closed:
            with self._driver.current():
                call(cuda.cuMemFreeHost, self._address)


class _Stream:
    def __init__(self, driver: CudaPythonDriver, stream: Any) -> None:
        self._driver, self._stream = driver, stream
        self.handle = int(stream)

    def copy_in(self, to: int, source: Bytes) -> None:
        call(cuda.cuMemcpyHtoDAsync, to, source.ctypes.data, source.nbytes, self._stream)

    def copy_out(self, target: Bytes, source: int) -> None:
        call(cuda.cuMemcpyDtoHAsync, target.ctypes.data, source, target.nbytes, self._stream)

    def copy_within(self, to: int, source: int, size: int) -> None:
        call(cuda.cuMemcpyDtoDAsync, to, source, size, self._stream)

    def record(self, work: Callable[[], None]) -> Replay | None:
        call(cuda.cuStreamBeginCapture, self._stream, _THREAD_LOCAL)
        try:
            work()
        finally:
            graph = call(cuda.cuStreamEndCapture, self._stream)
        try:
            return _Replay(self._driver, call(cuda.cuGraphInstantiate, graph, 0), self._stream)
        finally:
            call(cuda.cuGraphDestroy, graph)

    def wait(self) -> None:
        call(cuda.cuStreamSynchronize, self._stream)

    def free(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and not self._driver.closed:
            with self._driver.current():
                call(cuda.cuStreamDestroy, stream)


class _Replay:
    def __init__(self, driver: CudaPythonDriver, graph: Any, stream: Any) -> None:
        self._driver, self._graph, self._stream = driver, graph, stream

    def launch(self) -> None:
        call(cuda.cuGraphLaunch, self._graph, self._stream)

    def free(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None and not self._driver.closed:
            with self._driver.current():
                call(cuda.cuGraphExecDestroy, graph)
