"""What a worker process is told first: the deployment, its part of the machine, how much to log. As plain data."""

from __future__ import annotations

from typing import Any, Final

from visavis.config import Deployment, Limits, Part
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.remote.logs import levels
from visavis.remote.telling import revealed

PARTS: Final = (Kind.STORE, Kind.SOURCE, Kind.RENDERER, Kind.TRANSPORT)
"""The parts that a worker has; server and launcher are its parent's."""


def orders(deployment: Deployment, *, limits: Limits, prewarm: tuple[str, ...], cores: float) -> dict[str, Any]:
    """Orders for a worker: its secrets included, so they go through the wire and nowhere else."""
    parts = {kind.value: deployment.part(kind) for kind in PARTS}
    return {
        "parts": {
            kind: {"use": part.name, "options": revealed(part.config.model_dump(exclude_unset=True))}
            for kind, part in parts.items()
        },
        "limits": limits.model_dump(),
        "prewarm": list(prewarm),
        "cores": cores,
        "levels": levels(),
    }


def deployment_of(told: dict[str, Any], registry: Registry) -> Deployment:
    """The deployment of such orders, of the parts that are installed. Raises PluginError for one that is not."""
    store, source, renderer, transport = (_part(kind, told["parts"][kind.value], registry) for kind in PARTS)
    return Deployment(
        store,
        source,
        renderer,
        transport,
        limits=Limits.model_validate(told["limits"]),
        prewarm=tuple(str(one) for one in told["prewarm"]),
    )


def _part(kind: Kind, told: dict[str, Any], registry: Registry) -> Part:
    record = registry.get(kind, told["use"])
    found = registry.find(kind, told["use"])
    assert found is not None
    return Part(kind, found.name, record, record.config.model_validate(told["options"]), found.origin)
