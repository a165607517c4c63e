"""Speech to frames in a few lines of Python, without a deployment, a transport or a task group.

async for frame in visavis.speak("mira", pcm, 16_000):
    ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis import workers
from visavis.hvia import Hvia, open_hvia
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderFormat
from visavis.media import AudioFormat, PairedFrame, SpokenSpan, VideoFrame, as_pcm
from visavis.pipeline.batcher import Batcher
from visavis.pipeline.drawing import Drawing
from visavis.pipeline.slicer import FrameCounter, Slice, Slicer
from visavis.plugins import Kind
from visavis.registry import Registry

Sound = NDArray[np.generic]

PIECE_SECONDS = 0.1


class Speaker:
    """An avatar in memory, ready to speak: several times, also at the same time.

    ``avatar`` is an id that the installed store knows, or the path of an ``.hvia`` file. ``renderer`` is the name of an
    installed renderer and ``options`` its options. Use it as an async context manager.
    """

    def __init__(self, avatar: str | Path, *, renderer: str = "onnxruntime", **options: Any) -> None:
        self._wanted, self._renderer_name, self._options = avatar, renderer, options
        self._renderer: Renderer | None = None
        self._avatar: LoadedAvatar | None = None
        self._batcher: Batcher | None = None

    async def __aenter__(self) -> Speaker:
        """Load. Raises PluginError, AvatarNotFound, AvatarInvalid or RendererError."""
        registry = Registry.discover()
        record = registry.get(Kind.RENDERER, self._renderer_name)
        self._renderer = record.factory(record.config(**self._options))
        assert self._renderer is not None
        try:
            with await _open(registry, self._wanted) as file:
                self._avatar = await workers.run(self._renderer.load, file)
        except BaseException:
            self._renderer.close()
            raise
        self._batcher = Batcher(self._renderer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the weights."""
        if self._avatar is not None:
            self._avatar.close()
        if self._renderer is not None:
            self._renderer.close()

    @property
    def format(self) -> RenderFormat:
        """Frame size, rate and look-ahead. Raises RuntimeError outside of the context."""
        return self._loaded().format

    def _loaded(self) -> LoadedAvatar:
        if self._avatar is None:
            raise RuntimeError("use Speaker as a context: async with Speaker(...) as speaker")
        return self._avatar

    async def speak(
        self, pcm: Sound | AsyncIterable[Sound], rate: int, channels: int = 1, *, seed: int = 0
    ) -> AsyncGenerator[PairedFrame, None]:
        """Frames of the avatar saying ``pcm``, each with its slice of the sound at ``rate``.

        ``pcm`` is an array (see ``visavis.media.as_pcm``), or arrays as they come: frames come as soon as the
        look-ahead allows. The last frame's sound is shorter than its slot unless the sound fills it. Raises
        ValueError for malformed sound.
        """
        avatar = self._loaded()
        assert self._batcher is not None
        sound = AudioFormat(rate, channels)
        slicer = Slicer(sound, sound, avatar.format.sample_rate, avatar.format.hop)
        counter = FrameCounter(rate, avatar.format.video.fps)
        drawing: Drawing[Slice] = Drawing(self._batcher, avatar, seed=seed)
        index = 0
        try:
            async for piece in _pieces(pcm, rate, channels):
                if piece is None:
                    slicer.end()
                else:
                    slicer.feed(piece)
                while slicer.ready(counter.peek()):
                    cut = slicer.take(counter.next())
                    if (drawn := await drawing.hear(cut.ear, cut)) is not None:
                        yield _paired(index, *drawn)
                        index += 1
            while drawing.waiting:
                if (drawn := await drawing.flush()) is not None:
                    yield _paired(index, *drawn)
                    index += 1
        finally:
            drawing.close()


async def speak(
    avatar: str | Path,
    pcm: Sound | AsyncIterable[Sound],
    rate: int,
    channels: int = 1,
    *,
    seed: int = 0,
    renderer: str = "onnxruntime",
) -> AsyncGenerator[PairedFrame, None]:
    """Frames of an avatar saying ``pcm``; see ``Speaker.speak``.

    The avatar is loaded anew: keep a Speaker to speak often.
    """
    async with Speaker(avatar, renderer=renderer) as speaker:
        async with aclosing(speaker.speak(pcm, rate, channels, seed=seed)) as frames:
            async for frame in frames:
                yield frame


def _paired(index: int, cut: Slice, video: VideoFrame | None) -> PairedFrame:
    span = SpokenSpan("1", cut.source_samples, cut.first, cut.last)
    return PairedFrame(index, cut.audio, video, span, short=len(cut.audio) < cut.slot)


async def _pieces(
    pcm: Sound | AsyncIterable[Sound], rate: int, channels: int
) -> AsyncIterator[NDArray[np.float32] | None]:
    """The sound in short pieces, then None."""
    step = max(1, int(rate * PIECE_SECONDS))
    if isinstance(pcm, AsyncIterable):
        async for part in pcm:
            whole = as_pcm(np.asarray(part), channels)
            for at in range(0, len(whole), step):
                yield whole[at : at + step]
    else:
        whole = as_pcm(np.asarray(pcm), channels)
        for at in range(0, len(whole), step):
            yield whole[at : at + step]
    yield None


async def _open(registry: Registry, avatar: str | Path) -> Hvia:
    """Open a file by its path, or an id through the store that is installed."""
    if isinstance(avatar, Path) or str(avatar).endswith(".hvia"):
        return await workers.run(open_hvia, avatar)
    record = registry.get(Kind.STORE, "filesystem")
    store = record.factory(record.config())
    try:
        opened: Hvia = await store.open(avatar)
        return opened
    finally:
        await store.aclose()
