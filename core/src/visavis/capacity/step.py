"""One step of the ramp: so many sessions that talk, what it cost, and what arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

RATE_SHARE: Final = 0.98
"""A subscriber must get this share of the avatar's pictures: 24.5 of 25 a second."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a step must keep to count as held."""

    late: float = 0.01
    """The share of frames, of all sessions together, that may be late."""
    rate: float = RATE_SHARE
    """The share of the avatar's pictures that each subscriber must get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``sessions`` at once for ``seconds``. Cores are processor seconds a second."""

    sessions: int
    seconds: float
    frames: int
    """Frames that fell due, of all sessions together."""
    late: int
    """Those of them that were not ready at the presenter's deadline."""
    rate: float
    """Pictures a second that the avatar has."""
    fps: float
    """Pictures a second at the subscriber that got fewest."""
    gap: float
    """The longest time without a picture at any subscriber, in seconds."""
    cores: float
    """What the server spends: the launcher's process and those that it started."""
    audience_cores: float
    """What the subscribers spend on this machine."""
    machine_cores: float
    """What everybody on this machine spends."""
    machine_size: int
    """The processors of this machine."""
    memory: int
    """Bytes that the server has for itself (USS)."""
    drawing: float | None = None
    """The share of time that a renderer is busy; None where no launcher tells."""
    behind: float | None = None
    """Seconds by which presenters woke up late, in the mean; None where no launcher tells."""
    workers: int = 1
    """Processes that draw."""
    admitted: int | None = None
    """How many sessions ``limits.max_sessions: auto`` would take on, after this step; None where it cannot tell."""
    stalled: float = 0.0
    """The longest time (seconds) for which the audience itself stood still."""
    ended: str = ""
    """Why a session ended in the middle of it; empty if none did."""

    @property
    def late_share(self) -> float:
        """The share of late frames, 0..1."""
        return self.late / self.frames if self.frames else 0.0

    @property
    def other_cores(self) -> float:
        """What everybody else on this machine spends: LiveKit, where it runs here, and strangers."""
        return max(0.0, self.machine_cores - self.cores - self.audience_cores)

    @property
    def cores_each(self) -> float:
        """Cores a session."""
        return self.cores / self.sessions

    def trouble(self, bounds: Bounds) -> str:
        """Why so many sessions are too many, in words; empty if they are not."""
        if self.ended:
            return f"a session ended: {self.ended}"
        if self.late_share > bounds.late:
            return f"{100 * self.late_share:.1f} % of the frames were late"
        if self.fps < bounds.rate * self.rate:
            return f"a subscriber got {self.fps:.1f} of {self.rate:g} pictures a second"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; seconds, bytes and shares as they are."""
        figures = {name: getattr(self, name) for name in self.__dataclass_fields__}
        rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}
        return {**rounded, "late_share": round(self.late_share, 5), "cores_each": round(self.cores_each, 4)}
