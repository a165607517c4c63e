"""What the core itself brings through the same hooks as every plugin: the launchers ``local`` and ``process``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.launcher import Launcher
from visavis.metrics import Metrics
from visavis.plugins import LauncherPlugin
from visavis.processes.options import ProcessOptions


def _local(config: ComponentConfig, deployment: Any, metrics: Metrics) -> Launcher:
    from visavis.supervisor import LocalLauncher

    return LocalLauncher(deployment, metrics=metrics)


def _process(config: ProcessOptions, deployment: Any, metrics: Metrics) -> Launcher:
    from visavis.processes.launcher import ProcessLauncher

    return ProcessLauncher(config, deployment, metrics=metrics)


@hookimpl
def visavis_launchers() -> Iterator[LauncherPlugin]:
    """``local``: sessions run in this process. ``process``: in worker processes of this machine."""
    yield LauncherPlugin(name="local", summary="Runs every session in this process.", factory=_local)
    yield LauncherPlugin(
        name="process",
        summary="Runs sessions in worker processes: a crash ends only its own, and they are begun again.",
        config=ProcessOptions,
        factory=_process,
    )
