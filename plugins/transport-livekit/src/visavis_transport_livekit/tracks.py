"""The two tracks: how they are published, and taken back."""

from __future__ import annotations

import anyio
from livekit import rtc
from visavis.errors import TransportError
from visavis.media import AudioFormat, VideoFormat

from visavis_transport_livekit import token as tokens
from visavis_transport_livekit.options import LiveKitTransportOptions, VideoCodec

PUBLISHING_SECONDS = 10.0
"""How long the server may take to accept a track."""

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
    """Sound all the time: without it (DTX) a receiver squeezes the beginning of the next utterance."""
    wanted = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False, red=options.audio_redundancy)
    wanted.audio_encoding.max_bitrate = options.audio_bitrate * audio.channels
    return wanted


async def publish(
    room: rtc.Room,
    options: LiveKitTransportOptions,
    video: tuple[VideoFormat, rtc.VideoSource],
    audio: tuple[AudioFormat, rtc.AudioSource],
) -> list[str]:
    """Publish picture, then sound; returns their sids. Clients hold back speech until they see the picture.

    Raises TransportError if the server does not accept one.
    """
    picture = rtc.LocalVideoTrack.create_video_track("avatar-video", video[1])
    sound = rtc.LocalAudioTrack.create_audio_track("avatar-audio", audio[1])
    return [
        await _publish(room, picture, video_options(options, video[0]), "picture"),
        await _publish(room, sound, audio_options(options, audio[0]), "sound"),
    ]


async def _publish(room: rtc.Room, track: rtc.LocalTrack, options: rtc.TrackPublishOptions, what: str) -> str:
    try:
        with anyio.fail_after(PUBLISHING_SECONDS):
            publication = await room.local_participant.publish_track(track, options)
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
    return str(publication.sid)


async def unpublish(room: rtc.Room) -> None:
    """Take back the avatar's own tracks; others of the same participant stay."""
    for sid, publication in list(room.local_participant.track_publications.items()):
        if publication.name in ("avatar-video", "avatar-audio"):
            await room.local_participant.unpublish_track(sid)
