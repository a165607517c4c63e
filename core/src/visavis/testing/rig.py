"""A loaded avatar on the test bench: opens sessions, feeds them, and keeps copies of what they draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visavis.hvia import Hvia, open_hvia
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderFormat, RenderInput, RenderSession
from visavis.media import Pcm
from visavis.testing.checks import expect

Picture = NDArray[np.uint8]
"""A copy of a frame's I420 data, ``[height * 3 // 2, width]``."""

BLOCK: Final = 4
"""Pixels to a side whose mean counts as one where pictures need to be alike, not equal."""


@dataclass
class RendererCase:
    """A renderer to be checked, and an avatar that it draws."""

    make: Callable[[], Renderer]
    avatar: Path
    """The avatar's file: ``visavis.testing.tiny_avatar`` writes one."""
    open: Callable[[Path], Hvia] = open_hvia
    tolerance: int = 1
    """Grey levels by which a batch may differ from its sessions alone."""
    speech: Pcm | None = None
    """A second or more of speech ``[samples, 1]`` at the avatar's sample rate; without it a sung vowel is used."""
    settle: float = 1.0
    """Seconds in which a face comes to rest."""
    sync: float = 0.08
    """Seconds by which a picture may miss its sound."""


class Rig:
    """A renderer with one avatar loaded."""

    def __init__(self, renderer: Renderer, avatar: LoadedAvatar, case: RendererCase) -> None:
        self.renderer, self.avatar, self.case = renderer, avatar, case
        self.format: RenderFormat = avatar.format

    @property
    def fps(self) -> float:
        """Pictures a second."""
        return float(self.format.video.fps)

    def voice(self, steps: int) -> list[Pcm]:
        """Sound that moves the face, one array ``[hop]`` for each step."""
        hop, rate = self.format.hop, self.format.sample_rate
        whole = vowel(steps * hop, rate) if self.case.speech is None else self.case.speech[:, 0]
        whole = np.resize(whole, steps * hop).astype(np.float32)
        return [whole[at * hop : (at + 1) * hop].copy() for at in range(steps)]

    def hush(self, steps: int) -> list[Pcm]:
        """Silence."""
        return [np.zeros(self.format.hop, np.float32) for _ in range(steps)]

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[Picture | None]:
        """One step; gives copies of the pictures."""
        frames = self.renderer.step(sessions, [_fresh(given) for given in inputs])
        expect(len(frames) == len(sessions), f"step gave {len(frames)} pictures for {len(sessions)} sessions")
        return [None if frame is None else frame.data.copy() for frame in frames]

    def hear(self, session: RenderSession, sounds: Sequence[Pcm | None]) -> list[Picture]:
        """Steps of one session that are all drawn; None is an idle picture."""
        return [self.one(session, RenderInput(pcm)) for pcm in sounds]

    def prime(self, session: RenderSession, sounds: Sequence[Pcm]) -> None:
        """Steps of one session that are heard and not drawn."""
        for pcm in sounds:
            self.step([session], [RenderInput(pcm, draw=False)])

    def one(self, session: RenderSession, given: RenderInput) -> Picture:
        """One step of one session that is drawn."""
        (picture,) = self.step([session], [given])
        expect(picture is not None, "a picture was asked for and none came")
        assert picture is not None
        return picture

    @contextmanager
    def session(self, seed: int = 0) -> Iterator[RenderSession]:
        """A session, closed afterwards."""
        opened = self.avatar.open(seed=seed)
        try:
            yield opened
        finally:
            opened.close()

    @contextmanager
    def sessions(self, count: int) -> Iterator[list[RenderSession]]:
        """Sessions with the seeds 0, 1, ..."""
        opened = [self.avatar.open(seed=seed) for seed in range(count)]
        try:
            yield opened
        finally:
            for session in opened:
                session.close()


@contextmanager
def loaded(case: RendererCase, renderer: Renderer | None = None) -> Iterator[Rig]:
    """The case's avatar on a new renderer (or on a given one); the file is closed once it is loaded."""
    own = case.make() if renderer is None else renderer
    try:
        with case.open(case.avatar) as file:
            avatar = own.load(file)
        try:
            yield Rig(own, avatar, case)
        finally:
            avatar.close()
    finally:
        if renderer is None:
            own.close()


def _fresh(given: RenderInput) -> RenderInput:
    """The same with sound of its own, so that nobody depends on what becomes of it."""
    return RenderInput(None if given.pcm is None else given.pcm.copy(), given.draw)


def vowel(samples: int, rate: int) -> NDArray[np.float32]:
    """An open vowel, four syllables a second: 120 Hz with the formants of an a. Float32 ``[samples]``."""
    t = np.arange(samples) / rate
    wave = np.zeros(samples)
    for harmonic in range(1, int(min(3_500, rate / 2.2) / 120)):
        hertz = 120.0 * harmonic
        gain = sum(level / (1 + ((hertz - at) / 90) ** 2) for at, level in ((730, 1.0), (1_090, 0.5), (2_440, 0.2)))
        wave += gain * np.sin(2 * np.pi * hertz * t + harmonic)
    wave *= 0.6 + 0.4 * np.cos(2 * np.pi * 4 * t)
    return (0.7 * wave / max(1e-9, float(np.abs(wave).max(initial=0.0)))).astype(np.float32)


def worst(one: Picture, other: Picture) -> int:
    """The largest difference of a sample of two pictures, in levels."""
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max())


def unlike(one: Picture, other: Picture) -> float:
    """The largest difference of the means of two pictures' blocks, in levels: what an eye might see."""
    off = one.astype(np.float32) - other.astype(np.float32)
    high, wide = (side // BLOCK * BLOCK for side in off.shape)
    blocks = off[:high, :wide].reshape(high // BLOCK, BLOCK, wide // BLOCK, BLOCK)
    return float(np.abs(blocks.mean(axis=(1, 3))).max())
