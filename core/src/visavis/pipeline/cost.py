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


class StepCost:
    """Seconds of a renderer's call for each session in it, talking and idle ones apart: the middle of recent calls."""

    def __init__(self) -> None:
        self._talking: deque[float] = deque(maxlen=SAMPLES)
        self._idle: deque[float] = deque(maxlen=SAMPLES)
        self.spent = 0.0
        """Processor seconds of all calls so far, of the thread that calls."""

    @property
    def talking(self) -> float | None:
        """Seconds for a talking picture; None before there was one."""
        return median(self._talking) if self._talking else None

    @property
    def idle(self) -> float | None:
        """Seconds for an idle picture; None before there was one."""
        return median(self._idle) if self._idle else None

    def call(
        self, renderer: Renderer, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]
    ) -> list[VideoFrame | None]:
        """Call the renderer and note what it cost. Blocking; one call at a time."""
        began, spent = time.perf_counter(), time.thread_time()
        frames = renderer.step(sessions, inputs)
        self.spent += time.thread_time() - spent
        self._note(time.perf_counter() - began, inputs)
        return frames

    def _note(self, seconds: float, inputs: Sequence[RenderInput]) -> None:
        drawn = [given for given in inputs if given.draw]
        if len(drawn) != len(inputs) or not drawn:
            return  # sound that is only heard is cheaper than any picture
        talking = sum(given.pcm is not None for given in drawn)
        if not talking:
            self._idle.append(seconds / len(drawn))
        else:
            self._talking.append(max(0.0, seconds - (len(drawn) - talking) * (self.idle or 0.0)) / talking)
