"""Commands that plugins add. They are imported when they are called; a broken one breaks only itself."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from visavis.errors import PluginError

if TYPE_CHECKING:
    from visavis.plugins import CommandPlugin
    from visavis.registry import Installed


@cache
def _installed() -> dict[str, Installed]:
    from visavis.plugins import Kind
    from visavis.registry import Registry

    return {item.name: item for item in Registry.discover().all(Kind.COMMAND)}


def names() -> list[str]:
    """The names of all added commands."""
    return list(_installed())


def command(name: str) -> Any:
    """An added command, not imported yet; None if there is none of that name."""
    item = _installed().get(name)
    if item is None:
        return None
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    shell = typer.Typer(rich_markup_mode=None, add_completion=False)

    @shell.command(name, help=item.record.summary, context_settings=settings)
    def call(ctx: typer.Context) -> None:
        status = _loaded(item).main(list(ctx.args), prog_name=f"visavis {name}", standalone_mode=False, obj=ctx.obj)
        raise typer.Exit(status if isinstance(status, int) else 0)

    return typer.main.get_command(shell)


def _loaded(item: Installed) -> Any:
    """The command that a record's target names. Raises PluginError if it cannot be had."""
    record: CommandPlugin = item.record
    module, _, attribute = record.target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        what = f"the command {item.name!r} of {item.origin} cannot be used: {type(error).__name__}: {error}"
        raise PluginError(what, hint="reinstall it, or tell its authors") from error
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    if callable(getattr(found, "main", None)):
        return found
    if callable(found):
        shell = typer.Typer(rich_markup_mode=None, add_completion=False)
        shell.command(item.name, help=record.summary)(found)
        return typer.main.get_command(shell)
    raise PluginError(f"the command {item.name!r} of {item.origin} is broken: {record.target} cannot be called")
