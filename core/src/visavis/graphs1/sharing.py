"""Things that are made once and used by many: weights by their file's digest, graphs by their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What is let go of when its last user leaves."""

    def close(self) -> None:
        """Let go."""


C = TypeVar("C", bound=Closable)


class _Held(Generic[C]):
    """A thing and the number of its users. ``making`` is held by whoever makes it."""

    def __init__(self) -> None:
        self.making = threading.Lock()
        self.thing: C | None = None
        self.users = 0


class Sharing(Generic[C]):
    """Hands out things by key. May be used from several threads; a thing is made by one of them, the others wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, _Held[C]] = {}

    def take(self, key: str, make: Callable[[], C]) -> Share[C]:
        """A share in the thing called ``key``, made now if nobody has one. Raises what ``make`` raises."""
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.users += 1
        try:
            with held.making:
                if held.thing is None:
                    held.thing = make()
                thing = held.thing
        except BaseException:
            self.leave(key)
            raise
        return Share(self, key, thing)

    def enter(self, key: str) -> None:
        """One more user of a thing that has one."""
        with self._lock:
            self._held[key].users += 1

    def leave(self, key: str) -> None:
        """One user less; with the last one the thing is closed."""
        with self._lock:
            held = self._held[key]
            held.users -= 1
            if held.users:
                return
            del self._held[key]
        if held.thing is not None:
            held.thing.close()


class Share(Generic[C]):
    """One use of a shared thing. Given back by ``close``, which may be called twice."""

    def __init__(self, sharing: Sharing[C], key: str, thing: C) -> None:
        self._sharing: Sharing[C] | None = sharing
        self.key = key
        self.thing = thing

    @property
    def closed(self) -> bool:
        """Whether it was given back."""
        return self._sharing is None

    def again(self) -> Share[C]:
        """Another use of the same thing. Raises RuntimeError if this one was given back."""
        if self._sharing is None:
            raise RuntimeError(f"a share in {self.key} was used after it was given back")
        self._sharing.enter(self.key)
        return Share(self._sharing, self.key, self.thing)

    def close(self) -> None:
        """Give it back."""
        sharing, self._sharing = self._sharing, None
        if sharing is not None:
            sharing.leave(self.key)
