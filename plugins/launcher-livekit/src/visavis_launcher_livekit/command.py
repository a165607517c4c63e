"""``visavis worker``: a process that runs the sessions which LiveKit's agent dispatch hands out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from visavis.cli.options import output_of


def worker(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A deployment file; see `visavis check`.")
    ] = None,
    agent_name: Annotated[
        str | None, typer.Option("--agent-name", metavar="NAME", help="Be dispatched as.  [default: visavis]")
    ] = None,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="How log records look.")
    ] = "text",
) -> None:
    """Run avatars for servers with `launcher: {use: livekit-dispatch}`, and for whoever dispatches a SessionRequest.

    Store, source, renderer, transport and limits are those of CONFIG, as for `visavis serve`; so is the section
    `launcher`, if it is that of livekit-dispatch. SIGTERM and Ctrl-C take on nothing more and let sentences finish;
    what still goes on is then handed to other workers. A second signal ends all at once.
    """
    import anyio
    from visavis.errors import BadInput
    from visavis.logs import to_stderr

    output = output_of(ctx)
    if log_format not in ("text", "json"):
        raise BadInput(f"--log-format is text or json, not {log_format[:20]!r}")
    deployment = deployment_of(config)
    options = options_of(deployment, agent_name)
    to_stderr("json" if log_format == "json" else "text", "debug" if output.verbose else "info")
    if not anyio.run(_work, options, deployment, output.tell if log_format == "text" else lambda said: None):
        raise typer.Exit(130)


def deployment_of(config: Path | None) -> Any:
    """The deployment to work for. Raises ConfigError."""
    from visavis.config import serving_deployment
    from visavis.registry import Registry

    return serving_deployment(Registry.discover(), config)


def options_of(deployment: Any, agent_name: str | None) -> Any:
    """The options of the deployment's launcher, or their defaults. Raises ConfigError if LiveKit is not known."""
    from pydantic import ValidationError
    from visavis.errors import ConfigError

    from visavis_launcher_livekit.options import DispatchOptions

    part = deployment.launcher
    options = part.config if part is not None and isinstance(part.config, DispatchOptions) else DispatchOptions()
    if agent_name is not None:
        said = {name: getattr(options, name) for name in options.model_fields_set} | {"agent_name": agent_name}
        try:
            options = DispatchOptions.model_validate(said)
        except ValidationError as error:
            raise ConfigError(f"--agent-name: {error.errors()[0]['msg']}") from None
    missing = [name for name in ("url", "api_key", "api_secret") if not getattr(options, name)]
    if missing:
        raise ConfigError(
            f"a worker needs a LiveKit server: {', '.join(missing)} missing",
            hint="set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
        )
    return options


async def _work(options: Any, deployment: Any, tell: Any) -> bool:
    """Work until a signal, then drain; returns whether sessions were left the time they wanted."""
    import anyio
    from visavis.session import single
    from visavis.workers import settle

    from visavis_launcher_livekit.agent import Agent
    from visavis_launcher_livekit.host import Host

    def registered(worker_id: str) -> None:
        tell(f"visavis: worker {worker_id} of agent {options.agent_name} at {options.url}")

    hurried = False
    try:
        async with Host(options, deployment) as host:
            agent = Agent(options, host)
            settle()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.run, registered)
                stop, hurry = anyio.Event(), anyio.Event()
                tasks.start_soon(_signals, stop, hurry)
                await stop.wait()
                tell("visavis: draining; no further session is taken on")
                hurried = not await _drained(agent, host, hurry)
                await agent.aclose()
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single(group) from None
    return not hurried


async def _drained(agent: Any, host: Any, hurry: Any) -> bool:
    """Let all end or move; False if somebody could not wait for it."""
    import anyio

    async def until_hurried(scope: anyio.CancelScope) -> None:
        await hurry.wait()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_hurried, tasks.cancel_scope)
        tasks.start_soon(agent.refuse)
        await host.drain()
        tasks.cancel_scope.cancel()
    return not hurry.is_set()


async def _signals(stop: Any, hurry: Any) -> None:
    import anyio

    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if stop.is_set():
                    hurry.set()
                stop.set()
    except NotImplementedError:  # no signals in this event loop (Windows): Ctrl-C raises KeyboardInterrupt
        await anyio.sleep_forever()
