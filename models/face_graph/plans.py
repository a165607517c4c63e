"""The branches' sizes, by name; a name may carry a suffix ("mouth-wide") to compare two sizes."""

from __future__ import annotations

from typing import Any

from network import Box, Plan

PLANS: dict[str, dict[str, Any]] = {
    # The lips lie in the inner part even when the jaw is fully open or the smile is broadest.
    "mouth": {"hidden": 128, "seed": 32, "levels": ((96, 2), (64, 1)), "inner": (40, 36, 96, 84), "detail": (48, 1),
              "feather": (10, 8, 10, 10)},
    # The lids' whole way lies in the inner part; brows need less.
    "eyes": {"hidden": 128, "seed": 16, "levels": ((64, 1), (48, 1)), "inner": (32, 40, 144, 56), "detail": (32, 1),
             "feather": (10, 4, 10, 8)},
}  # fmt: skip


def planned(name: str, box: Box, columns: tuple[int, ...]) -> Plan:
    """The plan called `name`, for pictures in `box` that move with `columns`."""
    return Plan(name=name, box=box, columns=columns, **PLANS[name])
