"""The file transport: takes paired frames, and a video file is there once all is well."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from av.error import FFmpegError
from visavis import workers
from visavis.component import ComponentConfig
from visavis.errors import TransportError
from visavis.interfaces.session import SessionContext
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, VideoFormat
from visavis.metrics import Metrics

from visavis_transport_file.containers import Container, container_of, video_encoder
from visavis_transport_file.movie import Movie
from visavis_transport_file.options import FileSessionOptions, FileTransportOptions
from visavis_transport_file.target import Target, reason

log = logging.getLogger("visavis.transport.file")

BATCH: Final = 8
"""Frames that are encoded in one go: a thread's hop is paid once for all of them."""
CLOSING_SECONDS: Final = 10.0
"""How long giving up may take although the session is being cancelled."""


class FileTransport(Transport):
    """Makes video files."""

    def __init__(self, options: FileTransportOptions) -> None:
        self._options = options

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        """Check where the file goes, before anything costly is begun. Raises BadInput."""
        assert isinstance(options, FileSessionOptions)
        kind = container_of(options.path)
        encoder = video_encoder(kind, self._options.encoder)
        source = context.request.source.get("path")
        recording = source if isinstance(source, str | os.PathLike) else None
        target = await workers.run(lambda: Target(options.path, source=recording))
        return FileTransportSession(self._options, kind, encoder, target, context.metrics)


class FileTransportSession(TransportSession):
    """One file. It appears in ``aclose`` without an error, complete, or not at all."""

    def __init__(
        self, options: FileTransportOptions, kind: Container, encoder: str, target: Target, metrics: Metrics
    ) -> None:
        self._options, self._kind, self._encoder, self._target = options, kind, encoder, target
        self._metrics = metrics
        self._movie: Movie | None = None
        self._pending: list[PairedFrame] = []
        self._frames = 0

    @property
    def pacing(self) -> Pacing:
        """As the options say; ``asap`` by default."""
        return self._options.pacing

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        """Begin the file. Raises TransportError, for a full disk say."""
        with self._writing():
            await workers.run(self._begin, video, audio)

    def _begin(self, video: VideoFormat, audio: AudioFormat) -> None:
        partial = self._target.begin()
        try:
            # Kept at once: whatever becomes of the caller, aclose knows of it.
            self._movie = Movie(partial, self._kind, self._encoder, self._options, video, audio)
        except BaseException:
            self._target.discard()
            raise

    async def present(self, frame: PairedFrame) -> None:
        """Take one frame. Under ``asap`` up to eight wait to be encoded together. Raises TransportError."""
        self._pending.append(frame)
        if self._options.pacing is Pacing.REALTIME or len(self._pending) >= BATCH:
            await self.drain()

    async def drain(self) -> None:
        """Encode what waits. Raises TransportError."""
        if self._movie is None or not self._pending:
            return
        frames, self._pending = self._pending, []
        self._frames += len(frames)
        with self._writing():
            await workers.run(self._encode, self._movie, frames)

    def _encode(self, movie: Movie, frames: list[PairedFrame]) -> None:
        began = time.perf_counter()
        movie.write(frames)
        each = (time.perf_counter() - began) / len(frames)
        for _ in frames:
            self._metrics.observe("visavis_encode_seconds", each)

    async def aclose(self, error: BaseException | None = None) -> None:
        """Complete the file and put it in its place; with an error, remove it. Raises TransportError.

        Whatever goes wrong on the way, or if the caller is cancelled, no partial file is left.
        """
        if self._movie is None:
            return
        try:
            if error is None:
                await self.drain()
                if self._frames:
                    await self._complete(self._movie)
                else:
                    log.info("%s: nothing was said, so there is no file", self._target.path)
        finally:
            movie, self._movie = self._movie, None
            if movie is not None:
                with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                    await workers.run(self._abandon, movie)

    async def _complete(self, movie: Movie) -> None:
        with self._writing():
            await workers.run(movie.finish)
            await workers.run(self._target.commit)
        self._movie = None

    def _abandon(self, movie: Movie) -> None:
        # Removed first, the file cannot grow while it is closed; where that is not allowed it is removed afterwards.
        self._target.discard()
        movie.abandon()
        self._target.discard()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise TransportError(f"disk full: {self._target.path} could not be completed") from error
            raise TransportError(f"{self._target.path} could not be written: {reason(error)}") from error
