"""What is here: TensorRT, a binding of CUDA, a GPU; and what to install where one of them is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from visavis.errors import RendererError

from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.device import Device, Driver

DRIVERS: Final = {
    "cuda-python": ("visavis_renderer_tensorrt.cuda_python_device", "CudaPythonDriver"),
    "pycuda": ("visavis_renderer_tensorrt.pycuda_device", "PyCudaDriver"),
}
INSTALL: Final = {
    "cuda-python": "pip install 'visavis-renderer-tensorrt[cuda-python]'",
    "pycuda": "pip install 'visavis-renderer-tensorrt[cuda]'",
    "rtx": "pip install 'visavis-renderer-tensorrt[rtx]'",
}
"""What brings each; doctor and README say the same."""


def device_of(options: TensorRTOptions) -> Device:
    """The GPU that the options name, and what executes on it. Raises RendererError with the command that helps."""
    from visavis_renderer_tensorrt.tensorrt_engine import TensorRTEngine, find

    try:
        name, module = find(options.engine)
    except ImportError as error:
        wanted = "TensorRT" if options.engine == "auto" else options.engine
        hint = INSTALL["rtx"] if options.engine == "tensorrt-rtx" else f"{INSTALL['cuda-python']}, or [rtx] for RTX"
        raise RendererError(f"{wanted} cannot be imported ({error})", hint=hint) from error
    driver = driver_of(options.driver, options.device)
    return Device(driver, TensorRTEngine(name, module, driver, cuda_graphs=options.cuda_graphs))


def driver_of(wanted: str, index: int) -> Driver:
    """A GPU by a binding of CUDA that is installed. Raises RendererError if there is no binding, no driver, no GPU."""
    said = []
    for name in DRIVERS if wanted == "auto" else (wanted,):
        module, kind = DRIVERS[name]
        try:
            made: Driver = getattr(import_module(module), kind)(index)
        except (ImportError, OSError) as error:  # a package without the libraries that it was built against
            said.append(f"{name}: {' '.join(str(error).split())}")
            continue
        return made
    what = "no binding of CUDA" if wanted == "auto" else wanted
    hint = INSTALL["pycuda" if wanted == "pycuda" else "cuda-python"]
    raise RendererError(f"{what} can be imported ({'; '.join(said)})", hint=hint)


def problem() -> str | None:
    """Why the renderer cannot work here, in one line with the command that helps; None if it can."""
    try:
        device = device_of(TensorRTOptions())
    except RendererError as error:
        return str(error)
    device.driver.close()
    return None
