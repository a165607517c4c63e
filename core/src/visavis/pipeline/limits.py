"""How much may wait in a session's pipeline, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Bounds, in seconds of media."""

    speech: float = 0.5
    """Sound that may wait to be rendered; a writer waits beyond it."""
    ahead: float = 0.2
    """Frames that may wait to be presented."""
    starved: float = 0.2
    """Sound that fails to come for so long no longer holds back what was heard (real time only)."""
    stalled: float = 10.0
    """An open segment without sound for so long is ended (real time only)."""
    skip: float = 2.0
    """Later than this (a suspended machine) the clock starts anew instead of catching up."""
    patience: float = 0.2
    """The first sound of speech waits for its picture no longer than this (real time only)."""
    overdue: float = 3.0
    """A segment that is still open so long after all its sound should have been played is reported."""
