"""Avatar files for fakes: the tiny avatar, made once a process, for it takes a moment."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from visavis.testing.tiny import tiny_avatar


@cache
def tiny_bytes() -> bytes:
    """The tiny avatar's file."""
    with TemporaryDirectory() as folder:
        return tiny_avatar(folder).read_bytes()


def tiny_file(folder: Path) -> Path:
    """The tiny avatar in a folder."""
    path = folder / "tiny.hvia"
    path.write_bytes(tiny_bytes())
    return path
