"""One session's face: feeds the renderer sound ahead of the picture, and pairs each picture with its own slice.

The renderer hears a slice ``look_ahead`` steps before it draws it. At the onset of speech these steps draw nothing
(they take no time on the screen), so speech is seen as soon as the first ``look_ahead + 1`` slices are there, and idle
pictures never stand in its way.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from visavis.interfaces.renderer import LoadedAvatar, RenderInput
from visavis.media import VideoFrame
from visavis.pipeline.batcher import Batcher

T = TypeVar("T")


class Drawing(Generic[T]):
    """``T`` is whatever the caller wants back with the picture of a slice."""

    def __init__(self, batcher: Batcher, avatar: LoadedAvatar, *, seed: int) -> None:
        self._batcher, self._avatar = batcher, avatar
        self._session = avatar.open(seed=seed)
        self._silence = np.zeros(avatar.format.hop, np.float32)
        self._heard: deque[T | None] = deque()
        self._clear()
        self._reset = False
        self._unshown = 0  # pictures that were drawn and thrown away at an interrupt

    def _clear(self) -> None:
        self._heard = deque([None] * self._avatar.format.look_ahead)

    @property
    def waiting(self) -> bool:
        """Whether slices were heard that are not drawn yet."""
        return any(tag is not None for tag in self._heard)

    def next_due(self, tag: T | None) -> T | None:
        """The slice whose picture the next step draws, if that step hears ``tag``."""
        return self._heard[0] if self._heard else tag

    async def hear(self, ear: NDArray[np.float32], tag: T, *, skip: bool = False) -> tuple[T, VideoFrame | None] | None:
        """Feed one slice. Returns the slice that is due now with its picture (None with ``skip``), if any is."""
        return await self._feed(ear, tag, skip)

    async def flush(self, *, skip: bool = False) -> tuple[T, VideoFrame | None] | None:
        """Feed silence in place of sound that will not come, to draw what was heard."""
        return await self._feed(self._silence, None, skip)

    async def idle(self) -> VideoFrame | None:
        """A picture without speech; None if an interrupt came before it was drawn."""
        heard = self._heard
        frame = await self._step(RenderInput(None))
        return self._unless_interrupted(heard, frame)

    async def _feed(self, ear: NDArray[np.float32], tag: T | None, skip: bool) -> tuple[T, VideoFrame | None] | None:
        self._heard.append(tag)
        due = self._heard.popleft()
        heard = self._heard
        frame = await self._step(RenderInput(ear, draw=due is not None and not skip))
        frame = self._unless_interrupted(heard, frame)
        return None if due is None or heard is not self._heard else (due, frame)

    def _unless_interrupted(self, heard: deque[T | None], frame: VideoFrame | None) -> VideoFrame | None:
        """The picture of a step; None, and counted, if an interrupt came meanwhile."""
        if heard is self._heard:
            return frame
        self._unshown += frame is not None
        return None

    async def _step(self, given: RenderInput) -> VideoFrame | None:
        if self._reset:
            unshown, self._unshown, self._reset = self._unshown, 0, False
            if unshown:
                self._session.rewind(unshown)
            self._session.reset()
        return await self._batcher.step(self._avatar, self._session, given)

    def interrupt(self, unshown: int = 0) -> None:
        """Forget what was heard and what waits to be drawn; before the next step the renderer's session is reset.

        ``unshown`` of the pictures that it has drawn are not shown any more.
        """
        self._unshown += unshown
        self._clear()
        self._batcher.drop(self._session)
        self._reset = True

    def close(self) -> None:
        """Let go of the renderer's session."""
        self._session.close()
