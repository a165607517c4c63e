"""What the entry point names: the records, without the engine."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.hookspecs import hookimpl
from visavis.interfaces.transport import Transport
from visavis.plugins import CommandPlugin, TransportPlugin

from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions


def make(config: LiveKitTransportOptions) -> Transport:
    """Make the transport of a process."""
    from visavis_transport_livekit.transport import LiveKitTransport

    return LiveKitTransport(config)


@hookimpl
def visavis_transports() -> Iterator[TransportPlugin]:
    """The LiveKit transport."""
    yield TransportPlugin(
        name="livekit",
        summary="A LiveKit room: the avatar joins it and is seen and heard.",
        config=LiveKitTransportOptions,
        session=LiveKitSessionOptions,
        provides=frozenset({"livekit.room"}),
        rejoins=True,
        factory=make,
    )


@hookimpl
def visavis_commands() -> Iterator[CommandPlugin]:
    """The command that dials a room."""
    yield CommandPlugin(
        name="dial",
        summary="Dial a LiveKit room step by step, and say which step fails and what to do.",
        target="visavis_transport_livekit.dial:dial",
    )
