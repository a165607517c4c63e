"""Opening an avatar file. Cheap enough for a list of avatars, strict enough for a file from a stranger.

Nothing is executed and nothing is written: opening checks the archive, the manifest and every member's hash. The
graphs are checked by :mod:`visavis.hvia.graphs`, which every renderer goes through.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from visavis.errors import AvatarInvalid, AvatarNotFound
from visavis.hvia.archive import Archive
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import MANIFEST, SIGNATURE, Manifest, parse_manifest
from visavis.hvia.placement import Placement, parse_placement

_CHUNK = 1024 * 1024


class Hvia:
    """An open avatar file, whose archive, manifest and hashes are right. Made by :func:`open_hvia`.

    ``id`` is the file's stem, ``digest`` the SHA-256 of the whole file (hex), ``size`` its bytes. Safe to read from
    several threads. Close it, or use it as a context manager.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int, limits: Limits) -> None:
        self.path = path
        self.id = path.stem
        self.size = size
        self.limits = limits
        self._file = file
        self._archive = Archive(file, size, path.name, limits)
        self.manifest: Manifest = self._read_manifest()
        self._hashes = {member.path: member.sha256 for member in self.manifest.members}
        self._check_members()
        self.digest = self._whole_digest()

    def __repr__(self) -> str:
        return f"<Hvia {self.id} {self.digest[:12]}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def members(self) -> tuple[str, ...]:
        """The paths that :meth:`read` takes, in the file's order."""
        return tuple(self._archive.entries)

    def read(self, member: str) -> bytes:
        """One member's bytes, their hash checked anew. Raises KeyError for an unknown path, AvatarInvalid."""
        data = b"".join(self._archive.chunks(member))
        expected = self._hashes.get(member)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise self.fault(f"{member!r} changed while the file was open")
        return data

    def placement(self, clip_id: str) -> Placement:
        """Where the face lands on every frame of a clip. Raises KeyError for an unknown clip, AvatarInvalid."""
        clip, video = self.manifest.clip(clip_id), self.manifest.video
        if self._archive.entries[clip.placement].size > self.limits.placement:
            raise self.fault(f"{clip.placement!r} has more than {self.limits.placement} bytes")
        try:
            return parse_placement(
                self.read(clip.placement), clip.frames, video.width, video.height, limits=self.limits
            )
        except ValueError as error:
            raise self.fault(f"{clip.placement!r}: {error}") from error

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._file.close()

    def fault(self, reason: str, *, hint: str = "") -> AvatarInvalid:
        """An error about this file."""
        return AvatarInvalid(self.path.name, reason, hint=hint)

    def _read_manifest(self) -> Manifest:
        if self._archive.entries[MANIFEST].size > self.limits.manifest:
            raise self.fault(f"{MANIFEST} has more than {self.limits.manifest} bytes")
        return parse_manifest(b"".join(self._archive.chunks(MANIFEST)), self.path.name, limits=self.limits)

    def _check_members(self) -> None:
        """The manifest and the archive list the same members, of the same size and hash."""
        listed = {member.path: member for member in self.manifest.members}
        here = self._archive.entries.keys() - {MANIFEST, SIGNATURE}
        if missing := listed.keys() - here:
            raise self.fault(f"it lacks {min(missing)!r}, which its manifest lists")
        if unlisted := here - listed.keys():
            raise self.fault(f"it holds {min(unlisted)!r}, which its manifest does not list")
        if SIGNATURE in self._archive.entries and self._archive.entries[SIGNATURE].size > self.limits.signature:
            raise self.fault(f"{SIGNATURE} has more than {self.limits.signature} bytes")
        for path, member in listed.items():
            if self._archive.entries[path].size != member.size:
                raise self.fault(f"{path!r} has {self._archive.entries[path].size} bytes, not {member.size}")
        for path, member in listed.items():
            digest = hashlib.sha256()
            for chunk in self._archive.chunks(path):
                digest.update(chunk)
            if digest.hexdigest() != member.sha256:
                raise self.fault(f"{path!r} is not the one its manifest lists: its SHA-256 differs")
        if SIGNATURE in self._archive.entries:
            for _ in self._archive.chunks(SIGNATURE):
                pass

    def _whole_digest(self) -> str:
        digest = hashlib.sha256()
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


def open_hvia(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Hvia:
    """Open an avatar file for reading and check all but its graphs and videos.

    Raises AvatarNotFound if there is no such file, AvatarInvalid with one sentence if it cannot be used.
    """
    where = Path(path)
    try:
        # Asked before opening: a pipe would wait for its writer, a device might do anything.
        status = where.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a file"
            raise AvatarInvalid(where.name, f"it is {kind}", hint="`visavis avatars pack` makes a file of a folder")
        if status.st_size > limits.file:
            raise AvatarInvalid(where.name, f"it has {status.st_size} bytes; at most {limits.file} are read")
        file = where.open("rb")
    except FileNotFoundError as error:
        raise AvatarNotFound(f"there is no avatar file {where}") from error
    except (OSError, ValueError) as error:
        raise AvatarInvalid(where.name, f"it cannot be opened: {_why(error)}") from error
    try:
        return Hvia(where, file, os.fstat(file.fileno()).st_size, limits)
    except OSError as error:
        file.close()
        raise AvatarInvalid(where.name, f"it cannot be read: {_why(error)}") from error
    except BaseException:
        file.close()
        raise


def _why(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
