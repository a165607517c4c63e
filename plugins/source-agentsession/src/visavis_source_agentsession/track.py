"""The agent's own track: how it is heard without an avatar."""

from __future__ import annotations

import logging

import anyio
import numpy as np
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities
from numpy.typing import NDArray

from visavis_source_agentsession.wall import wall_time

log = logging.getLogger("livekit.plugins.visavis")

QUEUE_MS = 200
PIECE_SECONDS = 0.02
LEAD_IN_SECONDS = 0.1
"""Silence ahead of the first word: a receiver swallows the first moments of a new track."""
PUBLISHED_SECONDS = 10.0
SUBSCRIBED_SECONDS = 10.0
"""How long the first word waits for somebody to listen."""


class VoiceTrack(AudioOutput):  # type: ignore[misc]
    """Publishes an audio track of the agent when something is first said, and plays in real time.

    Frames must come at ``sample_rate``, mono. ``capture_frame`` waits while the queue is full.
    """

    def __init__(self, room: rtc.Room, *, sample_rate: int = 24_000, name: str = "agent_voice") -> None:
        super().__init__(label="voice", capabilities=AudioOutputCapabilities(pause=True), sample_rate=sample_rate)
        self._room, self._rate, self._name = room, sample_rate, name
        self._source: rtc.AudioSource | None = None
        self._publication: rtc.LocalTrackPublication | None = None
        self._samples = 0
        self._started = self._pending = self._flushed = False
        self._resumed = anyio.Event()
        self._resumed.set()
        self._flush = anyio.Event()
        self._finished = anyio.Event()
        self._closed = False

    @property
    def publication(self) -> rtc.LocalTrackPublication | None:
        """The track in the room, once there is one."""
        return self._publication

    async def publish(self) -> rtc.AudioSource:
        """Publish the track and wait a while for a listener. Does nothing if it is published.

        Raises TimeoutError if the room does not take it.
        """
        if self._source is not None:
            return self._source
        source = rtc.AudioSource(self._rate, 1, queue_size_ms=QUEUE_MS)
        track = rtc.LocalAudioTrack.create_audio_track(self._name, source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        with anyio.fail_after(PUBLISHED_SECONDS):
            self._publication = await self._room.local_participant.publish_track(track, options)
        with anyio.move_on_after(SUBSCRIBED_SECONDS) as scope:
            await self._publication.wait_for_subscription()
        if scope.cancelled_caught:
            log.warning("nobody listens to the agent's own track")
        silence = rtc.AudioFrame.create(self._rate, 1, int(self._rate * LEAD_IN_SECONDS))
        await source.capture_frame(silence)
        self._source = source
        return source

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Play ``frame`` after what was captured before."""
        source = await self.publish()
        while self._flushed:
            await self._finished.wait()
        await super().capture_frame(frame)
        if not self._pending:
            self._pending, self._samples, self._started = True, 0, False
        pcm = _mono(frame)
        piece = int(self._rate * PIECE_SECONDS)
        for at in range(0, len(pcm), piece):
            await self._resumed.wait()
            part = pcm[at : at + piece]
            if not self._started:
                self._started = True
                self.on_playback_started(created_at=wall_time())
            self._samples += len(part)
            await source.capture_frame(rtc.AudioFrame(part.tobytes(), self._rate, 1, len(part)))

    def flush(self) -> None:
        """The segment is complete: it is finished once its last sample was sent."""
        super().flush()
        if self._pending:
            self._flushed = True
            self._flush.set()

    def clear_buffer(self) -> None:
        """Stop at once."""
        super().flush()
        if not self._pending or self._source is None:
            return
        left = round(self._source.queued_duration * self._rate)
        self._source.clear_queue()
        self._finish(max(0, self._samples - left), interrupted=True)

    def pause(self) -> None:
        """Stop sending; what is queued, a fifth of a second at most, is still heard."""
        if self._resumed.is_set():
            self._resumed = anyio.Event()

    def resume(self) -> None:
        """Go on sending."""
        self._resumed.set()

    async def run(self) -> None:
        """Finish segments when they have been played, until the track is closed."""
        while not self._closed:
            await self._flush.wait()
            self._flush = anyio.Event()
            if self._flushed and self._source is not None:
                await self._source.wait_for_playout()
                if self._flushed:  # else it was interrupted meanwhile
                    self._finish(self._samples, interrupted=False)

    def _finish(self, samples: int, *, interrupted: bool) -> None:
        self._pending = self._flushed = False
        self.on_playback_finished(playback_position=samples / self._rate, interrupted=interrupted)
        finished, self._finished = self._finished, anyio.Event()
        finished.set()

    async def aclose(self) -> None:
        """Take the track back."""
        self._closed = True
        self._flush.set()
        source, self._source = self._source, None
        publication, self._publication = self._publication, None
        if publication is not None and self._room.isconnected():
            try:
                await self._room.local_participant.unpublish_track(publication.sid)
            except Exception as error:  # noqa: BLE001 - the SDK raises what it likes; the room forgets it anyway
                log.debug("the agent's own track could not be unpublished: %s", error)
        if source is not None:
            await source.aclose()


def _mono(frame: rtc.AudioFrame) -> NDArray[np.int16]:
    pcm = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    return pcm[:, 0] if frame.num_channels == 1 else pcm.mean(axis=1).astype(np.int16)
