"""The studio background: a soft grey-blue gradient, brighter behind the shoulder, as if out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BACKDROP_Y = 70.0
"""Distance behind the head, cm."""


def backdrop(size: int) -> NDArray[np.float32]:
    """[size, size, 3] linear light, the same picture at any size."""
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size
    glow = np.exp(-(((x - 0.62) / 0.42) ** 2) - ((y - 0.40) / 0.46) ** 2)
    warm = np.exp(-(((x - 0.08) / 0.30) ** 2) - ((y - 0.85) / 0.40) ** 2)
    edge = (x - 0.5) ** 2 + (y - 0.5) ** 2
    base = np.array([150.0, 158.0, 166.0])
    image = base + glow[..., None] * np.array([50.0, 48.0, 44.0]) + warm[..., None] * np.array([16.0, 8.0, 0.0])
    tone = np.clip(image - 60 * edge[..., None], 0, 255) / 255
    return (0.80 * tone**2.2).astype(np.float32)
