"""Options that several commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.cli.output import Output

if TYPE_CHECKING:
    from visavis.config import Deployment
    from visavis.plugins import Kind
    from visavis.registry import Registry

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Take the parts from a deployment file.")
]
Root = Annotated[Path | None, typer.Option("--root", metavar="FOLDER", help="A folder of .hvia files.")]

DEFAULT_ROOT = Path("assets/avatars")


def output_of(ctx: typer.Context) -> Output:
    """The output of this command line."""
    found = ctx.find_object(Output)
    return found if found is not None else Output()


def deployment_of(
    config: Path | None, registry: Registry, *, forced: dict[Kind, str] | None = None, root: Path | None = None
) -> Deployment:
    """The deployment of a file, or the default one with the avatars of ``root`` (``./assets/avatars`` if it exists).

    Raises ConfigError.
    """
    from visavis.config import load_deployment, make_deployment

    if config is not None and root is None:
        return load_deployment(config, registry, forced=forced)
    if root is None and DEFAULT_ROOT.is_dir():
        root = DEFAULT_ROOT
    sections: dict[str, Any] = {} if root is None else {"store": {"use": "filesystem", "root": str(root)}}
    return make_deployment(sections, registry, forced=forced)
