"""The two graphs of the tiny avatar, built node by node. Needs onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visavis.hvia import ARKIT_52, Precision

RATE: Final = 16_000
HOP: Final = 1_600
STATE: Final = 4
REGION: Final = 64

_E: Final = len(ARKIT_52)
_OPSET: Final = 17
_MOUTH_ROW, _MOUTH_LEFT, _MOUTH_RIGHT, _MOUTH_GAPE = 45, 20, 44, 14
_EYE_ROW, _EYE_OPEN = 20, 5
_EYES: Final = {"eyeBlinkRight": (14, 26), "eyeBlinkLeft": (38, 50)}


class _Graph:
    """Nodes and constants as they are written down."""

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision = precision
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: NDArray[Any] | Sequence[float] | float) -> str:
        from onnx import numpy_helper

        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, dtype=np.int64))

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def product(self, kind: str, of: str, weights: NDArray[Any], reach: float, **attributes: Any) -> str:
        """A ``MatMul`` or ``Conv`` with weights, in the graph's precision. ``reach`` is the most that ``of`` holds."""
        if self.precision == "fp32":
            return self.add(kind, of, self.const(weights), **attributes)
        if self.precision == "fp16":
            half = self.add("Cast", of, to=10)
            return self.add("Cast", self.add(kind, half, self.const(weights.astype(np.float16)), **attributes), to=1)
        step, zero = self.const(reach / 127), self.const(np.zeros((), np.int8))
        rounded = self.add("DequantizeLinear", self.add("QuantizeLinear", of, step, zero), step, zero)
        axis = 0 if kind == "Conv" else 1
        steps = np.abs(weights).max(tuple({*range(weights.ndim)} - {axis}), keepdims=True) / 127
        steps = np.maximum(steps, 1e-9)  # of a column of zeros, too: TensorRT takes no step of 0
        whole = np.rint(weights / steps).astype(np.int8)
        parts = self.const(whole), self.const(steps.ravel()), self.const(np.zeros(steps.size, np.int8))
        return self.add(kind, rounded, self.add("DequantizeLinear", *parts, axis=axis), **attributes)

    def columns(self, of: str, first: int, last: int) -> str:
        """Columns ``first`` to ``last``, exclusive, of a ``[B, n]`` tensor."""
        return self.add("Slice", of, self.ints(first), self.ints(last), self.ints(1))

    def model(self, inputs: Mapping[str, tuple[Any, ...]], outputs: Mapping[str, tuple[Any, ...]]) -> bytes:
        """The model's bytes; each tensor is a numpy type followed by its dimensions."""
        from onnx import helper

        def info(name: str, spec: tuple[Any, ...]) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(spec[0])), spec[1:])

        graph = helper.make_graph(
            self.nodes,
            self.name,
            [info(*item) for item in inputs.items()],
            [info(*item) for item in outputs.items()],
            self.constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="visavis", ir_version=8
        )
        return bytes(model.SerializeToString(deterministic=True))


def motion_graph(seed: int, precision: Precision = "fp32") -> bytes:
    """Sound to coefficients: how loud the low and the high half are, smoothed over three hops about the middle one.

    The state is the loudness of the last two hops. The middle hop is the one before the last: the look-ahead is a hop.
    """
    g = _Graph("motion", precision)
    taps = np.hanning(18)[1:-1] / np.hanning(18).sum()
    kernels = np.stack([taps, taps * (-1.0) ** np.arange(16)])[:, None, :]
    sound = g.add("Reshape", "pcm", g.ints(0, 1, HOP))
    bands = g.add("Conv", sound, g.const(kernels), strides=[16], kernel_shape=[16])
    power = g.add("ReduceMean", g.add("Mul", bands, bands), axes=[2], keepdims=0)
    loud = g.add("Clip", g.add("Mul", g.add("Sqrt", power), g.const(6.0)), g.const(0.0), g.const(1.0))
    last, before = g.columns("state", 0, 2), g.columns("state", 2, 4)
    ends = g.add("Mul", g.add("Add", loud, before), g.const(0.25))
    smooth = g.add("Add", ends, g.add("Mul", last, g.const(0.5)))
    moved = g.add("Clip", g.product("MatMul", smooth, _loudness_to_face(seed), 1.0), g.const(0.0), g.const(1.0))
    g.add("Reshape", moved, g.ints(0, 1, _E), out="expression")
    g.add("Concat", loud, last, out="state_out", axis=1)
    return g.model(
        {"pcm": (np.float32, "B", HOP), "state": (np.float32, "B", STATE)},
        {"expression": (np.float32, "B", 1, _E), "state_out": (np.float32, "B", STATE)},
    )


def _loudness_to_face(seed: int) -> NDArray[np.float64]:
    """``[2, E]``: what the low band and the high band do to the face."""
    weights = np.abs(np.random.default_rng(seed).normal(0, 0.03, (2, _E)))
    weights[:, [ARKIT_52.index(name) for name in _EYES]] = 0
    for name, low, high in (
        ("jawOpen", 1.0, 0.3),
        ("mouthLowerDownLeft", 0.4, 0.2),
        ("mouthLowerDownRight", 0.4, 0.2),
        ("mouthFunnel", 0.3, 0.0),
        ("mouthStretchLeft", 0.0, 0.8),
        ("mouthStretchRight", 0.0, 0.8),
        ("browInnerUp", 0.2, 0.2),
    ):
        weights[:, ARKIT_52.index(name)] = low, high
    return weights


def face_graph(yuv: tuple[int, int, int], seed: int, inputs: Sequence[str], precision: Precision = "fp32") -> bytes:
    """Coefficients to a face: a plain colour, eyes that blink, a mouth that opens, a texture that lives."""
    g = _Graph("face", precision)
    y = g.add("Add", g.const(float(yuv[0])), _texture(g, seed))
    uv = g.const(np.array(yuv[1:], dtype=np.float32).reshape(1, 2, 1, 1))
    if "base_y" in inputs:
        y = _mix(g, y, g.add("Cast", "base_y", to=1), g.const(0.25))
    for name, (left, right) in _EYES.items():
        y = _mix(g, y, g.const(30.0), _eye(g, name, left, right))
    mouth = _mouth(g)
    y = _mix(g, y, g.const(40.0), mouth)
    small = g.add("AveragePool", mouth, kernel_shape=[2, 2], strides=[2, 2])
    if "base_uv" in inputs:
        uv = _mix(g, uv, g.add("Cast", "base_uv", to=1), g.const(0.25))
    if "pose" in inputs:
        tint = g.add("Mul", g.add("Reshape", g.columns("pose", 0, 1), g.ints(0, 1, 1, 1)), g.const(0.2))
        uv = g.add("Add", uv, tint)
    uv = _mix(g, uv, g.const(np.array([110.0, 170.0]).reshape(1, 2, 1, 1)), small)
    _byte(g, y, "y")
    _byte(g, uv, "uv")
    _byte(g, g.add("Add", g.const(_oval()), g.add("Mul", mouth, g.const(0.0))), "alpha")
    taken = {
        "expression": (np.float32, "B", _E),
        "pose": (np.float32, "B", 3),
        "base_y": (np.uint8, "B", 1, REGION, REGION),
        "base_uv": (np.uint8, "B", 2, REGION // 2, REGION // 2),
    }
    return g.model(
        {name: taken[name] for name in taken if name in inputs},
        {
            "y": (np.uint8, "B", 1, REGION, REGION),
            "uv": (np.uint8, "B", 2, REGION // 2, REGION // 2),
            "alpha": (np.uint8, "B", 1, REGION, REGION),
        },
    )


def _mix(g: _Graph, under: str, over: str, share: str) -> str:
    return g.add("Add", under, g.add("Mul", g.add("Sub", over, under), share))


def _byte(g: _Graph, value: str, out: str) -> None:
    """Rounded and cut to 0..255."""
    cut = g.add("Clip", g.add("Add", value, g.const(0.5)), g.const(0.0), g.const(255.0))
    g.add("Cast", cut, out=out, to=2)


def _coefficient(g: _Graph, name: str) -> str:
    """One coefficient as ``[B, 1, 1, 1]``."""
    at = ARKIT_52.index(name)
    return g.add("Reshape", g.columns("expression", at, at + 1), g.ints(0, 1, 1, 1))


def _band(g: _Graph, row: int, half_height: str, left: int, right: int) -> str:
    """``[B, 1, 64, 64]``: 1 inside a rectangle of that half height about a row, 0 outside, soft above and below."""
    away = np.abs(np.arange(REGION, dtype=np.float32) - row).reshape(1, 1, REGION, 1)
    rows = g.add("Clip", g.add("Sub", half_height, g.const(away)), g.const(0.0), g.const(1.0))
    across = np.zeros((1, 1, 1, REGION), dtype=np.float32)
    across[..., left:right] = 1
    return g.add("Mul", rows, g.const(across))


def _mouth(g: _Graph) -> str:
    gape = g.add("Mul", _coefficient(g, "jawOpen"), g.const(float(_MOUTH_GAPE)))
    return _band(g, _MOUTH_ROW, g.add("Add", gape, g.const(1.0)), _MOUTH_LEFT, _MOUTH_RIGHT)


def _eye(g: _Graph, name: str, left: int, right: int) -> str:
    shut = g.add("Mul", _coefficient(g, name), g.const(float(_EYE_OPEN - 1)))
    return _band(g, _EYE_ROW, g.add("Sub", g.const(float(_EYE_OPEN)), shut), left, right)


def _texture(g: _Graph, seed: int) -> str:
    """``[B, 1, 64, 64]``: some grey levels that change with every coefficient; nothing at rest."""
    chance = np.random.default_rng(seed + 1)
    cells = g.product("MatMul", "expression", chance.normal(0, 0.4, (_E, 256)), 1.0)
    cells = g.add("Reshape", cells, g.ints(0, 4, 8, 8))
    kernels = chance.normal(0, 0.4, (64, 4, 3, 3))
    fine = g.product("Conv", cells, kernels, 6.0, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return g.add("Mul", g.add("Tanh", g.add("DepthToSpace", fine, blocksize=8)), g.const(3.0))


def _oval() -> NDArray[np.float32]:
    """``[1, 1, 64, 64]``, 0..255: opaque inside, soft at the rim, nothing in the corners."""
    side = (np.arange(REGION) - (REGION - 1) / 2) / (REGION / 2)
    radius = np.sqrt(side[:, None] ** 2 + side[None, :] ** 2)
    return (255 * np.clip((1.0 - radius) * 8, 0, 1)).astype(np.float32).reshape(1, 1, REGION, REGION)
