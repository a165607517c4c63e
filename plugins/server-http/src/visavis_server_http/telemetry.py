"""Figures for Prometheus, kept in a registry of our own."""

from __future__ import annotations

import logging
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger("visavis.server.http")

_FINE: Final = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0)
_STARTS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_LIVES: Final = (1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 4 * 3600.0)
MOST_SERIES: Final = 500
"""Combinations of labels of one figure; further ones are not kept."""


class PrometheusMetrics:
    """Takes figures (``visavis.metrics.Metrics``) and tells them in Prometheus' text format."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._made: dict[str, tuple[Any, tuple[str, ...], set[tuple[str, ...]]] | None] = {}

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        found = self._series(Counter, name, labels)
        if found is not None:
            found.inc(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        found = self._series(Gauge, name, labels)
        if found is not None:
            found.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a distribution."""
        found = self._series(Histogram, name, labels)
        if found is not None:
            found.observe(value)

    def exposition(self) -> bytes:
        """All figures."""
        text: bytes = generate_latest(self.registry)
        return text

    def _series(self, kind: Any, name: str, labels: dict[str, str]) -> Any:
        if name not in self._made:
            self._made[name] = self._make(kind, name, tuple(sorted(labels)))
        made = self._made[name]
        if made is None:
            return None
        figure, names, known = made
        if tuple(sorted(labels)) != names or not isinstance(figure, kind):
            return None  # of two meanings of one name the first counts
        if not names:
            return figure
        values = tuple(labels[key] for key in names)
        if values not in known:
            if len(known) >= MOST_SERIES:
                return None
            known.add(values)
        return figure.labels(*values)

    def _make(self, kind: Any, name: str, names: tuple[str, ...]) -> Any:
        options: dict[str, Any] = {"registry": self.registry}
        if kind is Histogram:
            lives, starts = "duration" in name, "start" in name or "first" in name
            options["buckets"] = _LIVES if lives else _STARTS if starts else _FINE
        try:
            return kind(name, ABOUT.get(name, name.replace("_", " ")), names, **options), names, set()
        except ValueError as error:
            log.warning("the figure %s is not kept: %s", name, error)
            return None

    def watch(self, collector: Collector) -> None:
        """Ask ``collector`` whenever the figures are asked for."""
        self.registry.register(collector)


class SessionsNow(Collector):
    """How many sessions there are, by state, counted when it is asked for."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def collect(self) -> Any:
        """The gauges."""
        counts = self._desk.counts()
        states = GaugeMetricFamily("visavis_server_sessions", "Sessions, by state", labels=["state"])
        for state, count in counts.items():
            states.add_metric([state], count)
        yield states
        active = sum(counts.values())
        yield GaugeMetricFamily("avatar_sessions_active", "Sessions that start or run", value=active)
        yield GaugeMetricFamily("visavis_draining", "1 once no new session is taken on", value=int(self._desk.draining))


ABOUT: Final = {
    "visavis_session_starts_total": "Sessions that were admitted, by dialect",
    "visavis_session_start_seconds": "From the start of a session until frames can flow",
    "visavis_first_frame_seconds": "From the pipeline's start to the first picture",
    "visavis_session_duration_seconds": "How long sessions ran",
    "avatar_session_duration_seconds": "How long sessions ran",
    "visavis_sessions_ended_total": "Sessions that ended, by reason",
    "visavis_api_requests_total": "Requests, by route and status",
    "avatar_api_requests_total": "Requests",
    "visavis_api_errors_total": "Requests that were refused or failed, by route and status",
    "avatar_api_errors_total": "Requests that were refused or failed",
    "visavis_api_request_seconds": "How long requests took, by route",
    "visavis_segments_total": "Utterances that ended",
    "visavis_interrupts_total": "Interrupts",
    "visavis_late_frames_total": "Pictures that were not ready in time",
    "visavis_dropped_frames_total": "Pictures that were left out",
    "visavis_presenter_late_seconds": "By how much presenters woke up late for a frame",
    "visavis_step_seconds": "How long one call of the renderer took",
    "visavis_steps_total": "Calls of the renderer",
    "visavis_steps_sessions_total": "Sessions in those calls: divided by the calls, how many share one",
    "visavis_steps_dropped_total": "Pictures that were asked for before an interrupt and not drawn",
    "visavis_avatar_changes_total": "Avatar files that were added, replaced or removed",
}
"""What the figures mean."""
