"""The LiveKit transport: a session's avatar in its room."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import anyio
from livekit import rtc
from visavis.component import ComponentConfig
from visavis.errors import TransportError
from visavis.interfaces.session import SessionContext
from visavis.interfaces.transport import Pacing, Transport, TransportSession
from visavis.media import AudioFormat, PairedFrame, VideoFormat

from visavis_transport_livekit import joining, native_log, tracks
from visavis_transport_livekit.options import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.picture import Picture
from visavis_transport_livekit.stay import Stay
from visavis_transport_livekit.voice import Voice

log = logging.getLogger("visavis.transport.livekit")

CLOSING_SECONDS: Final = 6.0
"""How long taking the tracks back and leaving may take, whatever the server does."""
AFTER_SOUND: Final = 0.010
"""Seconds by which a picture follows its first sample: sound is taken once 10 ms of it have passed, and two such pieces
make a packet. Without this, pictures were early at a viewer, beside the plain SDK's (``bench/livekit/sync.py``)."""


class LiveKitTransport(Transport):
    """Makes the way into rooms. It shares nothing between sessions but its options."""

    def __init__(self, options: LiveKitTransportOptions) -> None:
        self._options = options
        native_log.hush()

    async def prepare(self, context: SessionContext, options: ComponentConfig) -> TransportSession:
        """Make the session's room, not connected yet; or borrow the one that stands in the context already.

        Raises TransportError if it is told of no room.
        """
        assert isinstance(options, LiveKitSessionOptions)
        borrowed = context.resources.get(rtc.Room)
        if borrowed is None:
            missing = [name for name in ("url", "token") if not _given(options, name)]
            if missing:
                raise TransportError(
                    f"no LiveKit room to join: {' and '.join(missing)} missing",
                    hint="give session.transport.url and session.transport.token",
                )
        room: rtc.Room = borrowed if borrowed is not None else rtc.Room()
        if borrowed is None:
            context.provide(rtc.Room, room)
        return LiveKitTransportSession(self._options, options, context, room, owned=borrowed is None)

    async def aclose(self) -> None:
        """Let connections that were given up come to their end. May be called twice."""
        with anyio.CancelScope(shield=True):
            await joining.settled(CLOSING_SECONDS)


def _given(options: LiveKitSessionOptions, name: str) -> bool:
    return bool(options.url if name == "url" else options.token.get_secret_value())


class LiveKitTransportSession(TransportSession):
    """One avatar in one room."""

    def __init__(
        self,
        options: LiveKitTransportOptions,
        where: LiveKitSessionOptions,
        context: SessionContext,
        room: rtc.Room,
        *,
        owned: bool,
    ) -> None:
        self._options, self._context, self._room = options, context, room
        self._loop = asyncio.get_running_loop()
        self._stay = Stay(options, where, context, room, owned=owned, republish=self._publish_anew)
        self._audio = AudioFormat(options.audio_rate, options.audio_channels)
        self._video: VideoFormat | None = None
        self._voice: Voice | None = None
        self._picture: Picture | None = None
        self._last = 0.0  # when the last frame came
        self._closed = False

    @property
    def pacing(self) -> Pacing:
        """In real time."""
        return Pacing.REALTIME

    @property
    def audio_format(self) -> AudioFormat:
        """One format for all speech, so that the track is there before the first word."""
        return self._audio

    async def open(self, context: SessionContext) -> None:
        """Join the room. Raises TransportError; then nobody is left in it."""
        await self._stay.begin()

    async def publish(self, video: VideoFormat, audio: AudioFormat) -> None:
        """Publish picture and sound. Raises TransportError."""
        self._video, self._audio = video, audio
        self._picture = Picture(video, self._context.metrics)
        self._voice = Voice(audio, self._options.lead_ms, self._options.most_lead_ms, self._context.metrics)
        self._voice.start()
        await self._publish()

    async def _publish_anew(self) -> None:
        """After the room was entered again: the sources are there, and go on."""
        await self._publish(anew=True)

    async def _publish(self, *, anew: bool = False) -> None:
        if self._video is None or self._voice is None or self._picture is None:
            return
        video, audio = (self._video, self._picture.source), (self._audio, self._voice.source)
        await tracks.publish(self._room, self._options, video, audio, anew=anew)

    async def present(self, frame: PairedFrame) -> None:
        """Take one frame; its picture is shown when its sound goes out."""
        if self._voice is None or self._picture is None:
            return
        self._last = self._loop.time()
        due = await self._voice.push(frame.audio) + AFTER_SOUND
        if frame.video is not None:
            self._picture.show(frame.video, due)
        else:
            self._picture.repeat(due)

    def held(self) -> int:
        """Samples that the encoder has not taken yet: what it has taken will be heard."""
        return 0 if self._voice is None else self._voice.held()

    async def flush(self) -> None:
        """Throw away the sound and the pictures that wait."""
        if self._voice is not None and self._picture is not None and self._video is not None:
            self._picture.flush(self._voice.lead + AFTER_SOUND)
            self._voice.flush(self._last + float(1 / self._video.fps))

    async def drain(self) -> None:
        """Wait until the encoder has taken everything."""
        if self._voice is not None:
            await self._voice.drain()

    async def announce(self, **facts: str) -> None:
        """Set the participant's attributes ``visavis.<fact>``."""
        await self._stay.announce({f"visavis.{name}": said for name, said in facts.items()})

    async def closed(self) -> str:
        """Wait until the avatar has to leave: removed, alone, or without its agent."""
        return await self._stay.over()

    async def aclose(self, error: BaseException | None = None) -> None:
        """Take the tracks back and leave. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if error is None and self._voice is not None and self._room.isconnected():
                await self._voice.drain()  # the last syllable is still on its way
            await self._stay.end(self._context.reason or ("" if error is None else type(error).__name__))
        with anyio.CancelScope(shield=True):
            if self._voice is not None:
                await self._voice.aclose()
            if self._picture is not None:
                await self._picture.aclose()
        joining.log.debug("session %s: the room is left", self._context.session_id)
