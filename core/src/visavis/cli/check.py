"""``visavis check``: whether a deployment file is right. Needs no GPU and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visavis.cli.failing import BAD_INPUT, Refused
from visavis.cli.options import Json, output_of


def check(
    ctx: typer.Context,
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT.yaml", help="The file to check.")],
    as_json: Json = False,
) -> None:
    """Check a deployment file: all problems at once, each at its line. Starts nothing."""
    from visavis.config import DeploymentError, load_deployment
    from visavis.registry import Registry

    output = output_of(ctx)
    try:
        loaded = load_deployment(deployment, Registry.discover())
    except DeploymentError as error:
        if not as_json:
            raise
        output.json({"ok": False, "file": error.file, "problems": [_problem(item) for item in error.problems]})
        raise Refused(BAD_INPUT) from error
    parts = loaded.parts()
    if as_json:
        described = {p.kind.value: {"use": p.name, "from": p.origin.dist, "version": p.origin.version} for p in parts}
        output.json({"ok": True, "file": str(deployment), "parts": described})
        return
    output.result(f"{deployment} is fine")
    output.rows([(p.kind.value, p.name, str(p.origin)) for p in parts], indent="  ")


def _problem(item: Any) -> dict[str, Any]:
    place = {"line": item.mark.line, "column": item.mark.column} if item.mark else {}
    return {**place, "path": item.path, "what": item.what, "fix": item.fix}
