"""Tensors as a contract names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FLOAT: Final = 1
UINT8: Final = 2
ITEM_SIZES: Final = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
"""Bytes of an element, by ONNX data type: the types that a tensor of a graph may have."""
TYPE_NAMES: Final = {FLOAT: "float32", UINT8: "uint8"}

REPAIR: Final = " (its maker can repair an export with visavis.hvia.graphs.tidy_graph)"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the contract wants it; the batch comes before ``shape``."""

    name: str
    type: int
    shape: tuple[int, ...]
