"""The contract of an avatar store: it lists avatars, opens one by its id, and tells of changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from visavis.hvia import Hvia


@dataclass(frozen=True, slots=True)
class AvatarEntry:
    """One line of a store's list. ``problem`` is the reason why the avatar cannot be used, or None."""

    id: str
    name: str
    size: int
    digest: str
    problem: str | None = None
    builtin: bool = False


@dataclass(frozen=True, slots=True)
class StoreChange:
    """An avatar was added, replaced or removed."""

    kind: Literal["added", "replaced", "removed"]
    id: str


class AvatarStore(ABC):
    """Where avatars come from. One for the whole process."""

    @abstractmethod
    async def list(self) -> list[AvatarEntry]:
        """All avatars by id, broken ones included with their reason. Never raises for one bad avatar."""

    @abstractmethod
    async def open(self, avatar_id: str) -> Hvia:
        """Open one avatar; the caller closes it.

        Raises AvatarNotFound (the message says which exist) or AvatarInvalid.
        """

    async def changes(self) -> AsyncIterator[StoreChange]:
        """Changes as they happen, until cancelled. A store that cannot tell ends at once."""
        none: tuple[StoreChange, ...] = ()
        for change in none:
            yield change

    async def aclose(self) -> None:
        """Let go of what the store holds. May be called twice."""
