"""What `pycuda_device` calls of ``pycuda.driver`` (2026.1: src/wrapper/wrap_cudadrv.cpp), on the processor's memory."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

ROOM = 1 << 28


class Error(Exception):
    """CUDA's."""


class MemoryError(Error):  # noqa: A001 (it is called so)
    """No room."""


class Context:
    """A context; the thread's stack of them is counted."""

    depth = 0

    def push(self) -> None:
        Context.depth += 1

    @staticmethod
    def pop() -> None:
        assert Context.depth > 0
        Context.depth -= 1

    def detach(self) -> None:
        pass


def _current() -> None:
    if not Context.depth:
        raise Error("invalid device context")


def init(flags: int = 0) -> None:
    pass


class Device:
    """The one device."""

    def __init__(self, number: int) -> None:
        assert number == 0

    @staticmethod
    def count() -> int:
        return 1

    def name(self) -> str:
        return "Computing"

    def compute_capability(self) -> tuple[int, int]:
        return 8, 9

    def total_memory(self) -> int:
        return ROOM

    def retain_primary_context(self) -> Context:
        return Context()


class DeviceAllocation:
    """Allocated memory; its number is its address."""

    def __init__(self, size: int) -> None:
        self._block: Any = (ctypes.c_uint8 * size)()

    def __int__(self) -> int:
        return ctypes.addressof(self._block)

    def free(self) -> None:
        _current()
        self._block = None


def mem_alloc(bytes: int) -> DeviceAllocation:
    _current()
    if bytes > ROOM:
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(bytes)


def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    _current()
    return np.empty(shape, dtype, order)


class Stream:
    """A stream, in which all happens at once."""

    def __init__(self, flags: int = 0) -> None:
        _current()
        self.handle = id(self)

    def synchronize(self) -> None:
        _current()


def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream | None = None) -> None:
    _current()
    ctypes.memmove(int(dest), src.ctypes.data, src.nbytes)


def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream | None = None) -> None:
    _current()
    ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes)


def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream | None = None) -> None:
    _current()
    ctypes.memmove(int(dest), int(src), size)
