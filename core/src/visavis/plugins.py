"""The records that hooks yield: a name, the options' models, and how to make the part.

A record costs nothing: the engine is imported by ``factory`` when the part is made, so that listing
plugins is quick and a broken engine is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from visavis.component import ComponentConfig, NoOptions

if TYPE_CHECKING:  # types alone: to list plugins loads neither numpy nor the avatar reader
    from visavis.interfaces.audience import Audience
    from visavis.interfaces.avatar import AvatarStore
    from visavis.interfaces.launcher import Launcher
    from visavis.interfaces.renderer import Renderer
    from visavis.interfaces.server import Server
    from visavis.interfaces.source import AudioSource
    from visavis.interfaces.transport import Transport
    from visavis.metrics import Metrics


class Kind(StrEnum):
    """The kinds of part, by the key each has in a deployment file."""

    STORE = "store"
    SOURCE = "source"
    RENDERER = "renderer"
    TRANSPORT = "transport"
    SERVER = "server"
    LAUNCHER = "launcher"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """What all records have.

    ``name`` is what follows ``use:`` (lower case, digits, hyphens); ``summary`` one line for lists.
    ``config`` validates the deployment's options, ``session`` those of one session.
    ``provides`` and ``requires`` name what parts of one session share (``livekit.room``, say).
    ``host`` is empty for what `visavis run` can run; else one sentence on the program that starts sessions with it.
    """

    name: str
    summary: str
    config: type[ComponentConfig] = NoOptions
    session: type[ComponentConfig] = NoOptions
    provides: frozenset[str] = field(default_factory=frozenset)
    requires: frozenset[str] = field(default_factory=frozenset)
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarStorePlugin(PluginRecord):
    """A store: ``factory(config)``, once a process."""

    factory: Callable[[Any], AvatarStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSourcePlugin(PluginRecord):
    """A source: ``factory(config, session_options)``, once a session."""

    factory: Callable[[Any, Any], AudioSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class RendererPlugin(PluginRecord):
    """A renderer: ``factory(config)``, once a process. ``check()`` says in one line why it cannot work here.

    ``check`` returns None where it works; it may import the engine, and is called by ``visavis doctor`` and the
    renderer ``auto`` only. ``trials()`` gives further options that ``auto`` should try here besides the defaults: a GPU
    that was found, say.
    """

    factory: Callable[[Any], Renderer]
    check: Callable[[], str | None] | None = None
    trials: Callable[[], Iterable[Mapping[str, Any]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportPlugin(PluginRecord):
    """A transport: ``factory(config)``, once a process.

    ``rejoins`` says that a session whose process died may be begun again by the same request: a room can be joined
    anew, half a file cannot be continued.
    ``audience(config)`` makes rooms and subscribers for `visavis bench capacity`; None where there are none to be had.
    """

    factory: Callable[[Any], Transport]
    rejoins: bool = False
    audience: Callable[[Any], Audience] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlugin(PluginRecord):
    """A server: ``factory(config)``."""

    factory: Callable[[Any], Server]


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherPlugin(PluginRecord):
    """A launcher: ``factory(config, deployment, metrics)``, once a process."""

    factory: Callable[[Any, Any, Metrics], Launcher]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPlugin:
    """A command of the command line: ``visavis NAME``.

    ``target`` is ``package.module:attribute`` of a typer app or function, imported when the command is called.
    """

    name: str
    summary: str
    target: str


RECORD_OF_KIND: dict[Kind, type[Any]] = {
    Kind.STORE: AvatarStorePlugin,
    Kind.SOURCE: AudioSourcePlugin,
    Kind.RENDERER: RendererPlugin,
    Kind.TRANSPORT: TransportPlugin,
    Kind.SERVER: ServerPlugin,
    Kind.LAUNCHER: LauncherPlugin,
    Kind.COMMAND: CommandPlugin,
}
