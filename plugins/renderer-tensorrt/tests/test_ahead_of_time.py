"""TensorRT-RTX parses every graph that ships and builds it for four generations of GPUs, on a machine that has none.

Real engines by the real builder. What needs a GPU, to load and to execute them, is in `make test-gpu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from shipped import Shipped, shipped
from visavis.errors import RendererError
from visavis_renderer_tensorrt.device import Profile
from visavis_renderer_tensorrt.lane import ports_of
from visavis_renderer_tensorrt.tensorrt_engine import TensorRTEngine, batches, find, parsed

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX has no wheel for this platform")

CAPABILITIES = [(7, 5), (8, 6), (8, 9), (12, 0)]
PROFILE = Profile(64)
MEGA = 1 << 20
SHIPPED = shipped()


def engine(capability: tuple[int, int] = (8, 9)) -> TensorRTEngine:
    return TensorRTEngine(*find("tensorrt-rtx"), capability=capability)


@pytest.fixture(params=SHIPPED, ids=str, scope="module")
def graph(request: pytest.FixtureRequest) -> Shipped:
    return request.param


@pytest.fixture(scope="module")
def network(graph: Shipped) -> Any:
    making = engine()
    builder = trt.Builder(making._log)
    made = parsed(trt, builder, graph.data, making._log)
    return builder, made


def test_there_is_something_to_build() -> None:
    assert {"mira-motion-fp32", "mira-face-fp32", "tiny-motion-fp32", "tiny-face-fp32"} <= set(map(str, SHIPPED))


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: "sm{}{}".format(*c))
def test_it_builds(graph: Shipped, capability: tuple[int, int]) -> None:
    making, phases = engine(capability), []
    plan = making.build(graph.data, PROFILE, phases.append)
    assert making.target() == "sm{}{}".format(*capability)
    assert len(plan) < 64 * MEGA
    assert len(phases) > 3  # a person sees that it goes on
    weights, working = making.sizes()
    numbers = sum(int(np.prod(tensor.dims)) for tensor in onnx.load_model_from_string(graph.raw).graph.initializer)
    assert weights < 4.4 * numbers + MEGA  # as floats at most, however few bytes the file has for each
    assert 0 < working < PROFILE.most * 8 * MEGA


def test_its_ends_are_those_of_the_contract(graph: Shipped, network: Any) -> None:
    _, made = network
    inputs, outputs = ports_of(graph.data)
    names = {"float32": trt.float32, "uint8": trt.uint8}
    for ports, count, get in (
        (inputs, made.num_inputs, made.get_input),
        (outputs, made.num_outputs, made.get_output),
    ):
        found = {get(index).name: get(index) for index in range(count)}
        assert set(found) == {port.name for port in ports}
        for port in ports:
            assert found[port.name].dtype == names[port.dtype.name]
            assert tuple(found[port.name].shape) == (-1, *port.shape)


def test_its_batches_reach_from_one_to_the_most(graph: Shipped, network: Any) -> None:
    builder, made = network
    profile = batches(builder, made, PROFILE)
    for port in ports_of(graph.data)[0]:
        low, best, high = (tuple(shape) for shape in profile.get_shape(port.name))
        assert low == (1, *port.shape)
        assert best == (16, *port.shape)
        assert high == (64, *port.shape)


def test_its_layers_have_the_precision_that_it_says(graph: Shipped, network: Any) -> None:
    """A strongly typed network is executed in the types that its layers have; sums of products are what costs."""
    _, made = network
    assert made.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    layers = [made.get_layer(index) for index in range(made.num_layers)]
    heavy = {trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.DECONVOLUTION}
    types = {layer.get_output(0).dtype for layer in layers if layer.type in heavy}
    quantised = any(layer.type == trt.LayerType.QUANTIZE for layer in layers)
    if graph.precision == "fp32":
        assert types == {trt.float32}
    elif graph.precision == "fp16":
        assert trt.float16 in types
    assert quantised == (graph.precision == "int8")


def test_a_gpu_that_is_not_listed_is_a_sentence() -> None:
    with pytest.raises(RendererError, match=r"does not build for sm90 ahead of time; it does for SM75, .*SM120"):
        engine((9, 0)).build(SHIPPED[-1].data, PROFILE, lambda phase: None)


def test_without_a_gpu_nothing_is_loaded() -> None:
    with pytest.raises(RendererError, match="cannot be loaded: no GPU is at hand"):
        engine().load(b"plan")


def test_tensorrt_itself_needs_the_gpu() -> None:
    with pytest.raises(RendererError, match="tensorrt builds engines only where the GPU is"):
        TensorRTEngine("tensorrt", trt, capability=(8, 9))
