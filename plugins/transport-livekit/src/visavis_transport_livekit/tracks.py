"""The two tracks: how they are published, and taken back."""

from __future__ import annotations

import asyncio

import anyio
from livekit import rtc
from visavis.errors import TransportError
from visavis.media import AudioFormat, VideoFormat

from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.options import LiveKitTransportOptions, VideoCodec
from visavis_transport_livekit.overture import Overture

PUBLISHING_SECONDS = 10.0
"""How long the server may take to accept a track."""

SETTLING_SECONDS = 2.0
"""How long publishing that was given up may still take."""
SUBSCRIBING_SECONDS = 0.3
"""How long those who are there may take to subscribe before anything is said or shown: what nobody gets is lost."""
PICTURE, SOUND = "avatar-video", "avatar-audio"
"""The names of the tracks."""

_CODECS = {
    VideoCodec.VP8: rtc.VideoCodec.VP8,
    VideoCodec.H264: rtc.VideoCodec.H264,
    VideoCodec.VP9: rtc.VideoCodec.VP9,
    VideoCodec.AV1: rtc.VideoCodec.AV1,
}


def video_options(options: LiveKitTransportOptions, video: VideoFormat) -> rtc.TrackPublishOptions:
    """One layer with its own rate: LiveKit's defaults throttle a picture of 512x512 to 300 kbit/s and 20 a second."""
    wanted = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False, video_codec=_CODECS[options.video_codec]
    )
    wanted.video_encoding.max_bitrate = options.max_bitrate
    wanted.video_encoding.max_framerate = float(video.fps)
    # A narrow line costs sharpness: neither a smaller mouth nor a jerky one can be read.
    wanted.degradation_preference = rtc.DegradationPreference.MAINTAIN_FRAMERATE_AND_RESOLUTION
    return wanted


def audio_options(options: LiveKitTransportOptions, audio: AudioFormat) -> rtc.TrackPublishOptions:
    """Silence is published as well, but costs next to nothing on the line (DTX).

    What a busy minute has put into a receiver's jitter buffer leaves it in such a pause unheard; where packets of
    silence come all the time, it leaves by squeezing speech (``bench/livekit/sync.py --rounds``).
    """
    wanted = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=options.audio_dtx, red=options.audio_redundancy
    )
    wanted.audio_encoding.max_bitrate = options.audio_bitrate * audio.channels
    return wanted


async def publish(
    room: rtc.Room,
    options: LiveKitTransportOptions,
    video: tuple[VideoFormat, rtc.VideoSource],
    audio: tuple[AudioFormat, rtc.AudioSource],
    *,
    anew: bool = False,
) -> None:
    """Publish sound and picture, and give those who are there a moment to subscribe.

    Clients speak as soon as they see the picture, so the sound goes first: by then it is being subscribed to. With
    ``anew`` pictures come from the source already. Raises TransportError if the server does not accept one.
    """
    sound = rtc.LocalAudioTrack.create_audio_track(SOUND, audio[1])
    picture = rtc.LocalVideoTrack.create_video_track(PICTURE, video[1])
    opening = None if anew else Overture(*video)
    # One after the other: while one track is being agreed on, the SDK could offer the other without its codec.
    heard = await _publish(room, sound, audio_options(options, audio[0]), "sound")
    seen = await _publish(room, picture, video_options(options, video[0]), "picture")
    if room.remote_participants:
        with anyio.move_on_after(SUBSCRIBING_SECONDS):
            if opening is not None:
                await opening.play(picture)
            await heard.wait_for_subscription()
            await seen.wait_for_subscription()


async def _publish(
    room: rtc.Room, track: rtc.LocalTrack, options: rtc.TrackPublishOptions, what: str
) -> rtc.LocalTrackPublication:
    publishing = asyncio.ensure_future(room.local_participant.publish_track(track, options))
    try:
        with anyio.fail_after(PUBLISHING_SECONDS):
            return await asyncio.shield(publishing)
    except TimeoutError:
        raise TransportError(
            f"the room {room.name} did not accept the avatar's {what} in {PUBLISHING_SECONDS:g} s",
            hint="no media path may be open: visavis dial tells which step fails",
        ) from None
    except Exception as error:  # noqa: BLE001 - the SDK raises bare exceptions too
        said = tokens.redacted(str(getattr(error, "message", error)))
        raise TransportError(
            f"the room {room.name} did not accept the avatar's {what}: {said[:200]}",
            hint="its token must grant canPublish for camera and microphone",
        ) from None
    finally:
        await _settle(publishing)


async def _settle(publishing: asyncio.Future[rtc.LocalTrackPublication]) -> None:
    """Let what was given up come to its end.

    The SDK cannot stop publishing. Cancelled, it does not know the track that the server then tells of: it could not be
    taken back, and the SDK logs a traceback.
    """
    if publishing.done():
        return
    with anyio.CancelScope(shield=True):
        await asyncio.wait([publishing], timeout=SETTLING_SECONDS)
    publishing.cancel()
    if publishing.done() and not publishing.cancelled():
        publishing.exception()  # whoever wanted the track has left


async def unpublish(room: rtc.Room) -> None:
    """Take back the avatar's own tracks; others of the same participant stay."""
    for sid, publication in list(room.local_participant.track_publications.items()):
        if publication.name in (PICTURE, SOUND):
            await room.local_participant.unpublish_track(sid)
