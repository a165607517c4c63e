"""Where the figures go: a protocol of three calls, one that counts in memory, one that ignores.

Names are Prometheus-like (``visavis_frames_total``); labels must be few (never a session's id).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol


class Metrics(Protocol):
    """Takes figures. Cheap enough to be called once a frame."""

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation (seconds, unless the name says otherwise) to a distribution."""


class NoMetrics:
    """Takes figures and forgets them."""

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Ignored."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Ignored."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Ignored."""


Key = tuple[str, tuple[tuple[str, str], ...]]


class MemoryMetrics:
    """Keeps figures in dictionaries: for tests, benches and the command line.

    A distribution keeps its count, sum and maximum, so memory stays flat however long it runs.
    """

    def __init__(self) -> None:
        self.counters: dict[Key, float] = defaultdict(float)
        self.gauges: dict[Key, float] = {}
        self.observed: dict[Key, tuple[int, float, float]] = {}

    @staticmethod
    def key(name: str, **labels: str) -> Key:
        """How a figure is stored: its name and its sorted labels."""
        return name, tuple(sorted(labels.items()))

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self.counters[self.key(name, **labels)] += value

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.gauges[self.key(name, **labels)] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation."""
        n, total, top = self.observed.get(self.key(name, **labels), (0, 0.0, value))
        self.observed[self.key(name, **labels)] = (n + 1, total + value, max(top, value))

    def total(self, name: str) -> float:
        """The sum of a counter over all its labels."""
        return sum(v for (n, _), v in self.counters.items() if n == name)

    def mean(self, name: str) -> float:
        """The mean of a distribution over all its labels; 0 if nothing was observed."""
        rows = [v for (n, _), v in self.observed.items() if n == name]
        count = sum(n for n, _, _ in rows)
        return sum(s for _, s, _ in rows) / count if count else 0.0
