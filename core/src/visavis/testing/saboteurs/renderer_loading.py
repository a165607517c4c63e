"""Renderers that break one promise each about loading, sharing and closing."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from visavis.hvia import Hvia
from visavis.interfaces.renderer import RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.testing import renderer as checks
from visavis.testing.fakes import FakeAvatar, FakeRenderer
from visavis.testing.renderer import RENDERER
from visavis.testing.rig import RendererCase
from visavis.testing.saboteurs.renderer import correct


class _LoadsApart(FakeRenderer):
    """Gives every load a key of its own."""

    loads = 0

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        self.loads += 1
        key: Hashable = ("fake", self.loads)
        loaded = super().load(avatar)
        loaded.key = key
        return loaded


@RENDERER.breaks(checks.shares_what_it_loaded)
def loads_apart(folder: Path) -> RendererCase:
    """Sessions of one avatar never share a step."""
    return correct(folder, _LoadsApart)


class _CountsWrong(FakeRenderer):
    """Counts who uses the weights, and counts a second close; without weights it draws a closed mouth."""

    def __init__(self) -> None:
        super().__init__()
        self.users = 0

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        loaded = super().load(avatar)
        self.users += 1

        def leave() -> None:
            self.users -= 1

        loaded.on_close = leave
        return loaded

    def _one(self, session: RenderSession, given: RenderInput) -> VideoFrame | None:
        frame = super()._one(session, given)
        if frame is not None and self.users <= 0:
            frame.data[:16] = 16
        return frame


@RENDERER.breaks(checks.closes_twice)
def counts_wrong(folder: Path) -> RendererCase:
    """One session's end takes another's face."""
    return correct(folder, _CountsWrong)


class _ReadsAll(FakeRenderer):
    """Takes any file for one of its own."""

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        return super().load(None)


@RENDERER.breaks(checks.refuses_other_engines)
def reads_all(folder: Path) -> RendererCase:
    """Noise with a face's outline."""
    return correct(folder, _ReadsAll)


class _ClosesTheFile(FakeRenderer):
    """Closes the file that it was lent."""

    def load(self, avatar: Hvia | None = None) -> FakeAvatar:
        loaded = super().load(avatar)
        if avatar is not None:
            avatar.close()
        return loaded


@RENDERER.breaks(checks.leaves_the_file_open)
def closes_the_file(folder: Path) -> RendererCase:
    """Whoever lent it cannot go on."""
    return correct(folder, _ClosesTheFile)
