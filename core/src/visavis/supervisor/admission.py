"""How many sessions this process takes on: a fixed number, or what measured frame times and late frames allow."""

from __future__ import annotations

import os
import time
from typing import Final, Literal

from visavis.interfaces.launcher import Capacity
from visavis.pipeline.cost import StepCost
from visavis.pipeline.tally import Tally

RENDERER_SHARE: Final = 0.8
"""How much of its time the renderer may be busy: it draws for one group of sessions after the other."""
PROCESSOR_SHARE: Final = 0.9
TRANSPORT_COST: Final = 0.12
"""Processor seconds a second that a session costs beside its pictures (encoding, sound, network), until measured."""
LEAST_COST: Final = 0.03
MEASURED_AFTER: Final = 20.0
"""Seconds of sessions after which that cost counts as measured."""
LATE_SHARE: Final = 0.1
"""The share of late frames among recent ones beyond which it is full. A session that starts, or a neighbour's burst,
makes a few late; a process that had taken on too much was seen to be late with every fifth and more."""
LATE_OF: Final = 200
"""Fewer recent frames than these say nothing."""
RETRY_AFTER: Final = 5.0
RETRY_WHEN_LATE: Final = 15.0
"""Seconds after which somebody who was refused may ask again: late frames count for ten."""


def processors() -> int:
    """How many processors this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every platform
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


class Admission:
    """Decides whether one more session is taken on.

    ``most`` is a number, or "auto": then as many as could all talk at once. A session is reckoned with its pictures
    (measured, ``fps`` a second: the renderer's time by the clock, the processor's by its own account, since a call that
    waits for a device or for its turn uses none) and with what else the process spends for it (measured too, once
    sessions have run).
    Under "auto" nobody is taken on either while more than one recent frame in ten was late.
    """

    def __init__(
        self, most: int | Literal["auto"], cost: StepCost, tally: Tally, *, cores: float | None = None
    ) -> None:
        self._fixed = most if isinstance(most, int) else None
        self._cost, self._tally = cost, tally
        self._cores = cores or processors()
        self.fps = 25.0
        self._sampled = time.monotonic(), time.process_time(), cost.spent
        self._measured = 0.0
        self._beside = TRANSPORT_COST

    @property
    def measures(self) -> bool:
        """Whether it goes by measured times."""
        return self._fixed is None

    @property
    def most(self) -> int | None:
        """How many sessions are taken on; None before a picture was measured."""
        return self.reckoned if self._fixed is None else self._fixed

    @property
    def reckoned(self) -> int | None:
        """How many would be taken on under "auto"; None before a picture was measured."""
        busy, used = self._cost.busy.talking, self._cost.used.talking
        if busy is None or used is None:
            return None
        by_renderer = RENDERER_SHARE / max(self.fps * busy, 1e-6)
        by_processor = PROCESSOR_SHARE * self._cores / (self.fps * used + self._beside)
        return max(1, int(min(by_renderer, by_processor)))

    def sample(self, running: int) -> None:
        """Learn what sessions cost beside their pictures; ``running`` of them ran since the last call."""
        now = time.monotonic(), time.process_time(), self._cost.spent
        wall, cpu, drawn = (new - old for new, old in zip(now, self._sampled, strict=True))
        if wall < 1.0:
            return
        self._sampled = now
        if running:
            seconds = wall * running
            each = max(LEAST_COST, (cpu - drawn) / seconds)
            self._measured += seconds
            weight = seconds / min(self._measured, 60.0)
            if self._measured >= MEASURED_AFTER:
                self._beside += min(1.0, weight) * (each - self._beside)

    def capacity(self, running: int, starting: int, now: float) -> Capacity:
        """How full it is at a time in the event loop's seconds, and why nobody is taken on, if so."""
        most = self.most
        if most is not None and running + starting >= most:
            problem = f"all {most} sessions are taken" if most > 1 else "the one session is taken"
            return Capacity(running, starting, most, problem, RETRY_AFTER, self.reckoned)
        frames, late = self._tally.recent(now)
        if self.measures and running and frames >= LATE_OF and late > LATE_SHARE * frames:
            problem = f"{100 * late / frames:.1f} % of the frames of the last ten seconds were late"
            return Capacity(running, starting, most, problem, RETRY_WHEN_LATE, self.reckoned)
        return Capacity(running, starting, most, reckoned=self.reckoned)
