"""A correct store, and stores that break one promise each."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import anyio

from visavis.errors import AvatarError, AvatarInvalid, AvatarNotFound
from visavis.hvia import Hvia, open_hvia
from visavis.interfaces.avatar import AvatarEntry, AvatarStore, StoreChange
from visavis.testing import store as checks
from visavis.testing.saboteurs.files import tiny_bytes
from visavis.testing.store import STORE, StoreCase

Change = Literal["added", "replaced", "removed"]


class FolderStore(AvatarStore):
    """The files of a folder; looks anew at every call, and every tenth of a second for changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closed = False

    def files(self) -> list[Path]:
        """The files, by id."""
        return sorted(self.folder.glob("*.hvia"), key=lambda path: path.stem)

    async def list(self) -> list[AvatarEntry]:
        """All of them."""
        return [self.entry(path) for path in self.files()]

    def entry(self, path: Path) -> AvatarEntry:
        """A file's line."""
        try:
            with open_hvia(path) as avatar:
                return AvatarEntry(path.stem, avatar.manifest.name, avatar.size, avatar.digest)
        except AvatarError as error:
            return AvatarEntry(path.stem, path.stem, path.stat().st_size, "", problem=str(error))

    async def open(self, avatar_id: str) -> Hvia:
        """One of them."""
        for path in self.files():
            if path.stem == avatar_id:
                return open_hvia(path)
        raise self.not_found(avatar_id)

    def not_found(self, avatar_id: str) -> AvatarNotFound:
        """The error that says what exists."""
        ids = ", ".join(path.stem for path in self.files())
        return AvatarNotFound(f"there is no avatar {avatar_id[:40]!a}; there are: {ids}")

    def stamps(self) -> dict[str, tuple[int, int]]:
        """What changes when a file does."""
        return {path.stem: (path.stat().st_mtime_ns, path.stat().st_ino) for path in self.files()}

    async def changes(self) -> AsyncIterator[StoreChange]:
        """The differences between two looks."""
        before = self.stamps()
        while not self.closed:
            await anyio.sleep(0.1)
            after = self.stamps()
            for avatar in sorted(before.keys() | after.keys()):
                if avatar not in before:
                    yield self.change("added", avatar)
                elif avatar not in after:
                    yield self.change("removed", avatar)
                elif before[avatar] != after[avatar]:
                    yield self.change("replaced", avatar)
            before = after

    def change(self, kind: Change, avatar: str) -> StoreChange:
        """One change."""
        return StoreChange(kind, avatar)

    async def aclose(self) -> None:
        """End what ``changes`` gives."""
        self.closed = True


def correct(folder: Path, made: Callable[[Path], AvatarStore] = FolderStore) -> StoreCase:
    """A store that keeps every promise; or another one of the same folder."""

    def put(avatar: str) -> None:
        begun = folder / f".{avatar}.part"
        begun.write_bytes(tiny_bytes())
        begun.replace(folder / f"{avatar}.hvia")

    for avatar in ("ann", "bob"):
        put(avatar)
    (folder / "wreck.hvia").write_bytes(b"this is no archive")
    return StoreCase(
        make=lambda: made(folder),
        good=["ann", "bob"],
        broken=["wreck"],
        put=put,
        remove=lambda avatar: (folder / f"{avatar}.hvia").unlink(),
        tells=True,
        patience=3.0,
    )


class _ListsTwice(FolderStore):
    """Lists the first avatar as a default, and again under its name."""

    async def list(self) -> list[AvatarEntry]:
        listed = await super().list()
        return [listed[0], *listed]


@STORE.breaks(checks.lists_what_is_there)
def lists_twice(folder: Path) -> StoreCase:
    """Whoever counts is wrong."""
    return correct(folder, _ListsTwice)


class _ListsBackwards(FolderStore):
    """The newest first."""

    async def list(self) -> list[AvatarEntry]:
        return (await super().list())[::-1]


@STORE.breaks(checks.lists_in_order)
def lists_backwards(folder: Path) -> StoreCase:
    """All are there, in an order of their own."""
    return correct(folder, _ListsBackwards)


class _HidesBroken(FolderStore):
    """Lists what can be used only."""

    async def list(self) -> list[AvatarEntry]:
        return [entry for entry in await super().list() if entry.problem is None]


@STORE.breaks(checks.lists_broken_avatars_with_their_reason)
def hides_broken(folder: Path) -> StoreCase:
    """Nobody learns why an avatar is missing."""
    return correct(folder, _HidesBroken)


class _SubstitutesBroken(FolderStore):
    """Opens another avatar where the one that is asked for is broken."""

    async def open(self, avatar_id: str) -> Hvia:
        try:
            return await super().open(avatar_id)
        except AvatarInvalid:
            return await super().open("bob")


@STORE.breaks(checks.refuses_to_open_broken_avatars)
def substitutes_broken(folder: Path) -> StoreCase:
    """A stranger's face appears."""
    return correct(folder, _SubstitutesBroken)


class _OpensTheFirst(FolderStore):
    """Finds files whose name begins with the id, and takes the last."""

    async def open(self, avatar_id: str) -> Hvia:
        found = [path for path in self.files() if avatar_id and path.stem.startswith(avatar_id)]
        if not found:
            raise self.not_found(avatar_id)
        return open_hvia(found[-1])


@STORE.breaks(checks.opens_what_it_lists)
def opens_the_first(folder: Path) -> StoreCase:
    """Asked for bob it opens bobby, who has the same digest here."""
    case = correct(folder, _OpensTheFirst)
    assert case.put is not None
    case.put("bobby")
    return case


class _SaltsDigests(FolderStore):
    """Counts its looks into the digest."""

    looks = 0

    def entry(self, path: Path) -> AvatarEntry:
        self.looks += 1
        entry = super().entry(path)
        digest = hashlib.sha256(f"{entry.digest}{self.looks}".encode()).hexdigest()
        return replace(entry, digest=digest if entry.digest else "")


@STORE.breaks(checks.keeps_digests)
def salts_digests(folder: Path) -> StoreCase:
    """Every cache misses."""
    return correct(folder, _SaltsDigests)


class _Curt(FolderStore):
    """Does not say what there is."""

    def not_found(self, avatar_id: str) -> AvatarNotFound:
        return AvatarNotFound("there is no such avatar")


@STORE.breaks(checks.says_what_exists)
def curt(folder: Path) -> StoreCase:
    """One has to go and look."""
    return correct(folder, _Curt)


class _TakesPaths(FolderStore):
    """Opens whatever path the id makes."""

    async def open(self, avatar_id: str) -> Hvia:
        path = self.folder / f"{avatar_id}.hvia"
        if "\0" in avatar_id or len(avatar_id) > 200 or not path.is_file():
            raise self.not_found(avatar_id)
        return open_hvia(path)


@STORE.breaks(checks.refuses_paths)
def takes_paths(folder: Path) -> StoreCase:
    """Any file that may be read can be found out about."""
    return correct(folder, _TakesPaths)


class _SharesHandles(FolderStore):
    """Opens a file once, and hands the same one out to all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.handles: dict[tuple[str, tuple[int, int]], Hvia] = {}

    async def open(self, avatar_id: str) -> Hvia:
        stamp = self.stamps().get(avatar_id)
        known = self.handles.get((avatar_id, stamp)) if stamp is not None else None
        if known is not None:
            return known
        found = await super().open(avatar_id)
        if stamp is not None:
            self.handles[avatar_id, stamp] = found
        return found


@STORE.breaks(checks.opens_one_avatar_twice)
def shares_handles(folder: Path) -> StoreCase:
    """Whoever closes first closes for all."""
    return correct(folder, _SharesHandles)


class _Remembers(FolderStore):
    """Looks once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.known = super().files()

    def files(self) -> list[Path]:
        return self.known

    def stamps(self) -> dict[str, tuple[int, int]]:
        paths = sorted(self.folder.glob("*.hvia"))
        return {path.stem: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


@STORE.breaks(checks.sees_what_is_put_and_removed)
def remembers(folder: Path) -> StoreCase:
    """A new avatar is there after the next start."""
    return correct(folder, _Remembers)


class _CallsAllAdded(FolderStore):
    """Takes a new version for a new avatar."""

    def change(self, kind: Change, avatar: str) -> StoreChange:
        return super().change("added" if kind == "replaced" else kind, avatar)


@STORE.breaks(checks.tells_of_changes)
def calls_all_added(folder: Path) -> StoreCase:
    """Whoever holds the old one never lets it go."""
    return correct(folder, _CallsAllAdded)


class _TellsOn(FolderStore):
    """Takes its time to stop watching."""

    async def changes(self) -> AsyncIterator[StoreChange]:
        watched = super().changes()
        assert isinstance(watched, AsyncGenerator)
        try:
            async for change in watched:
                yield change
        finally:
            with anyio.CancelScope(shield=True):
                await watched.aclose()
                await anyio.sleep(2 * checks.PROMPT)


@STORE.breaks(checks.stops_telling_when_it_is_cancelled)
def tells_on(folder: Path) -> StoreCase:
    """The process ends late."""
    return correct(folder, _TellsOn)


class _ClosesOnce(FolderStore):
    """Waits, when it closes, for a watcher that is gone by the second time."""

    async def aclose(self) -> None:
        if self.closed:
            await anyio.sleep_forever()
        await super().aclose()


@STORE.breaks(checks.closes_twice)
def closes_once(folder: Path) -> StoreCase:
    """A server that fails while it ends hangs."""
    return correct(folder, _ClosesOnce)
