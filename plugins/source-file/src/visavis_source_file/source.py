"""The file source: one recording, one segment."""

from __future__ import annotations

import logging
from typing import Final

from visavis import workers
from visavis.errors import MediaError
from visavis.interfaces.session import SessionContext, SpeechStream
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.media import AudioFormat

from visavis_source_file.options import FileSourceOptions
from visavis_source_file.recording import Recording

log = logging.getLogger("visavis.source.file")

CHUNK_SECONDS: Final = 0.5
"""How much is decoded in one go: long enough to make a thread's hop cheap, short enough to stop at once."""


class FileSource(AudioSource):
    """Speaks a recording at its own rate and channels, then returns.

    What cannot be played is refused in ``prepare``, before a transport or a file is opened: MediaError.
    """

    def __init__(self, options: FileSourceOptions) -> None:
        self._options = options
        self._recording: Recording | None = None

    async def prepare(self, context: SessionContext) -> None:
        """Open the recording; with ``strict``, also decode it once from end to end."""
        if self._options.strict:
            await self._verify()
        recording = await self._open()
        if recording.seconds is not None:
            context.metrics.gauge("visavis_source_seconds", recording.seconds)

    async def _open(self) -> Recording:
        if self._recording is None:
            self._recording = await workers.run(Recording, self._options.path)
        return self._recording

    async def _verify(self) -> None:
        recording = await workers.run(Recording, self._options.path)
        try:
            while recording.damage is None and await workers.run(recording.read, CHUNK_SECONDS) is not None:
                pass
        finally:
            recording.close()
        if recording.damage is not None:
            raise MediaError(
                f"{self._options.path}: {recording.damage}", hint="without --strict what decodes is played"
            )

    async def run(self, speech: SpeechWriter) -> None:
        """Write the recording as one segment. A change of rate or channels within the file begins another."""
        recording = await self._open()
        stream: SpeechStream | None = None
        current: AudioFormat | None = None
        while (chunk := await workers.run(recording.read, CHUNK_SECONDS)) is not None:
            if stream is None or chunk.format != current:
                if stream is not None:
                    await stream.end()
                current = chunk.format
                stream = await speech.open(current.rate, current.channels)
            await stream.write(chunk.pcm)
        if recording.damage is not None:
            log.warning("%s: %s", self._options.path, recording.damage)
        if stream is not None:
            await stream.end()

    async def aclose(self) -> None:
        """Close the recording."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close()
