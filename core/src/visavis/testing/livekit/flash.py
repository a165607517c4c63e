"""A renderer for measurements: its pictures say what the sound beside them does, so that a viewer can compare.

The picture flashes white in the one frame whose own sound slice holds the onset of a sound, shows a bright bar (the
mouth) for as long as its slice is loud, and carries its number in black and white. It loads any avatar file for its
size and rate, and keeps the renderer's contract (look-ahead, batches, sessions apart).

``renderer: {use: flash}`` finds it where this module is registered: ``Registry.add(flash, origin)``, or, for a process
of its own, ``discoverable(folder)``: the environment in which every visavis finds it, with nothing installed.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from visavis.component import ComponentConfig
from visavis.errors import RendererError
from visavis.hookspecs import hookimpl
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderFormat, RenderInput, RenderSession
from visavis.media import Plane, VideoFormat, VideoFrame
from visavis.plugins import RendererPlugin

if TYPE_CHECKING:
    from visavis.hvia import Hvia

RATE: Final = 16_000
LOUD: Final = 0.03
"""A slice whose root mean square is above this is sound."""
DARK, BRIGHT, BASE = 30, 225, 70


class Ear:
    """Tells of each slice in turn whether it is loud, and whether a sound begins in it."""

    def __init__(self) -> None:
        self._was = False

    def hear(self, pcm: NDArray[np.float32]) -> tuple[bool, bool]:
        """``(onset, loud)`` of one slice, float32 ``[n]`` or ``[n, channels]``."""
        loud = len(pcm) > 0 and float(np.sqrt(np.mean(np.square(pcm, dtype=np.float32)))) > LOUD
        onset, self._was = loud and not self._was, loud
        return onset, loud


class Canvas:
    """Draws such pictures, eight rows of eight blocks: 0..2 flash, 3..5 are the mouth, 6 moves, 7 is the number."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._row = height // 8
        noise = np.random.default_rng(1).integers(40, 140, (self._row // 8 + 1, width // 8 + 1), np.uint8)
        self._texture = np.kron(noise, np.ones((8, 8), np.uint8))[: self._row, :width]
        self._plain = np.full((height * 3 // 2, width), 128, np.uint8)
        self._plain[:height] = BASE

    def draw(self, *, flash: bool, mouth: bool, number: int) -> Plane:
        """A new I420 picture ``[height * 3 // 2, width]``."""
        data, row = self._plain.copy(), self._row
        data[: 3 * row] = BRIGHT if flash else DARK
        data[3 * row : 6 * row, self.width // 4 : 3 * self.width // 4] = BRIGHT if mouth else DARK
        data[6 * row : 7 * row] = np.roll(self._texture, 4 * number, axis=1)
        block = self.width // 8
        for bit in range(8):
            data[7 * row : 8 * row, bit * block : (bit + 1) * block] = BRIGHT if number >> bit & 1 else DARK
        return data


class FlashOptions(ComponentConfig):
    """What the flash renderer pretends."""

    look_ahead: int = Field(default=3, ge=0, le=25)
    """Frames of sound that it hears before it draws."""
    cost_ms: float = Field(default=0.0, ge=0, le=1000)
    """Milliseconds of work that it does for each picture."""


@dataclass
class _Step:
    onset: bool = False
    loud: bool = False


class FlashSession(RenderSession):
    """What one session has heard."""

    def __init__(self, canvas: Canvas, look_ahead: int) -> None:
        self.canvas, self._look_ahead = canvas, look_ahead
        self.number = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was heard; the count of pictures goes on."""
        self._ear = Ear()
        self._heard: deque[_Step] = deque([_Step()] * self._look_ahead)

    def step(self, given: RenderInput) -> VideoFrame | None:
        """One tick."""
        now = _Step()
        if given.pcm is None:
            self.reset()  # an idle picture: no sound is heard
        else:
            self._heard.append(_Step(*self._ear.hear(given.pcm)))
            now = self._heard.popleft()
        if not given.draw:
            return None
        data = self.canvas.draw(flash=now.onset, mouth=now.loud, number=self.number)
        self.number += 1
        return VideoFrame(self.canvas.width, self.canvas.height, data)

    def close(self) -> None:
        """Nothing to let go of."""


class FlashAvatar(LoadedAvatar):
    """Any avatar file's size and rate."""

    def __init__(self, video: VideoFormat, look_ahead: int) -> None:
        hop = RATE * video.fps.denominator // video.fps.numerator
        self._format = RenderFormat(video, RATE, hop, look_ahead)
        self._canvas = Canvas(video.width, video.height)

    @property
    def format(self) -> RenderFormat:
        """What it draws and hears."""
        return self._format

    @property
    def batch_key(self) -> Hashable:
        """Equal for equal formats."""
        return ("flash", self._format)

    def open(self, *, seed: int = 0) -> FlashSession:
        """A new session; all seeds look alike."""
        return FlashSession(self._canvas, self._format.look_ahead)

    def close(self) -> None:
        """Nothing to let go of."""


class FlashRenderer(Renderer):
    """See the module."""

    max_batch = 16

    def __init__(self, options: FlashOptions | None = None) -> None:
        self._options = options or FlashOptions()

    def load(self, avatar: Hvia) -> FlashAvatar:
        """Take its size and rate. Raises RendererError for another engine than graphs/1."""
        if avatar.manifest.engine not in self.engines:
            raise RendererError(f"{avatar.path.name}: it needs the engine {avatar.manifest.engine!r}")
        video = avatar.manifest.video
        return FlashAvatar(VideoFormat(video.width, video.height, Fraction(video.fps)), self._options.look_ahead)

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick for each; works ``cost_ms`` for every picture."""
        frames: list[VideoFrame | None] = []
        for session, given in zip(sessions, inputs, strict=True):
            assert isinstance(session, FlashSession)
            until = time.perf_counter() + self._options.cost_ms / 1000 * given.draw
            frames.append(session.step(given))
            while time.perf_counter() < until:
                np.square(np.ones(4096))
        return frames


@hookimpl
def visavis_renderers() -> Iterable[RendererPlugin]:
    """What ``renderer: {use: flash}`` finds."""
    yield RendererPlugin(
        name="flash",
        summary="Flashes where sound begins: for measurements.",
        config=FlashOptions,
        factory=FlashRenderer,
    )


def discoverable(folder: Path) -> Mapping[str, str]:
    """Environment variables under which a visavis process finds this renderer; ``folder`` holds what it needs."""
    about = folder / "visavis_flash-0.0.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    about.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: visavis-flash\nVersion: 0.0.0\n")
    about.joinpath("entry_points.txt").write_text("[visavis]\nflash = visavis.testing.livekit.flash\n")
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
