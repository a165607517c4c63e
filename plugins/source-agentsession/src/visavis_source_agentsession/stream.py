"""The way to an avatar elsewhere: LiveKit's own byte stream output, with an end to it."""

from __future__ import annotations

import anyio
from livekit import rtc
from livekit.agents.utils import aio
from livekit.agents.voice.avatar import DataStreamAudioOutput

CLEAR_SECONDS = 2.0
"""An interrupted avatar that has not said so after this long is taken to have stopped."""
CAPTURE_SECONDS = 5.0


class AvatarStream(DataStreamAudioOutput):  # type: ignore[misc]
    """DataStreamAudioOutput for one avatar, which forgets that avatar when it is closed.

    The base class keeps what it registers for as long as the process lives.
    """

    def __init__(self, room: rtc.Room, *, destination_identity: str, sample_rate: int) -> None:
        super().__init__(
            room,
            destination_identity=destination_identity,
            sample_rate=sample_rate,
            wait_remote_track=rtc.TrackKind.KIND_VIDEO,
            clear_buffer_timeout=CLEAR_SECONDS,
            wait_playback_start=True,
        )

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Send ``frame``. A write is not torn by a cancellation: half a stream would leave the avatar waiting."""
        with anyio.CancelScope(shield=True), anyio.fail_after(CAPTURE_SECONDS):
            await super().capture_frame(frame)

    async def aclose(self) -> None:
        """Let go of the room; nothing is sent or reported any more."""
        cls, identity = type(self), self._destination_identity
        for registered, own in (
            (cls._playback_finished_handlers, self._handle_playback_finished),
            (cls._playback_started_handlers, self._handle_playback_started),
        ):
            if registered.get(identity) == own:
                del registered[identity]
        self._room.off("connection_state_changed", self._handle_connection_state_changed)
        waiting = [task for task in (*self._tasks, self._start_atask) if task is not None]
        await aio.cancel_and_wait(*waiting)
