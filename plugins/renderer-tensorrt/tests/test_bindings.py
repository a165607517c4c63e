"""Both bindings of CUDA at work, without a GPU.

The real cuda.bindings load a driver of our own, compiled here, whose device is the processor. PyCUDA cannot be
installed without a CUDA toolkit: a stand-in has its names and argument orders. On both the renderer draws what ONNX
Runtime draws. What a GPU does with the same calls is for `make test-gpu`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from visavis.errors import RendererError
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_tensorrt import TensorRTOptions, check, checking, make, tensorrt_engine

HERE = Path(__file__).parent


def run(name: str, shim: str, folder: Path) -> str:
    path = os.pathsep.join([str(HERE), str(HERE / "stand_in")])
    command = [sys.executable, HERE / "binding_script.py", name, shim, str(tiny_avatar(folder / "tiny.hvia"))]
    env = {**os.environ, "PYTHONPATH": path, "VISAVIS_CACHE_DIR": str(folder / "cache")}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_cuda_python(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda.bindings has no wheel for this platform")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler for Linux is wanted")
    shim = tmp_path / "libcuda.so.1"
    command = [compiler, "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", shim, HERE / "computing_cuda.c"]
    subprocess.run(command, check=True, timeout=60)
    assert "dB" in run("cuda-python", str(shim), tmp_path)


def test_pycuda(tmp_path: Path) -> None:
    assert "dB" in run("pycuda", "-", tmp_path)


# -- what is said where something is missing


def test_without_tensorrt_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "MODULES", {"tensorrt": ("no_tensorrt",), "tensorrt-rtx": ("no_rtx",)})
    said = check()
    assert said is not None
    assert said.startswith("TensorRT cannot be imported (no_tensorrt: No module named")
    assert "pip install 'visavis-renderer-tensorrt[cuda-python]'" in said


def test_without_a_binding_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dict.fromkeys(checking.DRIVERS, ("no_binding", "Driver"))
    monkeypatch.setattr(checking, "DRIVERS", missing)
    with pytest.raises(RendererError, match=r"no binding of CUDA can be imported .*\[cuda-python\]'"):
        checking.driver_of("auto", 0)
    with pytest.raises(RendererError, match=r"pycuda can be imported .*\[cuda\]'"):
        checking.driver_of("pycuda", 0)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU here")
def test_without_a_driver_it_is_a_sentence() -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda.bindings has no wheel for this platform")
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX has no wheel for this platform")
    with pytest.raises(RendererError, match="there is no NVIDIA driver here"):
        make(TensorRTOptions())
