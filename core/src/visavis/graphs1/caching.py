"""What is made once a machine and kept in files: decoded clips, and whatever a renderer builds of a graph."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

log = logging.getLogger(__name__)

_UNUSED_SECONDS: Final = 30 * 24 * 3600
_STALE_SECONDS: Final = 24 * 3600
_PART: Final = ".part"


def cache_folder() -> Path:
    """Where it all lies: ``VISAVIS_CACHE_DIR``, or visavis in the user's cache folder of this platform.

    Raises RuntimeError for a user who has no home.
    """
    if named := os.environ.get("VISAVIS_CACHE_DIR"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "visavis" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "visavis"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visavis"


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of ``path`` as a whole, once it is written and on the disk.

    Several processes may do so at once: the last one stays. What fails halfway leaves nothing. Raises OSError.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:16]}-", suffix=_PART, dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            part.replace(path)
        except PermissionError:
            # Windows does not replace a file that another process has mapped; that one is as good as ours.
            log.debug("%s is in use", path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path, suffix: str) -> None:
    """Remove files of that suffix that nobody has opened for a month, and parts that a crash has left."""
    now = time.time()
    for path in folder.iterdir():
        limit = {suffix: _UNUSED_SECONDS, _PART: _STALE_SECONDS}.get(path.suffix)
        if limit is None:
            continue
        try:
            if now - path.stat().st_mtime > limit:
                path.unlink()
        except OSError as error:
            # Another process was quicker, or still has it mapped (Windows): not ours to settle.
            log.debug("%s: %s", path, error)
