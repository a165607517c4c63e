"""What every avatar store must do, as checks. ``visavis.testing.StoreKit`` runs them under pytest."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from visavis.errors import AvatarError, AvatarInvalid, AvatarNotFound
from visavis.hvia import Hvia
from visavis.interfaces.avatar import AvatarEntry, AvatarStore, StoreChange
from visavis.testing.checks import ConformanceFailure, Suite, expect, expect_sentence

STORE: Final[Suite[StoreCase]] = Suite("store")

PROMPT: Final = 1.0
"""Seconds in which a cancelled call must be gone."""
NOBODY: Final = "nobody-of-that-name"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass
class StoreCase:
    """A store to be checked, and what is in it.

    ``make`` makes one that holds the avatars ``good`` (at least two ids), and perhaps others. Give what applies:
    """

    make: Callable[[], AvatarStore]
    good: Sequence[str]
    """Ids of avatars that can be opened."""
    broken: Sequence[str] | None = None
    """Ids of avatars that are there but cannot be used."""
    put: Callable[[str], None] | None = None
    """Puts a good avatar of that id where the store finds it, or another one in its place. Called off the loop."""
    remove: Callable[[str], None] | None = None
    """Takes an avatar away. Called off the loop."""
    tells: bool = False
    """``changes`` tells of what is put and removed."""
    patience: float = 5.0
    """Seconds in which its calls return, and in which a change is told."""


@asynccontextmanager
async def opened(case: StoreCase) -> AsyncIterator[AvatarStore]:
    """A new store, closed afterwards."""
    store = case.make()
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def _changes(store: AvatarStore) -> AsyncIterator[AsyncIterator[StoreChange]]:
    """The store's changes, which end with the context."""
    changes = store.changes()
    try:
        yield changes
    finally:
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()


async def _entries(store: AvatarStore) -> dict[str, AvatarEntry]:
    return {entry.id: entry for entry in await store.list()}


@STORE.check()
async def lists_what_is_there(case: StoreCase) -> None:
    """Each avatar is listed once with its name, size and digest."""
    async with opened(case) as store:
        listed = await store.list()
    ids = [entry.id for entry in listed]
    expect(len(ids) == len(set(ids)), f"an id is listed twice: {ids}")
    missing = [avatar for avatar in case.good if avatar not in ids]
    expect(not missing, f"{missing} is not listed")
    for entry in listed:
        if entry.id in case.good:
            expect(entry.problem is None, f"{entry.id} is listed with a problem: {entry.problem}")
            expect(entry.name and entry.size > 0, f"{entry.id} is listed without a name or a size")
            expect(_DIGEST.match(entry.digest), f"the digest of {entry.id} is {entry.digest!r}, not a SHA-256 in hex")


@STORE.check()
async def lists_in_order(case: StoreCase) -> None:
    """The list is in the order of the ids, always the same."""
    async with opened(case) as store:
        ids = [entry.id for entry in await store.list()]
        again = [entry.id for entry in await store.list()]
    expect(ids == sorted(ids), f"the list is not in the order of the ids: {ids}")
    expect(ids == again, f"the second list has another order: {again}")


@STORE.check("broken")
async def lists_broken_avatars_with_their_reason(case: StoreCase) -> None:
    """One bad avatar neither stops the list nor is missing from it: its line says why it cannot be used."""
    assert case.broken is not None
    async with opened(case) as store:
        listed = await _entries(store)
    for avatar in case.broken:
        entry = listed.get(avatar)
        expect(entry is not None, f"{avatar}, which cannot be used, is missing from the list")
        if entry is not None:
            reason = entry.problem or ""
            expect(re.search(r"\w+ \w+", reason), f"{avatar} cannot be used, but its line says {entry.problem!r}")


@STORE.check("broken")
async def refuses_to_open_broken_avatars(case: StoreCase) -> None:
    """Opening a bad avatar raises AvatarInvalid with a sentence."""
    assert case.broken is not None
    async with opened(case) as store:
        for avatar in case.broken:
            error = await _refusal(store, avatar)
            expect(isinstance(error, AvatarInvalid), f"opening {avatar} raised {type(error).__name__}")
            expect_sentence(error, f"opening {avatar}")


async def _refusal(store: AvatarStore, avatar: str) -> AvatarError:
    """What it raises when it is asked to open what it must not."""
    try:
        found = await store.open(avatar)
    except AvatarError as error:
        return error
    found.close()
    raise ConformanceFailure(f"it opened {avatar!r}")


@STORE.check()
async def opens_what_it_lists(case: StoreCase) -> None:
    """Every avatar that is listed without a problem opens, under its own id."""
    async with opened(case) as store:
        for entry in await store.list():
            if entry.problem is None:
                with await store.open(entry.id) as avatar:
                    expect(isinstance(avatar, Hvia), f"open gave a {type(avatar).__name__}, not an Hvia")
                    expect(avatar.id == entry.id, f"asked for {entry.id!r} it opened {avatar.id!r}")


@STORE.check()
async def keeps_digests(case: StoreCase) -> None:
    """An avatar's digest is the same in every list and when it is opened: caches go by it."""
    async with opened(case) as store:
        first, second = await _entries(store), await _entries(store)
        for avatar in case.good:
            with await store.open(avatar) as file:
                digests = {file.digest, *(entries[avatar].digest for entries in (first, second) if avatar in entries)}
            expect(len(digests) == 1, f"{avatar} has several digests: {sorted(digests)}")


@STORE.check()
async def says_what_exists(case: StoreCase) -> None:
    """Asked for an avatar that is not there it raises AvatarNotFound, whose message names those that are."""
    async with opened(case) as store:
        error = await _refusal(store, NOBODY)
    expect(isinstance(error, AvatarNotFound), f"for an unknown id it raised {type(error).__name__}")
    unnamed = [avatar for avatar in case.good[:3] if avatar not in str(error)]
    expect(not unnamed, f"its error does not say that there is {' and '.join(unnamed)}: {str(error)!r}")


@STORE.check()
async def refuses_paths(case: StoreCase) -> None:
    """An id is no path: nothing that leads elsewhere, or back to an avatar, is opened."""
    good = case.good[0]
    back = [f"../{good}", f"./{good}", f"x/../{good}", f"/{good}", f"{good}/", f"x/{good}", f"..\\{good}", f"{good}\0"]
    async with opened(case) as store:
        for avatar in ["", ".", "..", "/", "/etc/passwd", "../../etc/passwd", "a\nb", "a" * 5_000, *back]:
            expect_sentence(await _refusal(store, avatar), f"asked for {avatar[:40]!r}")


@STORE.check()
async def opens_one_avatar_twice(case: StoreCase) -> None:
    """Two who opened the same avatar do not depend on each other: one closes it, the other reads on."""
    async with opened(case) as store:
        first = await store.open(case.good[0])
        second = await store.open(case.good[0])
        first.close()
        try:
            second.read(second.members[0])
        except (ValueError, OSError) as error:
            raise ConformanceFailure(f"closing one closed the other too: {error}") from error
        finally:
            second.close()


@STORE.check("put", "remove")
async def sees_what_is_put_and_removed(case: StoreCase) -> None:
    """A list is of now, also where the one before is remembered."""
    assert case.put is not None
    assert case.remove is not None
    new = "new-" + case.good[0]
    async with opened(case) as store:
        expect(new not in await _entries(store), f"{new} is there before it is put")
        case.put(new)
        expect(new in await _entries(store), "an avatar that was put is not listed")
        (await store.open(new)).close()
        case.remove(new)
        expect(new not in await _entries(store), "an avatar that was removed is still listed")
        expect(isinstance(await _refusal(store, new), AvatarNotFound), "an avatar that was removed is still known")


@STORE.check("put", "remove", "tells", limit=60.0)
async def tells_of_changes(case: StoreCase) -> None:
    """``changes`` tells each avatar that is added, replaced or removed, as what it is."""
    assert case.put is not None
    assert case.remove is not None
    new = "new-" + case.good[0]
    told: list[StoreChange] = []
    stirred = anyio.Event()

    async def listen(store: AvatarStore) -> None:
        nonlocal stirred
        async with _changes(store) as changes:
            async for change in changes:
                told.append(change)
                event, stirred = stirred, anyio.Event()
                event.set()

    async with opened(case) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, store)
        await anyio.sleep(0.5)  # it looks once, to know what was there
        for kind, change in (("added", case.put), ("replaced", case.put), ("removed", case.remove)):
            change(new)
            with anyio.move_on_after(case.patience):
                while not any(said.id == new and said.kind == kind for said in told):
                    await stirred.wait()
            kinds = [said.kind for said in told if said.id == new]
            expect(kinds and kinds[-1] == kind, f"an avatar was {kind}, and it told {kinds or 'nothing'}")
            told.clear()
        tasks.cancel_scope.cancel()


@STORE.check()
async def stops_telling_when_it_is_cancelled(case: StoreCase) -> None:
    """``changes`` ends by itself or waits, and is gone at once when it is cancelled."""

    async def listen(store: AvatarStore) -> None:
        async with _changes(store) as changes:
            async for _ in changes:
                pass

    async with opened(case) as store:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, store)
            await anyio.sleep(0.3)
            asked = anyio.current_time()
            tasks.cancel_scope.cancel()
        took = anyio.current_time() - asked
    expect(took <= PROMPT, f"changes took {took:.2f} s to go after it was cancelled")


@STORE.check()
async def closes_twice(case: StoreCase) -> None:
    """``aclose`` may be called again; what was opened before stays open."""
    store = case.make()
    with await store.open(case.good[0]) as avatar:
        await store.aclose()
        with anyio.move_on_after(case.patience) as waiting:
            await store.aclose()
        expect(not waiting.cancelled_caught, f"the second aclose had not returned after {case.patience:g} s")
        avatar.read(avatar.members[0])
