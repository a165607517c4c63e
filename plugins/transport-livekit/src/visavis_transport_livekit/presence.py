"""When an avatar leaves: who is in the room, and since when somebody is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

ON_BEHALF = "lk.publish_on_behalf"
"""LiveKit's attribute of an avatar: the identity of the agent that it speaks for."""


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody else in the room."""

    identity: str
    company: bool = True
    """Whether an avatar stays for it: people and agents count, recorders and other avatars do not."""


@dataclass
class Presence:
    """Who is there. Times are the event loop's."""

    agent_grace: float
    empty_grace: float | None
    now: float
    agent: str = ""
    """Whom the avatar serves; empty if nobody in particular."""
    _others: dict[str, Other] = field(default_factory=dict)
    _agent_seen: bool = False
    _agent_gone: float = 0.0
    _empty_since: float | None = 0.0
    _excused: float = 0.0

    def __post_init__(self) -> None:
        self._empty_since = self._agent_gone = self.now

    def came(self, other: Other) -> None:
        """Somebody joined (or was there)."""
        self._others[other.identity] = other
        self._agent_seen |= other.identity == self.agent
        if other.company:
            self._empty_since = None

    def went(self, identity: str, now: float) -> None:
        """Somebody left."""
        if self._others.pop(identity, None) is not None and identity == self.agent:
            self._agent_gone = now
        self._settle(now)

    def sync(self, others: Iterable[Other], now: float) -> None:
        """The room's list, after a reconnection."""
        here = {other.identity: other for other in others}
        for identity in [i for i in self._others if i not in here]:
            self.went(identity, now)
        for other in here.values():
            self.came(other)
        self._settle(now)

    def _settle(self, now: float) -> None:
        if self._empty_since is None and not any(other.company for other in self._others.values()):
            self._empty_since = now

    def excuse(self, until: float) -> None:
        """Until then nobody is missed: the room is lost, or the others have lost it too."""
        self._excused = until

    def excused(self, now: float) -> bool:
        """Whether nobody is missed at the moment."""
        return now < self._excused

    def __contains__(self, identity: object) -> bool:
        """Whether somebody of that identity is there."""
        return identity in self._others

    def due(self) -> float | None:
        """When the avatar leaves if nobody comes; None if somebody is there."""
        times = [time for time, _ in self._claims()]
        return max(min(times), self._excused) if times else None

    def verdict(self, now: float) -> str | None:
        """Why it leaves now; None if it stays."""
        due = self.due()
        if due is None or now < due:
            return None
        return min(self._claims())[1]

    def _claims(self) -> list[tuple[float, str]]:
        found: list[tuple[float, str]] = []
        missing = bool(self.agent) and self.agent not in self._others
        if missing and self._agent_seen:
            found.append((self._agent_gone + self.agent_grace, f"its agent {self.agent} left the room"))
        if self.empty_grace is not None:
            if missing and not self._agent_seen:
                found.append((self._agent_gone + self.empty_grace, f"its agent {self.agent} never came"))
            if self._empty_since is not None:
                found.append(
                    (self._empty_since + self.empty_grace, f"nobody was in the room for {self.empty_grace:g} s")
                )
        return found
