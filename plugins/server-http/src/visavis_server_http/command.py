"""``visavis serve``: the server on the command line, from a deployment file or without one."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from visavis.cli.options import output_of


def serve(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A deployment file; see `visavis check`.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="H", help="The address.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", metavar="N", help="The port.  [default: 8080]", min=0, max=65_535)
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="text|json", help="How log records look.  [default: text]")
    ] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make an API key, show it and its hash, and end.")] = False,
) -> None:
    """Serve avatars over HTTP: they join LiveKit rooms and speak there.

    Without CONFIG: the sample avatar and ./assets/avatars, on 127.0.0.1 alone, for anyone on this machine. SIGTERM and
    Ctrl-C let sentences finish first; a second one does not.
    """
    output = output_of(ctx)
    if new_key:
        from visavis_server_http.keys import new_key as made

        key, digest = made()
        output.rows([("key", key), ("hash", digest)])
        output.tell('visavis: give the key to a client, and the hash to the server: server: {api_keys: ["sha256:..."]}')
        return
    given = {"host": host, "port": port, "log_format": log_format}
    deployment = deployment_of(config, {key: value for key, value in given.items() if value is not None})
    options = deployment.server.config

    import anyio
    from visavis.logs import to_stderr

    to_stderr(options.log_format, "debug" if output.verbose else options.log_level)
    if not anyio.run(_serve, deployment, output.tell):
        raise typer.Exit(130)


def deployment_of(config: Path | None, given: dict[str, Any]) -> Any:
    """The deployment to serve, with the options of the command line. Raises ConfigError."""
    from pydantic import ValidationError
    from visavis.config import serving_deployment
    from visavis.errors import ConfigError
    from visavis.registry import Registry

    from visavis_server_http.options import HttpServerOptions

    deployment = serving_deployment(Registry.discover(), config)
    part = deployment.server
    if part is None or not isinstance(part.config, HttpServerOptions):
        raise ConfigError("`visavis serve` serves by `server: {use: http}`; the deployment has another server")
    if given:
        said = {name: getattr(part.config, name) for name in part.config.model_fields_set} | given
        try:
            options = HttpServerOptions.model_validate(said)
        except ValidationError as error:
            told = "; ".join(str(found["msg"]).removeprefix("Value error, ") for found in error.errors())
            raise ConfigError(told) from None
        deployment = replace(deployment, server=replace(part, config=options))
    return deployment


async def _serve(deployment: Any, tell: Any) -> bool:
    """Serve until a signal, then drain; returns whether sessions were left the time they wanted."""
    import anyio
    from visavis.workers import settle

    from visavis_server_http.server import HttpServer
    from visavis_server_http.telemetry import PrometheusMetrics

    metrics = PrometheusMetrics()
    server = HttpServer(deployment.server.config, metrics)
    store = deployment.store.make()
    try:
        async with deployment.launcher.make(deployment, metrics) as launcher, _signals(server):
            settle()
            async with anyio.create_task_group() as tasks:
                if server.options.log_format == "text":
                    tasks.start_soon(_greet, server, tell)
                await server.run(launcher, store)
                tasks.cancel_scope.cancel()
    finally:
        await store.aclose()
    return not server.hurried


async def _greet(server: Any, tell: Any) -> None:
    await server.listening.wait()
    doors = "anyone on this machine" if server.options.open else f"{len(server.options.api_keys)} API keys"
    tell(f"visavis: serving on {server.url} for {doors}; the API is described at {server.url}/docs")


@asynccontextmanager
async def _signals(server: Any) -> AsyncIterator[None]:
    """SIGTERM and SIGINT stop the server, once gently."""
    import anyio

    async def listen() -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    server.stop()
        except NotImplementedError:  # no signals in this event loop (Windows): Ctrl-C raises KeyboardInterrupt
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
