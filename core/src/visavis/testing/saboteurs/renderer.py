"""A correct renderer, and renderers that break one promise each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from visavis.hvia import Hvia
from visavis.interfaces.renderer import Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.testing import renderer as checks
from visavis.testing.fakes import FakeAvatar, FakeRenderer, FakeRenderSession
from visavis.testing.renderer import RENDERER
from visavis.testing.rig import RendererCase
from visavis.testing.saboteurs.files import tiny_file


def correct(folder: Path, made: Callable[[], Renderer] = FakeRenderer) -> RendererCase:
    """A renderer that keeps every promise; or another one."""
    return RendererCase(make=made, avatar=tiny_file(folder))


class _Misfit(FakeRenderer):
    """Wants one sample more than fits a picture."""

    def __init__(self) -> None:
        super().__init__()
        self._render = replace(self._render, hop=self._render.hop + 1)


@RENDERER.breaks(checks.declares_a_sane_format)
def misfit(folder: Path) -> RendererCase:
    """Sound and picture drift apart."""
    return correct(folder, _Misfit)


class _ColumnsFirst(FakeRenderer):
    """Hands out pictures that lie in memory by columns."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, given)
        return None if frame is None else replace(frame, data=np.asfortranarray(frame.data))


@RENDERER.breaks(checks.draws_i420)
def columns_first(folder: Path) -> RendererCase:
    """An encoder reads another picture."""
    return correct(folder, _ColumnsFirst)


class _Mixes(FakeRenderer):
    """Evens out the loudness of a batch."""

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        sounds = [given.pcm for given in inputs if given.pcm is not None]
        if len(sounds) < 2:
            return super().step(sessions, inputs)
        mean = np.mean(sounds, axis=0, dtype=np.float32)
        evened = [given if given.pcm is None else replace(given, pcm=0.5 * given.pcm + 0.5 * mean) for given in inputs]
        return super().step(sessions, evened)


@RENDERER.breaks(checks.draws_a_batch_as_each_alone)
def mixes(folder: Path) -> RendererCase:
    """One's mouth moves a little with another's voice."""
    return correct(folder, _Mixes)


class _Reverses(FakeRenderer):
    """Returns the rows in the wrong order."""

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        return super().step(sessions, inputs)[::-1]


@RENDERER.breaks(checks.draws_a_batch_as_each_alone)
def reverses(folder: Path) -> RendererCase:
    """Everybody has somebody else's face."""
    return correct(folder, _Reverses)


class _Dithers(FakeRenderer):
    """Adds a level to every other picture that the process draws."""

    drawn = 0

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, given)
        if frame is not None:
            self.drawn += 1
            frame.data[0, 0] += self.drawn % 2
        return frame


@RENDERER.breaks(checks.repeats_itself)
def dithers(folder: Path) -> RendererCase:
    """No two runs are alike, to the bit."""
    return correct(folder, _Dithers)


class _Deaf(FakeRenderer):
    """Draws a face that hears nothing."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        quiet = given if given.pcm is None else replace(given, pcm=np.zeros_like(given.pcm))
        return super()._one(session, quiet)


@RENDERER.breaks(checks.moves_with_speech)
def deaf(folder: Path) -> RendererCase:
    """The mouth is shut, whatever is said."""
    return correct(folder, _Deaf)


class _Boasts(FakeRenderer):
    """Declares more look-ahead than it takes."""

    def __init__(self) -> None:
        super().__init__()
        self._render = replace(self._render, look_ahead=4)

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        loaded = super().load(avatar)
        loaded.delay = 1
        return loaded


class _Lags(FakeRenderer):
    """Declares less look-ahead than it takes."""

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        loaded = super().load(avatar)
        loaded.delay = 4
        return loaded


@RENDERER.breaks(checks.looks_ahead_as_declared)
def boasts(folder: Path) -> RendererCase:
    """The lips are early."""
    return correct(folder, _Boasts)


@RENDERER.breaks(checks.looks_ahead_as_declared)
def lags(folder: Path) -> RendererCase:
    """The lips are late."""
    return correct(folder, _Lags)


class _AlwaysDraws(FakeRenderer):
    """Draws whether it is asked to or not; the body's time is right."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, replace(given, draw=True))
        assert isinstance(session, FakeRenderSession)
        session.drawn -= not given.draw
        return frame


class _NeverStops(FakeRenderer):
    """Lets the body's time pass in steps that are not drawn."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        assert isinstance(session, FakeRenderSession)
        session.drawn += not given.draw
        return super()._one(session, given)


@RENDERER.breaks(checks.draws_nothing_unless_asked)
def always_draws(folder: Path) -> RendererCase:
    """Work for nothing; in the batch as alone, where it is looked at separately."""
    return correct(folder, _AlwaysDraws)


@RENDERER.breaks(checks.draws_nothing_unless_asked)
def never_stops(folder: Path) -> RendererCase:
    """The body jumps when speech begins."""
    return correct(folder, _NeverStops)


class _Gapes(FakeRenderer):
    """Holds its face when the sound ends."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        assert isinstance(session, FakeRenderSession)
        frame = super()._one(session, given)
        if given.pcm is None and frame is not None:
            frame.data[:16] = int(16 + 200 * min(1.0, session.heard[0]))
        return frame


@RENDERER.breaks(checks.rests_when_idle)
def gapes(folder: Path) -> RendererCase:
    """The mouth hangs open."""
    return correct(folder, _Gapes)


class _StartsAnew(FakeRenderSession):
    """Starts from the beginning at a reset."""

    def reset(self) -> None:
        super().reset()
        self.drawn = 0


class _Remembers(FakeRenderSession):
    """Keeps what it has heard at a reset."""

    def reset(self) -> None:
        self.resets += 1


def _with_sessions(made: type[FakeRenderSession]) -> Callable[[], Renderer]:
    """A renderer whose sessions are of that type."""

    class Odd(FakeRenderer):
        def load(self, avatar: Hvia | None = None) -> FakeAvatar:
            loaded = super().load(avatar)
            loaded.made = made
            return loaded

    return Odd


@RENDERER.breaks(checks.keeps_the_body_over_a_reset)
def starts_anew(folder: Path) -> RendererCase:
    """An interrupt is a cut in the picture."""
    return correct(folder, _with_sessions(_StartsAnew))


@RENDERER.breaks(checks.forgets_sound_at_a_reset)
def remembers(folder: Path) -> RendererCase:
    """The mouth still forms a word that was cut."""
    return correct(folder, _with_sessions(_Remembers))


class _KeepsByRow(FakeRenderer):
    """Keeps what was heard by the row of the batch, and clears a row for a session that was opened or reset."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, list[float]] = {}
        self.left: dict[RenderSession, list[float]] = {}

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        own = [session for session in sessions if isinstance(session, FakeRenderSession)]
        for row, session in enumerate(own):
            if session.heard is not self.left.get(session):
                self.rows[row] = session.heard
            session.heard = self.rows[row]
        frames = super().step(sessions, inputs)
        for row, session in enumerate(own):
            self.rows[row] = self.left[session] = session.heard
        return frames


@RENDERER.breaks(checks.keeps_sessions_apart)
def keeps_by_row(folder: Path) -> RendererCase:
    """Right as long as the same sessions come in the same order."""
    return correct(folder, _KeepsByRow)


class _TakesHalf(FakeRenderer):
    """Draws half of the rows of a large batch."""

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        frames = super().step(sessions, inputs)
        return frames if len(frames) <= 8 else [*frames[:8], *[None] * (len(frames) - 8)]


@RENDERER.breaks(checks.takes_a_full_batch)
def takes_half(folder: Path) -> RendererCase:
    """Some faces freeze when the house is full."""
    return correct(folder, _TakesHalf)


class _Normalises(FakeRenderer):
    """Scales the sound where it lies, after it has looked at it."""

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, given)
        if given.pcm is not None:
            given.pcm[:] *= np.float32(0.5)
        return frame


@RENDERER.breaks(checks.leaves_the_sound_alone)
def normalises(folder: Path) -> RendererCase:
    """Whoever else hears the same array hears it too quiet."""
    return correct(folder, _Normalises)


class _Reuses(FakeRenderer):
    """Draws every picture of a session into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[RenderSession, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, given)
        if frame is None:
            return None
        memory = self.memory.setdefault(session, frame.data)
        memory[:] = frame.data
        return replace(frame, data=memory)


@RENDERER.breaks(checks.leaves_its_pictures_alone)
def reuses(folder: Path) -> RendererCase:
    """The pictures that wait to be shown all become the newest."""
    return correct(folder, _Reuses)


class _KeepsByThread(FakeRenderer):
    """Keeps what a session has heard where only the same thread finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.local = threading.local()
        self.homes: dict[RenderSession, int] = {}

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        assert isinstance(session, FakeRenderSession)
        heard = self.local.__dict__.setdefault("heard", {})
        here = threading.get_ident()
        if self.homes.setdefault(session, here) != here:
            session.heard = heard.get(session, [0.0] * len(session.heard))
        frame = super()._one(session, given)
        heard[session] = session.heard
        return frame


@RENDERER.breaks(checks.works_from_any_thread)
def keeps_by_thread(folder: Path) -> RendererCase:
    """Right as long as one worker does all the work."""
    return correct(folder, _KeepsByThread)
