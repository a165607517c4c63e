"""What the entry point names: the records, without the engine."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.hookspecs import hookimpl
from visavis.interfaces.audience import Audience
from visavis.interfaces.transport import Transport
from visavis.plugins import CommandPlugin, TransportPlugin

from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions


def make(config: LiveKitTransportOptions) -> Transport:
    """Make the transport of a process."""
    from visavis_transport_livekit.transport import LiveKitTransport

    return LiveKitTransport(config)


def audience(config: LiveKitTransportOptions) -> Audience:
    """Make rooms of a bench's own, and subscribers. Raises ConfigError if the environment does not say where."""
    from visavis_transport_livekit.audience import audience_by_environment

    return audience_by_environment()


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
        audience=audience,
    )


@hookimpl
def visavis_commands() -> Iterator[CommandPlugin]:
    """The command that dials a room."""
    yield CommandPlugin(
        name="dial",
        summary="Dial a LiveKit room step by step, and say which step fails and what to do.",
        target="visavis_transport_livekit.dial:dial",
    )
