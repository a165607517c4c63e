"""What is wrong with a deployment file, and how it reads: every problem at its line, with the fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from visavis.errors import ConfigError

_WIDEST: Final = 160
"""Longer source lines are not quoted: minified files would fill the screen."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of the file: line and column from 1, and where it ends (exclusive)."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    ``path`` is the option's place (``renderer.threads``), empty for the whole file; ``mark`` is None where the
    options did not come from a file; ``fix`` is one sentence or empty.
    """

    path: str
    what: str
    fix: str = ""
    mark: Mark | None = None

    def line(self, file: str) -> str:
        """``file:line:col: path: what`` without source and fix."""
        place = f"{file}:{self.mark.line}:{self.mark.column}" if self.mark else file
        return ": ".join(part for part in (place, self.path, self.what) if part)


class DeploymentError(ConfigError):
    """A deployment does not fit. The message is the whole report; ``problems`` are its parts, in order."""

    def __init__(self, report: str, problems: tuple[Problem, ...], file: str) -> None:
        super().__init__(report)
        self.problems = problems
        self.file = file


def sorted_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By line and column; what has no place comes first. What was said twice is kept once."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda item: (item.mark.line, item.mark.column) if item.mark else (0, 0)))


def report_of(problems: Iterable[Problem], file: str, lines: list[str], hidden: frozenset[int]) -> DeploymentError:
    """The error that shows all problems. ``hidden`` are the line numbers (from 1) that must not be quoted."""
    ordered = sorted_problems(problems)
    blocks = [_block(problem, file, lines, hidden) for problem in ordered]
    return DeploymentError("\n".join(blocks), ordered, file)


def _block(problem: Problem, file: str, lines: list[str], hidden: frozenset[int]) -> str:
    rows = [problem.line(file)] if file or problem.mark else [problem.line("")]
    mark = problem.mark
    if mark is not None and 1 <= mark.line <= len(lines):
        source = lines[mark.line - 1]
        if mark.line in hidden:
            rows.append("    (the line is not shown: it holds a secret or a value of the environment)")
        elif source.strip() and len(source) <= _WIDEST:
            rows += _quote(source, mark)
    if problem.fix:
        rows.append(f"    {problem.fix}")
    return "\n".join(rows)


def _quote(source: str, mark: Mark) -> list[str]:
    shown = "".join(char if char.isprintable() else " " for char in source)
    start = min(mark.column - 1, len(shown))
    end = mark.end_column - 1 if mark.end_line == mark.line else len(shown.rstrip())
    return [f"    {shown.rstrip()}", "    " + " " * start + "^" * max(1, min(end, len(shown)) - start)]
