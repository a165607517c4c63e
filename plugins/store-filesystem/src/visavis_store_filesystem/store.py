"""A folder of avatar files."""

from __future__ import annotations

import difflib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
from visavis import workers
from visavis.errors import AvatarError, AvatarNotFound
from visavis.hvia import Hvia, open_hvia
from visavis.interfaces.avatar import AvatarEntry, AvatarStore, StoreChange

from visavis_store_filesystem import FilesystemStoreOptions
from visavis_store_filesystem.folder import ID, FoundFile, Snapshot, look
from visavis_store_filesystem.watch import differences, snapshots

log = logging.getLogger("visavis.store.filesystem")

Entries = list[AvatarEntry]


class FilesystemStore(AvatarStore):
    """The avatars of one folder, and the sample avatars. Raises AvatarError if the folder is not there."""

    def __init__(self, options: FilesystemStoreOptions) -> None:
        self._options = options
        self._root = None if options.root is None else options.root.expanduser().absolute()
        if self._root is not None and not self._root.is_dir():
            raise AvatarError(
                f"there is no folder {options.root}", hint="make it, or leave `root` out to use the sample avatars"
            )
        self._entries: dict[tuple[str, tuple[int, int, int]], AvatarEntry] = {}
        self._closed = anyio.Event()

    async def list(self) -> list[AvatarEntry]:
        """All avatars by id, broken ones included with their reason. A file is read again only after it changed."""
        return await workers.run(self._list)

    async def open(self, avatar_id: str) -> Hvia:
        """Open one avatar; the caller closes it.

        Raises AvatarNotFound (the message says which exist) or AvatarInvalid.
        """
        return await workers.run(self._open, avatar_id)

    async def changes(self) -> AsyncIterator[StoreChange]:
        """What is added, replaced or removed from now on, until cancelled or until the store is closed."""
        async with aclosing(snapshots(self._look, self._root, self._options.poll_s, self._closed)) as looks:
            before: Snapshot | None = None
            async for after in looks:
                for change in differences(before, after) if before is not None else ():
                    yield change
                before = after

    async def aclose(self) -> None:
        """End what :meth:`changes` gives. Avatars that are open stay open."""
        self._closed.set()

    def _look(self) -> Snapshot:
        return look(self._root, builtin=self._options.builtin)

    def _list(self) -> Entries:
        entries = {(file.id, file.stamp): self._entry(file) for file in self._look().values()}
        # Only what is there is remembered, so that a busy folder does not fill the memory.
        self._entries = entries
        return sorted(entries.values(), key=lambda entry: entry.id)

    def _entry(self, file: FoundFile) -> AvatarEntry:
        known = self._entries.get((file.id, file.stamp))
        if known is not None and known.builtin == file.builtin:
            return known
        try:
            _check_id(file.id)
            with open_hvia(file.path) as avatar:
                return AvatarEntry(
                    id=file.id,
                    name=avatar.manifest.name,
                    size=avatar.size,
                    digest=avatar.digest,
                    builtin=file.builtin,
                )
        except AvatarError as error:
            log.warning("%s cannot be used: %s", file.path.name, error)
            return AvatarEntry(
                id=file.id, name=file.id, size=file.size, digest="", problem=str(error), builtin=file.builtin
            )

    def _open(self, avatar_id: str) -> Hvia:
        # The id only ever picks a file that was found: it is no part of a path.
        found = self._look()
        file = found.get(avatar_id)
        if file is None or ID.fullmatch(avatar_id) is None:
            raise self._not_found(avatar_id, found)
        try:
            return open_hvia(file.path)
        except AvatarNotFound:
            raise self._not_found(
                avatar_id, {key: value for key, value in found.items() if value is not file}
            ) from None

    def _not_found(self, avatar_id: str, found: Snapshot) -> AvatarNotFound:
        ids = [known for known in found if ID.fullmatch(known)]
        close = difflib.get_close_matches(avatar_id.lower(), ids, n=1, cutoff=0.6)
        shown = ", ".join(ids[:20]) + (", ..." if len(ids) > 20 else "")
        there = f"there are: {shown}" if ids else "there are none"
        shorter = avatar_id if len(avatar_id) <= 80 else avatar_id[:77] + "..."
        return AvatarNotFound(
            f"there is no avatar {shorter!a}; {there}", hint=f"did you mean {close[0]!r}?" if close else ""
        )


def _check_id(avatar_id: str) -> None:
    if ID.fullmatch(avatar_id) is None:
        raise AvatarError(
            f"{avatar_id[:80]!a} cannot be an avatar's id",
            hint="name the file with 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first",
        )
