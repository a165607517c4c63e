"""What the core itself brings through the same hooks as every plugin: two launchers, and a choice of renderers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.renderer import Renderer
from visavis.metrics import Metrics
from visavis.plugins import LauncherPlugin, RendererPlugin
from visavis.processes.options import ProcessOptions


class AutoOptions(ComponentConfig):
    """Options of ``renderer: {use: auto}``."""

    among: tuple[str, ...] = ()
    """Names of the renderers to choose from; without any, all that work here."""
    sessions: Annotated[int, Field(ge=1, le=64)] = 8
    """How many sessions at once to choose for."""


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


def _auto(config: AutoOptions) -> Renderer:
    from visavis.choosing import AutoRenderer
    from visavis.registry import Registry

    return AutoRenderer(Registry.discover(), among=config.among, sessions=config.sessions)


@hookimpl
def visavis_renderers() -> Iterator[RendererPlugin]:
    """``auto``: whichever renderer is the quickest here."""
    summary = "Tries the renderers that work here on the first avatar, and keeps the quickest."
    yield RendererPlugin(name="auto", summary=summary, config=AutoOptions, factory=_auto)
