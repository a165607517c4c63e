"""The commands, put together: ours, and those that plugins add."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from visavis.cli import avatars, bench, check, doctor, extensions, plugins, render, run, schema
from visavis.cli.failing import INTERRUPTED, status_of
from visavis.cli.output import Output


class _Commands(TyperGroup):
    """Our commands first; a plugin is asked only for a name that is none of ours, and for the list in the help."""

    def list_commands(self, ctx: Any) -> list[str]:
        ours = super().list_commands(ctx)
        return [*ours, *(name for name in extensions.names() if name not in ours)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or extensions.command(cmd_name)


app = typer.Typer(
    name="visavis",
    cls=_Commands,
    help="Gives any voice a face: speech in, a lip-synced video of an avatar out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("render")(render.render)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("plugins")(plugins.plugins)
app.command("schema")(schema.schema)
app.add_typer(avatars.app, name="avatars")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from visavis import __version__

        typer.echo(f"visavis {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    ctx: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell what happens, and how errors came about.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.find_object(Output).begin(verbose=verbose)  # type: ignore[union-attr]


def call(arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit status; errors are told on stderr, never as a traceback."""
    output = Output()
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        ended = typer.main.get_command(app).main(words, prog_name="visavis", standalone_mode=False, obj=output)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 (whatever happens is told in one line, with its exit status)
        return status_of(error, output)
    if ended == INTERRUPTED:
        output.tell("visavis: interrupted")  # typer makes an exit status of a KeyboardInterrupt, without a word
    return ended if isinstance(ended, int) else 0
