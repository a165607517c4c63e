"""What the entry point names: the record, without LiveKit."""

from __future__ import annotations

from collections.abc import Iterator

from visavis.component import NoOptions
from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource
from visavis.plugins import AudioSourcePlugin


def make(config: NoOptions, session: NoOptions) -> AudioSource:
    """Make the source of one session."""
    from visavis_source_agentsession.source import AgentSessionSource

    return AgentSessionSource()


@hookimpl
def visavis_audio_sources() -> Iterator[AudioSourcePlugin]:
    """The agent's own voice, for a pipeline that runs inside the agent's process."""
    yield AudioSourcePlugin(
        name="agentsession",
        summary="What a LiveKit agent says, inside the agent's own process (AvatarSession starts it).",
        requires=frozenset({"livekit.room"}),
        host="a LiveKit agent starts it in its own process: AvatarSession(pipeline=...) of livekit.plugins.visavis",
        factory=make,
    )
