"""Which avatar files lie where, told from names, sizes and dates alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIX: Final = ".hvia"
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an id looks like: nothing that could lead out of a folder."""

BUILTIN: Final = Path(__file__).parent / "avatars"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One avatar file. ``stamp`` changes when the file is replaced or written to."""

    id: str
    path: Path
    size: int
    stamp: tuple[int, int, int]
    builtin: bool


Snapshot = Mapping[str, FoundFile]
"""Avatar files by id."""


def look(root: Path | None, *, builtin: bool) -> Snapshot:
    """The avatar files of a folder, and the sample avatars for ids that it lacks."""
    found = _files(BUILTIN, builtin=True) if builtin else {}
    if root is not None:
        found.update(_files(root, builtin=False))
    return dict(sorted(found.items()))


def _files(folder: Path, *, builtin: bool) -> dict[str, FoundFile]:
    """Nothing for a folder that is not there: it may come back."""
    found: dict[str, FoundFile] = {}
    try:
        paths = list(folder.iterdir())
    except OSError:
        return found
    for path in paths:
        if path.suffix != SUFFIX or path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except OSError:
            # It went away meanwhile, or is a link that leads nowhere.
            continue
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        found[path.stem] = FoundFile(path.stem, path, status.st_size, stamp, builtin)
    return found
