"""Figures of a worker on their way to whoever is asked for them: collected there, added up here."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from visavis.metrics import Key, MemoryMetrics, Metrics

MOST_OBSERVED: Final = 4_096
"""Observations that may wait to be sent; further ones are counted in ``visavis_observations_lost_total``."""

Rows = list[list[Any]]


class FiguresOut:
    """Takes a worker's figures (``visavis.metrics.Metrics``) and gives them away in rows.

    Counters are given as what was added since, gauges if they were set, observations one by one.
    """

    def __init__(self) -> None:
        self._counters: dict[Key, float] = defaultdict(float)
        self._gauges: dict[Key, float] = {}
        self._observed: list[tuple[Key, float]] = []

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self._counters[MemoryMetrics.key(name, **labels)] += value

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[MemoryMetrics.key(name, **labels)] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation."""
        if len(self._observed) < MOST_OBSERVED:
            self._observed.append((MemoryMetrics.key(name, **labels), value))
        else:
            self.count("visavis_observations_lost_total")

    def take(self) -> dict[str, Rows]:
        """What came since the last time, as plain data."""
        counters, self._counters = self._counters, defaultdict(float)
        gauges, self._gauges = self._gauges, {}
        observed, self._observed = self._observed, []
        return {
            "counters": [[name, dict(labels), value] for (name, labels), value in counters.items()],
            "gauges": [[name, dict(labels), value] for (name, labels), value in gauges.items()],
            "observed": [[name, dict(labels), value] for (name, labels), value in observed],
        }


class FiguresIn:
    """Adds the figures of several workers up in one place.

    Counters and observations are added as they come. A gauge is the sum over the workers that live: sessions, say.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._gauges: dict[object, dict[Key, float]] = defaultdict(dict)

    def add(self, worker: object, rows: dict[str, Rows]) -> None:
        """Take rows of a worker."""
        for name, labels, value in rows.get("counters", ()):
            self._metrics.count(name, value, **labels)
        for name, labels, value in rows.get("observed", ()):
            self._metrics.observe(name, value, **labels)
        for name, labels, value in rows.get("gauges", ()):
            self._gauges[worker][MemoryMetrics.key(name, **labels)] = value
            self._sum(MemoryMetrics.key(name, **labels))

    def forget(self, worker: object) -> None:
        """A worker is gone: its gauges count no more."""
        for key in self._gauges.pop(worker, {}):
            self._sum(key)

    def _sum(self, key: Key) -> None:
        name, labels = key
        self._metrics.gauge(name, sum(each.get(key, 0.0) for each in self._gauges.values()), **dict(labels))
