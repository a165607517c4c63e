"""What the entry point names: the record, without the encoder."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.hookspecs import hookimpl
from visavis.interfaces.transport import Transport
from visavis.plugins import TransportPlugin

from visavis_transport_file.options import FileSessionOptions, FileTransportOptions


def make(config: FileTransportOptions) -> Transport:
    """Make the transport of a process."""
    from visavis_transport_file.transport import FileTransport

    return FileTransport(config)


@hookimpl
def visavis_transports() -> Iterator[TransportPlugin]:
    """The file transport."""
    yield TransportPlugin(
        name="file",
        summary="A video file: mp4, mov, mkv or webm.",
        config=FileTransportOptions,
        session=FileSessionOptions,
        factory=make,
    )
