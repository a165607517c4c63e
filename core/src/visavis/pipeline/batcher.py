"""Lets sessions share one call of the renderer.

While a call runs, the sessions that fall due meanwhile gather; the next call takes them together, and sessions of one
rate fall due at the same times. Between two calls one turn of the event loop goes by: whoever the last one served and
is due again comes along, or else two groups of sessions would take turns for good, each waiting for the other's call.
So nobody waits for company longer than that. Who waits longest comes first, and with it all who may share its call, so
nobody starves. Work of before an interrupt is dropped while it waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from visavis import workers
from visavis.errors import RendererError
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.metrics import Metrics, NoMetrics
from visavis.pipeline.cost import StepCost


@dataclass(eq=False)
class _Due:
    avatar: LoadedAvatar
    session: RenderSession
    input: RenderInput
    done: anyio.Event = field(default_factory=anyio.Event)
    waits: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    frame: VideoFrame | None = None
    error: BaseException | None = None


class Batcher:
    """Calls one renderer for many sessions. All of one event loop."""

    def __init__(self, renderer: Renderer, metrics: Metrics | None = None) -> None:
        self._renderer = renderer
        self._metrics = metrics or NoMetrics()
        self._due: deque[_Due] = deque()
        self._calling = False
        self._called = anyio.Event()  # set when the call that is under way is over
        self.cost = StepCost()
        """What its calls have cost of late."""
        self._began: float | None = None

    @property
    def busy_for(self) -> float:
        """How many seconds the call that is under way has lasted; 0 if there is none."""
        return 0.0 if self._began is None else anyio.current_time() - self._began

    async def step(self, avatar: LoadedAvatar, session: RenderSession, input: RenderInput) -> VideoFrame | None:
        """Draw one tick of one session, together with whoever else is due; None if it was dropped.

        Raises RendererError.
        """
        due = _Due(avatar, session, input)
        self._due.append(due)
        try:
            with due.waits:
                while not due.done.is_set():
                    if self._calling:
                        await self._called.wait()
                    else:
                        await self._call()
        finally:
            if due in self._due:  # cancelled before its turn
                self._due.remove(due)
            else:  # cancelled while somebody else's call draws for it: its state must not be closed under that call
                with anyio.CancelScope(shield=True):
                    await due.done.wait()
        if due.error is not None:
            raise RendererError(f"the renderer failed: {due.error}") from due.error
        return due.frame

    def drop(self, session: RenderSession) -> None:
        """Forget what a session has asked for and no call has taken yet: it is of before an interrupt."""
        for due in [due for due in self._due if due.session is session]:
            self._due.remove(due)
            due.done.set()
            due.waits.cancel()
            self._metrics.count("visavis_steps_dropped_total")

    async def _call(self) -> None:
        """Make the next call, for all who are due one turn of the event loop from now."""
        self._calling = True
        try:
            await anyio.lowlevel.checkpoint()
            if self._due:
                with anyio.CancelScope(shield=True):  # it draws for others too
                    await self._run(self._group())
        finally:
            self._calling = False
            called, self._called = self._called, anyio.Event()
            called.set()

    def _group(self) -> list[_Due]:
        """The one that waits longest, and those that may share its call."""
        key = self._due[0].avatar.batch_key
        group = [d for d in self._due if d.avatar.batch_key == key][: max(1, self._renderer.max_batch)]
        for due in group:
            self._due.remove(due)
        return group

    async def _run(self, group: list[_Due]) -> None:
        began = self._began = anyio.current_time()
        try:
            sessions, inputs = [d.session for d in group], [d.input for d in group]
            frames = await workers.run(self.cost.call, self._renderer, sessions, inputs)
            if len(frames) != len(group):
                raise RendererError(f"step returned {len(frames)} pictures for {len(group)} sessions")
        except Exception as error:  # noqa: BLE001 - the engine's own errors: each session ends with them as its cause
            for due in group:
                due.error = error
        else:
            for due, frame in zip(group, frames, strict=True):
                due.frame = frame
        finally:
            self._began = None
            for due in group:
                due.done.set()
        self._metrics.observe("visavis_step_seconds", anyio.current_time() - began)
        self._metrics.count("visavis_steps_total")
        self._metrics.count("visavis_steps_sessions_total", len(group))
