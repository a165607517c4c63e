"""The agent's voice as a session hears it: LiveKit's AudioOutput on one side, our SpeechWriter on the other."""

from __future__ import annotations

import anyio
import numpy as np
from anyio.abc import TaskGroup
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities
from visavis.errors import SessionError
from visavis.interfaces.session import SpeechStream
from visavis.interfaces.source import SpeechWriter

from visavis_source_agentsession.wall import wall_time


class AgentVoice(AudioOutput):  # type: ignore[misc]
    """Takes the agent's sound at any rate and writes it to a session's speech floor; reports what was really played.

    A session finds it in its resources, by this type. ``capture_frame`` waits while the pipeline is full, so the agent
    is never more than a moment ahead of the lips.
    """

    def __init__(self) -> None:
        super().__init__(label="visavis", capabilities=AudioOutputCapabilities(pause=False))
        self._speech: SpeechWriter | None = None
        self._tasks: TaskGroup | None = None
        self._stream: SpeechStream | None = None
        self._interrupts = 0
        self._interrupted = anyio.Event()
        self._attached = anyio.Event()

    # -- the session's side

    def attach(self, speech: SpeechWriter, tasks: TaskGroup) -> None:
        """The session runs: ``speech`` is its floor, ``tasks`` lives as long as it does."""
        self._speech, self._tasks = speech, tasks
        self._attached.set()

    def detach(self) -> None:
        """The session is over: nothing can be said here any more."""
        self._speech = self._tasks = self._stream = None

    async def attached(self) -> None:
        """Wait until a session speaks for this voice."""
        await self._attached.wait()

    # -- the agent's side

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Say ``frame``. Waits while the pipeline is full. Raises SessionError if no session runs."""
        while self._interrupts:
            await self._interrupted.wait()
        if self._speech is None or self._tasks is None:
            raise SessionError("the avatar's session is over")
        if self._stream is None:
            stream = await self._speech.open(frame.sample_rate, frame.num_channels)
            self._stream = stream
            self._tasks.start_soon(self._follow, stream)
        await super().capture_frame(frame)
        pcm = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        await self._stream.write(pcm)

    def flush(self) -> None:
        """The segment is complete: it is played to its end."""
        super().flush()
        stream, self._stream = self._stream, None
        if stream is not None and self._tasks is not None:
            self._tasks.start_soon(stream.end)

    def clear_buffer(self) -> None:
        """Stop at once. ``playback_finished`` tells how much of it was heard."""
        super().flush()  # what comes next is another segment
        self._stream = None
        if self._tasks is not None:
            self._interrupts += 1
            self._tasks.start_soon(self._interrupt)

    async def _interrupt(self) -> None:
        try:
            if self._speech is not None:
                await self._speech.interrupt()
        finally:
            self._interrupts -= 1
            if not self._interrupts:
                self._interrupted.set()
                self._interrupted = anyio.Event()

    async def _follow(self, stream: SpeechStream) -> None:
        """Report one segment: when it is first heard, and how it ended."""
        if await stream.wait_started():
            self.on_playback_started(created_at=wall_time())
        result = await stream.wait_finished()
        self.on_playback_finished(playback_position=result.position, interrupted=result.interrupted)
