"""A transport on the test bench: a session between ``publish`` and ``aclose``, fed and read back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import anyio

from visavis import workers
from visavis.clock import FrameGrid
from visavis.component import ComponentConfig, NoOptions
from visavis.interfaces.session import SessionContext
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, VideoFormat
from visavis.testing.signals import Readback, expect_sound, paired
from visavis.testing.source import make_context

FRAMES: Final = 36
"""Frames of an ordinary session."""


@dataclass
class TransportCase:
    """A transport to be checked, and what it can do. Give what applies:"""

    make: Callable[[], Transport]
    options: Callable[[], ComponentConfig] = NoOptions
    """One session's options, new on every call: another path, another room."""
    context: Callable[[], SessionContext] = make_context
    """What ``prepare`` and ``open`` get."""
    video: VideoFormat = field(default_factory=lambda: VideoFormat(64, 48, Fraction(25)))
    audio: AudioFormat = field(default_factory=lambda: AudioFormat(48_000, 1))
    """The sound it is given if it takes any format."""
    readback: Callable[[TransportSession, ComponentConfig], Readback] | None = None
    """After ``aclose``: what came out at the far end. Called off the event loop."""
    exact: bool = True
    """The sound comes out bit for bit (but for rounding). False where a codec changes it."""
    leftovers: Callable[[ComponentConfig], Sequence[object]] | None = None
    """What is there of a session, complete or half made: paths, rooms. Empty if nothing is."""
    wrong: Callable[[], ComponentConfig] | None = None
    """Options of a session that cannot work: a path that cannot be written, a room that is not there."""
    buffer: float = 0.5
    """Seconds of media that it may hold at most, in real time."""
    patience: float = 5.0
    """Seconds in which its calls return (beyond the sound they wait for)."""


@dataclass
class Life:
    """A session between ``publish`` and ``aclose``."""

    case: TransportCase
    session: TransportSession
    options: ComponentConfig
    audio: AudioFormat

    def frames(self, count: int = FRAMES, *, first: int = 0, low: float = 180.0) -> list[PairedFrame]:
        """Frames to present."""
        return list(paired(self.case.video, self.audio, count, first=first, low=low))

    async def give(self, frames: Iterable[PairedFrame], *, paced: bool = True) -> None:
        """Present frames, in real time as their times come."""
        grid = FrameGrid(self.case.video.fps)
        for number, frame in enumerate(frames):
            if paced and self.session.pacing is Pacing.REALTIME:
                await grid.wait(number)
            await self.session.present(frame)

    async def end(self) -> None:
        """Play what is left, and close without an error."""
        await self.session.drain()
        await self.session.aclose()

    async def arrived(self) -> Readback:
        """What came out."""
        assert self.case.readback is not None
        return await workers.run(self.case.readback, self.session, self.options)

    async def expect_arrived(self, want: Pcm) -> None:
        """The session's sound came out as it was given."""
        __tracebackhide__ = True
        expect_sound((await self.arrived()).sound, want, self.audio.rate, exact=self.case.exact)


@asynccontextmanager
async def live(case: TransportCase, *, transport: Transport | None = None) -> AsyncIterator[Life]:
    """A session that is published; afterwards it is closed, and its transport unless that was given."""
    own = case.make() if transport is None else transport
    options, context = case.options(), case.context()
    session = await own.prepare(context, options)
    error: BaseException | None = None
    try:
        await session.open(context)
        audio = session.audio_format or case.audio
        await session.publish(case.video, audio)
        yield Life(case, session, options, audio)
    except BaseException as caught:
        error = caught
        raise
    finally:
        with anyio.move_on_after(case.patience, shield=error is not None):
            await session.aclose(error)
            if transport is None:
                await own.aclose()
