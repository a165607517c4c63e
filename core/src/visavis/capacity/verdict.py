"""What limits: read off the step that was too much, or off the fullest one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from visavis.capacity.ramp import Ramp
from visavis.capacity.step import Step

BUSY: Final = 0.9
"""A machine that spends this share of its cores has none left: the rest is lost between tasks."""
DRAWS: Final = 0.75
"""A renderer that is busy for this share of the time has calls waiting for each other at most moments."""
LAGS: Final = 0.005
"""Presenters that wake up so late in the mean (seconds) wait for their event loop, not for their clock."""
STALLS: Final = 0.1
"""An audience that stood still for so long (seconds) has itself missed pictures."""


class Stage(StrEnum):
    """Where it is tight."""

    RENDERER = "renderer"
    PROCESSOR = "processor"
    LOOP = "event loop"
    TRANSPORT = "transport"
    AUDIENCE = "subscriber"
    ADMISSION = "admission"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The limiting stage, and a sentence that says what it rests on."""

    stage: Stage
    said: str


def verdict(ramp: Ramp, cores: int) -> Verdict:
    """What limits the sessions of a ramp that has come to its end, on a machine of so many cores."""
    if ramp.refused:
        return Verdict(Stage.ADMISSION, f"no more were taken on: {ramp.refused}")
    burst = ramp.burst
    if burst is None:
        return Verdict(Stage.NOTHING, f"{ramp.most} sessions were held, and no more were tried (--most)")
    why = burst.trouble(ramp.bounds)
    return _explained(burst, cores, why, late=burst.late_share > ramp.bounds.late)


def _explained(step: Step, cores: int, why: str, *, late: bool) -> Verdict:
    at = f"with {step.sessions} sessions {why}"
    shares = (
        f"the server {step.cores:.2f}, the subscribers {step.audience_cores:.2f}, others on it {step.other_cores:.2f}"
    )
    crowded = step.machine_cores >= BUSY * step.machine_size
    if crowded or step.cores + step.audience_cores >= BUSY * cores:  # of the machine's cores some may not be ours
        size = step.machine_size if crowded else cores
        busy = f"{step.machine_cores if crowded else step.cores:.2f} of {size} cores were busy ({shares})"
        if step.audience_cores > step.cores:
            return Verdict(
                Stage.AUDIENCE,
                f"{at}: {busy}, most of it with watching: the measurement is the limit, not the server",
            )
        return Verdict(Stage.PROCESSOR, f"{at}: {busy}")
    if step.drawing is not None and step.drawing >= DRAWS:
        return Verdict(Stage.RENDERER, f"{at}: the renderer was busy for {100 * step.drawing:.0f} % of the time")
    if step.behind is not None and step.behind >= LAGS:
        return Verdict(Stage.LOOP, f"{at}: the event loop woke presenters {1000 * step.behind:.1f} ms late")
    if not late and step.stalled >= STALLS:
        stood = f"the subscribers stood still for {step.stalled:.2f} s"
        return Verdict(Stage.AUDIENCE, f"{at}: {stood}: the measurement is the limit, not the server")
    if late:
        return Verdict(Stage.RENDERER, f"{at}, though {step.machine_cores:.2f} of {step.machine_size} cores were busy")
    return Verdict(
        Stage.TRANSPORT, f"{at}, though the server's frames were in time: the encoder, the network or LiveKit"
    )
