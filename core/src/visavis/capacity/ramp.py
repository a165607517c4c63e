"""Finds how many sessions are held: by doubling until there are too many, then by halving the interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from visavis.capacity.step import Bounds, Step


class Stage(Protocol):
    """Where sessions talk."""

    async def fill(self, count: int) -> tuple[int, str]:
        """Have so many sessions; returns how many there are, and why there are not more (empty if there are)."""

    async def measure(self) -> Step:
        """Let those that are there talk for a while."""


@dataclass
class Ramp:
    """The search. ``most`` sessions are tried; ``tell`` hears of each step."""

    stage: Stage
    bounds: Bounds
    most: int
    tell: Callable[[Step], None] = lambda step: None
    steps: list[Step] = field(default_factory=list)
    refused: str = ""
    """Why no more sessions were taken on, if that was the end."""

    @property
    def held(self) -> Step | None:
        """The step of most sessions that was without trouble; None if one session is too many."""
        fine = [step for step in self.steps if not step.trouble(self.bounds)]
        return max(fine, key=lambda step: step.sessions, default=None)

    @property
    def burst(self) -> Step | None:
        """The step of fewest sessions that had trouble."""
        bad = [step for step in self.steps if step.trouble(self.bounds)]
        return min(bad, key=lambda step: step.sessions, default=None)

    async def climb(self) -> None:
        """Search to the end."""
        good, bad, count = 0, self.most + 1, 1
        while bad - good > 1:
            there, refused = await self.stage.fill(count)
            if refused:
                self.refused, bad = refused, there + 1
                if there <= good:
                    continue
            step = await self.stage.measure()
            self.steps.append(step)
            self.tell(step)
            if step.trouble(self.bounds):
                bad, self.refused = there, ""
            else:
                good = there
            count = min(2 * good, self.most) if bad > self.most else (good + bad) // 2
