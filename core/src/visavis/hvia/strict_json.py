"""JSON from strangers: one meaning only, and no more work than its size allows."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

_TOKENS = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_MAX_DIGITS: Final = 18


def parse_json(data: bytes, *, max_bytes: int, max_depth: int) -> Any:
    """Parse UTF-8 JSON. Raises ValueError with a reason.

    Refused beyond what JSON itself refuses: NaN and infinities, numbers that overflow, integers of more than 18
    digits, a key twice in one object, nesting deeper than ``max_depth``, a byte order mark.
    """
    if len(data) > max_bytes:
        raise ValueError(f"it has {len(data)} bytes; at most {max_bytes} are read")
    if _depth(data, max_depth) > max_depth:
        raise ValueError(f"it is nested deeper than {max_depth} levels")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from error
    try:
        return json.loads(
            text, object_pairs_hook=_no_twins, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _depth(data: bytes, limit: int) -> int:
    """How deeply brackets nest; stops counting beyond ``limit``."""
    depth = deepest = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > limit:
                break
        elif first in b"]}":
            depth -= 1
    return deepest


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"an object holds the key {key[:40]!a} twice")
            seen.add(key)
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it holds an integer of {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits) if len(digits) <= 64 else math.nan
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {digits[:40]}, which no float can hold")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which JSON does not know")
