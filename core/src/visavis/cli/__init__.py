"""The command line. Nothing heavy is imported until a command needs it: ``visavis --help`` answers at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (``sys.argv`` by default) and return its exit status.

    0: fine; 1: failed; 2: bad usage or input; 130: interrupted.
    """
    from visavis.cli.app import call

    return call(arguments)


def program() -> NoReturn:
    """The program ``visavis``: a process that ends with the status of its command line.

    It does not wait for the interpreter to be taken down: native threads, those of LiveKit's SDK above all, call into
    Python meanwhile now and then, and abort the process, whose status then is SIGABRT's.
    """
    from visavis.workers import take_short_turns

    take_short_turns()
    status = main()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # whoever read it has gone away
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
