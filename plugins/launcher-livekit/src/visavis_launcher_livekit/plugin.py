"""What the entry point names: the records, without the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from visavis.hookspecs import hookimpl
from visavis.interfaces.launcher import Launcher
from visavis.metrics import Metrics
from visavis.plugins import CommandPlugin, LauncherPlugin

from visavis_launcher_livekit.options import DispatchOptions


def make(options: DispatchOptions, deployment: Any, metrics: Metrics) -> Launcher:
    """Make the launcher of a server."""
    from visavis_launcher_livekit.launcher import DispatchLauncher

    return DispatchLauncher(options, deployment, metrics=metrics)


@hookimpl
def visavis_launchers() -> Iterable[LauncherPlugin]:
    """The launcher ``livekit-dispatch``."""
    yield LauncherPlugin(
        name="livekit-dispatch",
        summary="Hands sessions to `visavis worker`s on any number of machines, by LiveKit agent dispatch.",
        config=DispatchOptions,
        factory=make,
    )


@hookimpl
def visavis_commands() -> Iterable[CommandPlugin]:
    """The command ``worker``."""
    yield CommandPlugin(
        name="worker",
        summary="Run sessions that LiveKit agent dispatch hands out.",
        target="visavis_launcher_livekit.command:worker",
    )
