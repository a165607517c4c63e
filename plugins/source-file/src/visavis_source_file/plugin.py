"""What the entry point names: the record, without the decoder."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.component import NoOptions
from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource
from visavis.plugins import AudioSourcePlugin

from visavis_source_file.options import FileSourceOptions


def make(config: NoOptions, session: FileSourceOptions) -> AudioSource:
    """Make the source of one session."""
    from visavis_source_file.source import FileSource

    return FileSource(session)


@hookimpl
def visavis_audio_sources() -> Iterator[AudioSourcePlugin]:
    """The file source."""
    yield AudioSourcePlugin(
        name="file", summary="Speech from an audio or video file.", session=FileSourceOptions, factory=make
    )
