"""The TensorRT renderer draws what ONNX Runtime draws: its device computes here, so pictures can be compared.

What TensorRT will be measured with on a GPU (`make test-gpu`) is the same code.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from computing import computing_device
from visavis.testing.parity import FP32, expect_parity, filmed
from visavis.testing.tiny import tiny_avatar
from visavis_renderer_onnxruntime import OnnxRuntimeOptions
from visavis_renderer_onnxruntime import make as make_onnxruntime
from visavis_renderer_tensorrt import TensorRTOptions
from visavis_renderer_tensorrt.renderer import TensorRTRenderer

SPEC = find_spec("visavis_store_filesystem")
SAMPLES = sorted(Path(SPEC.origin).parent.glob("avatars/*.hvia")) if SPEC and SPEC.origin else []


def on_device() -> TensorRTRenderer:
    return TensorRTRenderer(TensorRTOptions(max_batch=8), device=computing_device())


def compare(path: Path, seconds: float) -> None:
    truth = filmed(lambda: make_onnxruntime(OnnxRuntimeOptions(precision="fp32")), path, seconds=seconds)
    found = expect_parity(truth, filmed(on_device, path, seconds=seconds), psnr=FP32)
    assert found.levels <= 3


@pytest.mark.parametrize("inputs", [("expression",), ("expression", "pose", "base_y", "base_uv")])
def test_the_tiny_avatar(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    compare(tiny_avatar(tmp_path, inputs=inputs), seconds=5.0)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_avatars(path: Path) -> None:
    compare(path, seconds=1.2)
