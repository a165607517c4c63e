"""``visavis schema``: the JSON Schema of deployment files, for editors."""

from __future__ import annotations

import typer

from visavis.cli.options import output_of


def schema(ctx: typer.Context) -> None:
    """Print a JSON Schema of deployment files, made of the plugins that are installed.

    Save it and begin a deployment with: # yaml-language-server: $schema=FILE
    """
    from visavis.config import deployment_schema
    from visavis.registry import Registry

    output_of(ctx).json(deployment_schema(Registry.discover()))
