"""What a picture costs the renderer, from its own recent calls: what admission reckons with."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Final

from visavis.interfaces.renderer import Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame

SAMPLES: Final = 101


class Recent:
    """What one picture took in recent calls, talking and idle ones apart; the middle of them counts."""

    def __init__(self) -> None:
        self._talking: deque[float] = deque(maxlen=SAMPLES)
        self._idle: deque[float] = deque(maxlen=SAMPLES)

    @property
    def talking(self) -> float | None:
        """Seconds for a talking picture; None before there was one."""
        return median(self._talking) if self._talking else None

    @property
    def idle(self) -> float | None:
        """Seconds for an idle picture; None before there was one."""
        return median(self._idle) if self._idle else None

    def note(self, seconds: float, talking: int, idle: int) -> None:
        """A call took so long, for so many talking and idle pictures."""
        if talking:
            self._talking.append(max(0.0, seconds - idle * (self.idle or 0.0)) / talking)
        else:
            self._idle.append(seconds / idle)


class StepCost:
    """A renderer's calls, shared out among the sessions in them: so a call for several counts as what it saves."""

    def __init__(self) -> None:
        self.busy = Recent()
        """By the clock: for so long the renderer is taken."""
        self.used = Recent()
        """Of the processor, by the thread that calls: less than by the clock where it waits for a device."""
        self.spent = 0.0
        """Processor seconds of all calls so far, of the thread that calls."""

    def call(
        self, renderer: Renderer, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]
    ) -> list[VideoFrame | None]:
        """Call the renderer and note what it cost. Blocking; one call at a time."""
        began, spent = time.perf_counter(), time.thread_time()
        frames = renderer.step(sessions, inputs)
        used = time.thread_time() - spent
        self.spent += used
        if inputs and all(given.draw for given in inputs):  # sound that is only heard is cheaper than any picture
            talking = sum(given.pcm is not None for given in inputs)
            self.busy.note(time.perf_counter() - began, talking, len(inputs) - talking)
            self.used.note(used, talking, len(inputs) - talking)
        return frames
