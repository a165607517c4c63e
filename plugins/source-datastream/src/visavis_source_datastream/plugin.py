"""What the entry point names: the record, without LiveKit."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource
from visavis.plugins import AudioSourcePlugin

from visavis_source_datastream.options import DataStreamOptions, DataStreamSessionOptions


def make(config: DataStreamOptions, session: DataStreamSessionOptions) -> AudioSource:
    """Make the source of one session."""
    from visavis_source_datastream.source import DataStreamSource

    return DataStreamSource(config, session)


@hookimpl
def visavis_audio_sources() -> Iterator[AudioSourcePlugin]:
    """The data stream source."""
    yield AudioSourcePlugin(
        name="datastream",
        summary="Speech that participants of a LiveKit room stream as PCM on lk.audio_stream.",
        config=DataStreamOptions,
        session=DataStreamSessionOptions,
        requires=frozenset({"livekit.room"}),
        factory=make,
    )
