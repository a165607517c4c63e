"""What the entry point names: the records, without the engine."""

from __future__ import annotations

from collections.abc import Iterable

from visavis.hookspecs import hookimpl
from visavis.interfaces.server import Server
from visavis.plugins import CommandPlugin, ServerPlugin

from visavis_server_http.options import HttpServerOptions


def make(options: HttpServerOptions) -> Server:
    """The server."""
    from visavis_server_http.server import HttpServer

    return HttpServer(options)


@hookimpl
def visavis_servers() -> Iterable[ServerPlugin]:
    """The server ``http``."""
    yield ServerPlugin(
        name="http",
        summary="The Avatar Server: sessions over HTTP, in its own words and in those of other avatar servers.",
        config=HttpServerOptions,
        factory=make,
    )


@hookimpl
def visavis_commands() -> Iterable[CommandPlugin]:
    """The command ``serve``."""
    yield CommandPlugin(name="serve", summary="Serve avatars over HTTP.", target="visavis_server_http.command:serve")
