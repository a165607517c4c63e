"""How a failure ends: one line on stderr and an exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Final

import typer

from visavis.cli.output import Output
from visavis.errors import BadInput, VisavisError

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130


class Refused(Exception):  # noqa: N818 (the command is refused; the words were said already)
    """A command that has already said what is wrong ends with this status."""

    def __init__(self, status: int = FAILED) -> None:
        super().__init__(status)
        self.status = status


def status_of(error: BaseException, output: Output) -> int:
    """Tell of an error and return the exit status it means."""
    error = _leaf(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        output.tell("visavis: interrupted")
        return INTERRUPTED
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, BrokenPipeError):
        # The reader of our output went away (`visavis plugins | head`): nothing is wrong, and nobody listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if output.verbose:
        output.tell("".join(traceback.format_exception(error)).rstrip())
    status, lines = _told(error, output.verbose)
    for line in lines:
        output.tell(line)
    return status


def _leaf(error: BaseException) -> BaseException:
    """The error that matters in a group, however deep: our own before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_leaf(inner) for inner in error.exceptions]
    return min(leaves, key=lambda e: (not isinstance(e, VisavisError), not isinstance(e, Exception)))


def _told(error: BaseException, verbose: bool) -> tuple[int, list[str]]:
    if isinstance(error, VisavisError):
        return _ours(error)
    if callable(format_message := getattr(error, "format_message", None)):
        # A usage error of the command line parser, whose classes are not typer's public names.
        if type(error).__name__ == "NoArgsIsHelpError":
            return BAD_INPUT, [str(format_message())]
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "visavis")
        message = " ".join(str(format_message()).split()).rstrip(".")
        return BAD_INPUT, [f"visavis: error: {message}", f"  see `{command} --help`"]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FAILED, [f"visavis: error: {_of(error)}the disk is full"]
    if isinstance(error, OSError) and error.strerror:
        return FAILED, [f"visavis: error: {_of(error)}{error.strerror.lower()}"]
    if isinstance(error, ImportError):
        return FAILED, [f"visavis: error: {error}", "  see `visavis doctor`"]
    told = " ".join(str(error).split()) or "no message"
    lines = [f"visavis: error: {type(error).__name__}: {told}"]
    return FAILED, lines if verbose else [*lines, "  this is a defect; `visavis --verbose ...` shows where"]


def _ours(error: VisavisError) -> tuple[int, list[str]]:
    problems = getattr(error, "problems", None)
    status = BAD_INPUT if isinstance(error, BadInput) else FAILED
    if problems and (file := getattr(error, "file", "")):
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return status, [error.message, f"visavis: error: {file}: {count}"]
    lines = error.message.splitlines()
    said = [f"visavis: error: {lines[0]}", *lines[1:]] if lines else ["visavis: error"]
    return status, [*said, f"  {error.hint}"] if error.hint else said


def _of(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""
