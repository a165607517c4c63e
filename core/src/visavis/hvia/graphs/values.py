"""Small tensors whose values can be told from the file alone: the arithmetic by which graphs compute shapes.

ONNX's own data propagation knows too few operators and sets no bound to what it spreads; this does both. It works on
shapes and indices, never on weights or sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 1024
"""So many numbers a tensor may have; larger ones are no shapes."""
_LARGEST: Final = 2**62
_MAY_OVERFLOW: Final = frozenset({"Add", "Mul", "Neg", "ReduceProd", "Sub"})
_DTYPES: Final[Mapping[int, type[np.generic]]] = {
    1: np.float32,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    11: np.float64,
}
"""Data types that shapes are computed with, by ONNX number."""

Value = NDArray[Any]
Attributes = Mapping[str, Any]


def told(kind: str, inputs: Sequence[Value | None], attributes: Attributes, shape: Sequence[int]) -> Value | None:
    """What a node puts out, or None if that cannot be told. ``shape`` is that of the result, as inference found it."""
    rule = _RULES.get(kind)
    if rule is None or not inputs or any(value is None for value in inputs) or prod(shape) > MOST:
        return None
    given: list[Any] = list(inputs)
    if exact := kind in _MAY_OVERFLOW and all(value.dtype.kind == "i" for value in given):
        # As whole numbers of any size: what wraps around must not pass for a small number.
        given = [value.astype(object) for value in given]
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(rule(given, attributes))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError):
        # The node does not fit its inputs. Inference says so in better words, or an engine will.
        return None
    if result.shape != tuple(shape) or (result.dtype.kind in "iO" and beyond(result, _LARGEST)):
        return None
    return result.astype(np.int64) if exact else result


def beyond(value: Value, bound: int) -> bool:
    """Whether a whole number lies outside of -bound..bound; right for the least int64, too, which has no absolute."""
    return bool(((value > bound) | (value < -bound)).any())


def shape_told(shape: Sequence[int], attributes: Attributes) -> Value:
    """What the operator Shape puts out for a tensor of that shape."""
    return np.array(list(shape)[attributes.get("start", 0) : attributes.get("end", len(shape))], np.int64)


def _divided(inputs: Sequence[Any], _: Attributes) -> Value:
    first, second = inputs
    if first.dtype.kind == "f":
        return np.asarray(first / second)
    if (second == 0).any():
        raise ZeroDivisionError
    # Whole numbers are cut towards zero.
    return np.asarray(np.sign(first) * np.sign(second) * (np.abs(first) // np.abs(second)))


def _cast(inputs: Sequence[Any], attributes: Attributes) -> Value:
    return np.asarray(inputs[0].astype(_DTYPES[attributes["to"]]))


def _reshaped(inputs: Sequence[Any], attributes: Attributes) -> Value:
    data, wanted = inputs
    if attributes.get("allowzero"):
        return np.asarray(data.reshape(wanted.tolist()))
    return np.asarray(data.reshape([data.shape[at] if n == 0 else n for at, n in enumerate(wanted.tolist())]))


def _sliced(inputs: Sequence[Any], _: Attributes) -> Value:
    data, starts, ends = inputs[:3]
    axes = inputs[3].tolist() if len(inputs) > 3 else range(len(starts))
    steps = inputs[4].tolist() if len(inputs) > 4 else [1] * len(starts)
    cuts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return np.asarray(data[tuple(cuts)])


def _squeezed(inputs: Sequence[Any], _: Attributes) -> Value:
    return np.asarray(np.squeeze(inputs[0], tuple(inputs[1].tolist()) if len(inputs) > 1 else None))


def _filled(inputs: Sequence[Any], attributes: Attributes) -> Value:
    (dims,) = inputs
    if len(dims) > 8 or prod(dims.tolist()) > MOST:
        raise ValueError("too large")
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.full(dims.tolist(), value[0], value.dtype)


_RULES: Final[dict[str, Callable[[Sequence[Any], Attributes], Any]]] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "Cast": _cast,
    "Ceil": lambda inputs, _: np.ceil(inputs[0]),
    "Concat": lambda inputs, attributes: np.concatenate(inputs, attributes["axis"]),
    "ConstantOfShape": _filled,
    "Div": _divided,
    "Equal": lambda inputs, _: inputs[0] == inputs[1],
    "Floor": lambda inputs, _: np.floor(inputs[0]),
    "Gather": lambda inputs, attributes: np.take(inputs[0], inputs[1], attributes.get("axis", 0)),
    "Identity": lambda inputs, _: inputs[0],
    "Max": lambda inputs, _: np.maximum.reduce(list(inputs)),
    "Min": lambda inputs, _: np.minimum.reduce(list(inputs)),
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "Neg": lambda inputs, _: -inputs[0],
    "ReduceProd": lambda inputs, attributes: np.prod(
        inputs[0], axis=tuple(attributes["axes"]), keepdims=bool(attributes.get("keepdims", 1))
    ),
    "Reshape": _reshaped,
    "Slice": _sliced,
    "Squeeze": _squeezed,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
    "Transpose": lambda inputs, attributes: np.transpose(inputs[0], attributes.get("perm")),
    "Unsqueeze": lambda inputs, _: np.expand_dims(inputs[0], tuple(inputs[1].tolist())),
    "Where": lambda inputs, _: np.where(inputs[0], inputs[1], inputs[2]),
}
