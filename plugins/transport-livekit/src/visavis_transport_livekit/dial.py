"""``visavis dial``: dial a LiveKit room step by step, and say which step fails and what to do."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from visavis.cli.failing import FAILED, Refused
from visavis.cli.options import Json, output_of


def dial(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(envvar="LIVEKIT_URL", help="ws://host:port or wss://host.")],
    token: Annotated[
        str, typer.Option("--token", envvar="LIVEKIT_TOKEN", help="A participant's token; or give key and secret.")
    ] = "",
    api_key: Annotated[str, typer.Option("--api-key", envvar="LIVEKIT_API_KEY", help="An API key of the server.")] = "",
    api_secret: Annotated[str, typer.Option("--api-secret", envvar="LIVEKIT_API_SECRET", help="Its secret.")] = "",
    room: Annotated[str, typer.Option("--room", help="The room to dial, with a key.")] = "visavis-dial",
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=120, help="How long one step may take.")] = 15.0,
    as_json: Json = False,
) -> None:
    """Dial a LiveKit room: its name, its port, the server, the token, joining, publishing, and the way back.

    With an API key a second participant looks and listens, so that pictures and sound are followed all the way. Exit
    status 1 if a step fails.
    """
    import anyio

    from visavis_transport_livekit.dialling import Call, Finding, walk

    output = output_of(ctx)
    if not output.verbose:
        logging.getLogger("livekit").setLevel(logging.CRITICAL)  # what matters of it is told as a step
    call = Call(url, token, api_key, api_secret, room, seconds)
    findings: list[Finding] = []

    def told(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            output.result(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.step.ljust(9)}{finding.said}")
            if finding.hint:
                output.result(f"      -> {finding.hint}")

    async def run() -> None:
        await walk(call, told)

    anyio.run(run, backend="asyncio")
    fine = all(finding.fine for finding in findings)
    if as_json:
        output.json({"ok": fine, "steps": [finding.as_dict() for finding in findings]})
    if not fine:
        raise Refused(FAILED)
