"""``visavis bench``: what a frame costs here."""

from __future__ import annotations

import typer

from visavis.cli.options import Json, output_of


def bench(ctx: typer.Context, as_json: Json = False) -> None:
    """Measure."""
    output_of(ctx).json({})
