"""The command line. Nothing heavy is imported until a command needs it: ``visavis --help`` answers at once."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (``sys.argv`` by default) and return its exit status.

    0: fine; 1: failed; 2: bad usage or input; 130: interrupted.
    """
    from visavis.cli.app import call

    return call(arguments)
