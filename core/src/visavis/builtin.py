"""What the core itself brings through the same hooks as every plugin: the launcher ``local``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.launcher import Launcher
from visavis.metrics import Metrics
from visavis.plugins import LauncherPlugin


def _local(config: ComponentConfig, deployment: Any, metrics: Metrics) -> Launcher:
    from visavis.supervisor import LocalLauncher

    return LocalLauncher(deployment, metrics=metrics)


@hookimpl
def visavis_launchers() -> Iterator[LauncherPlugin]:
    """``local``: sessions run in this process."""
    yield LauncherPlugin(name="local", summary="Runs every session in this process.", factory=_local)
