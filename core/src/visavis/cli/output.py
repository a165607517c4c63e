"""What commands show: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Output:
    """Where the commands of one command line write to."""

    def __init__(self) -> None:
        self.verbose = False
        self.warnings: list[str] = []
        """What was warned of so far."""
        self._console: Console | None = None

    def begin(self, *, verbose: bool) -> None:
        """Let log records through: warnings, or all of ours with ``verbose``."""
        self.verbose = verbose
        logger = logging.getLogger("visavis")
        for handler in [h for h in logger.handlers if isinstance(h, _Lines)]:
            logger.removeHandler(handler)
        logger.addHandler(_Lines(self))
        logger.setLevel(logging.DEBUG if verbose else logging.WARNING)

    def tell(self, line: str) -> None:
        """One line on stderr, above a progress bar if there is one."""
        if self._console is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(line, err=True)

    def result(self, text: str) -> None:
        """Text on stdout."""
        typer.echo(text)

    def json(self, value: Any) -> None:
        """One JSON document on stdout."""
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def rows(self, rows: Sequence[Sequence[str]], *, indent: str = "") -> None:
        """Aligned columns on stdout; the last one is as wide as it likes."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            typer.echo((indent + "  ".join([*cells, row[-1]])).rstrip())

    @contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """A progress display on stderr; None where stderr is no terminal."""
        if not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        try:
            with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as shown:
                yield shown
        finally:
            self._console = None


class _Lines(logging.Handler):
    """Log records as single lines on stderr, in the words of the command line."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        text = record.getMessage()
        if record.levelno == logging.WARNING:
            self._output.warnings.append(text)
        where = f" {record.name}:" if self._output.verbose else ""
        self._output.tell(f"visavis: {record.levelname.lower()}:{where} {text}")
