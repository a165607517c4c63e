"""``visavis render``: a recording in, a video out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from visavis.cli.options import Config, Json, deployment_of, output_of
from visavis.cli.run import figures, summary


def render(
    ctx: typer.Context,
    speech: Annotated[
        Path, typer.Argument(metavar="SPEECH", help="A recording: any audio file, or a video with sound.")
    ],
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.mp4", help="The video to write.")],
    avatar: Annotated[
        str | None, typer.Option("--avatar", "-a", metavar="ID", help="Who speaks, or a file.  [default: mira]")
    ] = None,
    config: Config = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Where blinks and glances start from.", min=0)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a recording that is cut short or damaged.")] = False,
    as_json: Json = False,
) -> None:
    """Let an avatar speak a recording, and write the video."""
    from visavis.cli.progress import run_shown, seconds_of
    from visavis.interfaces.session import SessionRequest
    from visavis.plugins import Kind
    from visavis.registry import Registry

    output = output_of(ctx)
    registry = Registry.discover()
    deployment = deployment_of(config, registry, forced={Kind.SOURCE: "file", Kind.TRANSPORT: "file"})
    if avatar is not None and avatar.endswith(".hvia") and Path(avatar).is_file():
        folder = Path(avatar).absolute().parent
        deployment = replace(deployment, store=deployment_of(None, registry, root=folder).store)
        avatar = Path(avatar).name
    base = deployment.session or SessionRequest()
    request = base.model_copy(
        update={
            "avatar": base.avatar if avatar is None else avatar.removesuffix(".hvia"),
            "seed": base.seed if seed is None else seed,
            "source": {"path": str(speech), "strict": strict},
            "transport": {"path": str(output_file)},
        }
    )
    deployment = deployment.with_session(request)
    stats, wall = run_shown(output, deployment, request, seconds_of(speech))
    if as_json:
        about = {"output": str(output_file), "avatar": request.avatar}
        output.json({**about, **figures(stats, wall), "warnings": output.warnings})
    else:
        output.tell(f"visavis: {output_file}: {summary(stats, wall)}")
