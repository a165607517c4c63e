"""Where a file goes: checked early, written beside its place, put there only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from visavis.errors import BadInput


class Target:
    """A path that will hold a file. Until ``commit`` nothing is to be seen there, and what is there stays."""

    def __init__(self, path: Path, *, source: str | os.PathLike[str] | None = None) -> None:
        """Check the path. Raises BadInput if no file can be written there, or if it is the ``source`` itself."""
        self.path = path
        try:
            # A link stays a link: what it points to is replaced.
            self._place = Path(os.path.realpath(path))
            self._check_place(source)
            self.partial = self._place.with_name(f".{self._place.name[:40]}.partial-{secrets.token_hex(4)}")
            self._create()
            self.partial.unlink()
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be written: {reason(error)}") from None

    def _check_place(self, source: str | os.PathLike[str] | None) -> None:
        folder = self._place.parent
        if not folder.is_dir():
            raise BadInput(f"{self.path} cannot be written: the folder {folder} does not exist")
        try:
            found = self._place.stat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            raise BadInput(f"{self.path} cannot be written: it is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{self.path} cannot be written: it is not a regular file")
        if source is not None and os.path.exists(source) and os.path.samefile(source, self._place):
            raise BadInput(f"{self.path} is the recording itself", hint="write to another file")
        if not os.access(self._place, os.W_OK):
            raise BadInput(f"{self.path} cannot be written: permission denied")

    def _create(self) -> None:
        os.close(os.open(self.partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))

    def begin(self) -> Path:
        """Create the partial file and return its path. Raises OSError."""
        self._create()
        return self.partial

    def commit(self) -> None:
        """Put the partial file in its place, in one step. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.partial, stat.S_IMODE(self._place.stat().st_mode))
        os.replace(self.partial, self._place)

    def discard(self) -> None:
        """Remove the partial file. Where an open file cannot be removed it stays, for a second call after closing."""
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self.partial.unlink()


def reason(error: Exception) -> str:
    """Why a file could not be written, in a few words."""
    number = getattr(error, "errno", None)
    words = {
        errno.ENOSPC: "disk full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file is larger than is allowed here",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EROFS: "the file system is read-only",
        errno.ENAMETOOLONG: "the name is too long",
    }
    known = words.get(number) if number is not None else None
    return known or getattr(error, "strerror", None) or str(error)
