"""The hooks: one for each kind of part, and one by which a plugin adds commands.

A plugin's entry point (group ``visavis``) names a module whose functions carry ``@hookimpl``::

    from visavis.hookspecs import hookimpl
    from visavis.plugins import AudioSourcePlugin

    @hookimpl
    def visavis_audio_sources():
        yield AudioSourcePlugin(name="tone", summary="A sine.", config=ToneOptions, factory=make_tone)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pluggy

from visavis.plugins import (
    AudioSourcePlugin,
    AvatarStorePlugin,
    CommandPlugin,
    Kind,
    LauncherPlugin,
    RendererPlugin,
    ServerPlugin,
    TransportPlugin,
)

PROJECT: Final = "visavis"
ENTRY_POINT_GROUP: Final = "visavis"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def visavis_avatar_stores() -> Iterable[AvatarStorePlugin]:
    """Stores that this plugin brings."""
    return ()


@hookspec
def visavis_audio_sources() -> Iterable[AudioSourcePlugin]:
    """Sources that this plugin brings."""
    return ()


@hookspec
def visavis_renderers() -> Iterable[RendererPlugin]:
    """Renderers that this plugin brings."""
    return ()


@hookspec
def visavis_transports() -> Iterable[TransportPlugin]:
    """Transports that this plugin brings."""
    return ()


@hookspec
def visavis_servers() -> Iterable[ServerPlugin]:
    """Servers that this plugin brings."""
    return ()


@hookspec
def visavis_launchers() -> Iterable[LauncherPlugin]:
    """Launchers that this plugin brings."""
    return ()


@hookspec
def visavis_commands() -> Iterable[CommandPlugin]:
    """Commands that this plugin adds to ``visavis``."""
    return ()


HOOK_OF_KIND: Final[dict[Kind, str]] = {
    Kind.STORE: "visavis_avatar_stores",
    Kind.SOURCE: "visavis_audio_sources",
    Kind.RENDERER: "visavis_renderers",
    Kind.TRANSPORT: "visavis_transports",
    Kind.SERVER: "visavis_servers",
    Kind.LAUNCHER: "visavis_launchers",
    Kind.COMMAND: "visavis_commands",
}
