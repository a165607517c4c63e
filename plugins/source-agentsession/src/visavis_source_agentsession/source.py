"""The source ``agentsession``: it lends the speech floor to the agent whose process it runs in."""

from __future__ import annotations

import anyio
from visavis.errors import SessionError
from visavis.interfaces.session import SessionContext
from visavis.interfaces.source import AudioSource, SpeechWriter

from visavis_source_agentsession.voice import AgentVoice


class AgentSessionSource(AudioSource):
    """Speaks what the agent says. The AgentVoice comes as a resource of the session, from a running AvatarSession."""

    def __init__(self) -> None:
        self._voice: AgentVoice | None = None

    async def prepare(self, context: SessionContext) -> None:
        """Find the agent. Raises SessionError where there is none, before anything is joined."""
        try:
            self._voice = context.resource(AgentVoice)
        except KeyError:
            raise SessionError(
                "the source 'agentsession' speaks what a LiveKit agent says, and this process runs no agent",
                hint="start the pipeline from the agent, `AvatarSession(pipeline=...)`, or use another source",
            ) from None

    async def run(self, speech: SpeechWriter) -> None:
        """Lend the floor to the agent until the session ends."""
        assert self._voice is not None
        async with anyio.create_task_group() as tasks:
            self._voice.attach(speech, tasks)
            try:
                await anyio.sleep_forever()
            finally:
                self._voice.detach()

    async def aclose(self) -> None:
        """Nothing is held: the agent's voice belongs to its AvatarSession."""
        self._voice = None
