"""The branches' sizes, by name; a name may carry a suffix ("mouth-wide") to compare two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from network import Box, Plan


@dataclass(frozen=True)
class PatchPlan:
    """What a part of the face graph of patches is made of (distil.py).

    `branch` is the teacher's that it learns from, `hidden` the sizes of its perceptron, `learnt` how many principal
    coordinates it is taught. A patch keeps the patterns whose mean square (over all pictures, summed over its pixels,
    in levels) is `enough` or more, filled up to the next of `sizes`.
    """

    branch: int
    hidden: tuple[int, ...]
    learnt: int
    sizes: tuple[int, ...]
    enough: float


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


PATCHES: dict[str, PatchPlan] = {
    # Half of the box hardly moves: chin, cheeks, and the collar's shadow.
    "mouth": PatchPlan(branch=0, hidden=(256, 256, 256), learnt=320, sizes=(8, 16, 32, 80), enough=5.0),
    "eyes": PatchPlan(branch=1, hidden=(256, 256, 256), learnt=320, sizes=(8, 24, 56), enough=15.0),
}
