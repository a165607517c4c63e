"""A session in a real room: what others see, when it leaves, what it says."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
from typing import Any

import anyio
import pytest
from livekit import api, rtc
from pydantic import SecretStr
from visavis.errors import TransportError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.transport import LiveKitTransport

from .conftest import SIZE, Avatar, avatar_in, guest_in

pytestmark = pytest.mark.anyio


async def leaving(avatar: Avatar, patience: float = 20.0) -> str:
    with anyio.fail_after(patience):
        return await avatar.session.closed()


# -- what others see


async def test_a_viewer_gets_one_layer_of_the_full_size_and_sound(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with (
        guest_in(livekit_server, room_name, subscribe=True) as guest,
        avatar_in(livekit_server, room_name) as avatar,
    ):
        await avatar.publish()
        await guest.until(lambda: (p := guest.seen()) is not None and len(p.track_publications) == 2)
        participant = guest.seen()
        assert participant is not None
        by_source = {t.source: t for t in participant.track_publications.values()}
        picture = by_source[rtc.TrackSource.SOURCE_CAMERA]
        sound = by_source[rtc.TrackSource.SOURCE_MICROPHONE]
        assert (picture.width, picture.height, picture.simulcasted) == (SIZE, SIZE, False)
        assert picture.mime_type.lower() == "video/vp8"
        assert sound.mime_type.lower() in ("audio/opus", "audio/red")
        await guest.until(lambda: picture.track is not None and sound.track is not None)
        assert picture.track is not None
        assert sound.track is not None
        pictures, sounds = rtc.VideoStream(picture.track), rtc.AudioStream(sound.track)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(avatar.talk, 250, 0.25)
                with anyio.fail_after(20):
                    async for event in pictures:
                        if event.frame.width == SIZE:
                            break
                    async for block in sounds:
                        if max(block.frame.data) > 4000:
                            break
                tasks.cancel_scope.cancel()
        finally:
            await pictures.aclose()
            await sounds.aclose()


async def encoded(track: rtc.LocalVideoTrack, least: int) -> tuple[int, int, int]:
    """How many pictures were encoded, as soon as they are so many; how many as key frames; how wide they are."""
    with anyio.fail_after(10):
        while True:
            for stats in await track.get_stats():
                found = stats.outbound_rtp.outbound
                if stats.HasField("outbound_rtp") and found.frames_encoded >= least:
                    return found.frames_encoded, found.key_frames_encoded, found.frame_width
            await anyio.sleep(0.02)


async def test_the_first_picture_is_a_key_frame_that_nobody_has_to_ask_for(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with guest_in(livekit_server, room_name), avatar_in(livekit_server, room_name) as avatar:
        await avatar.publish()
        published = avatar.room.local_participant.track_publications.values()
        track = next(p.track for p in published if p.kind == rtc.TrackKind.KIND_VIDEO)
        assert isinstance(track, rtc.LocalVideoTrack)
        assert await encoded(track, 1) == (1, 1, SIZE - 4)  # the dark one: nobody has subscribed, so nobody sees it
        await avatar.talk(1)
        assert await encoded(track, 2) == (2, 2, SIZE)


@pytest.mark.parametrize(("dtx", "least", "most"), [(True, 1, 25), (False, 75, 200)])
async def test_silence_is_packed_where_it_may_be(
    livekit_server: LiveKitServer, room_name: str, dtx: bool, least: int, most: int
) -> None:
    async with guest_in(livekit_server, room_name), avatar_in(livekit_server, room_name, audio_dtx=dtx) as avatar:
        await avatar.publish()
        published = avatar.room.local_participant.track_publications.values()
        track = next(p.track for p in published if p.kind == rtc.TrackKind.KIND_AUDIO)
        assert isinstance(track, rtc.LocalAudioTrack)

        async def sent() -> int:
            rows = [stats.outbound_rtp for stats in await track.get_stats() if stats.HasField("outbound_rtp")]
            return max((row.sent.packets_sent for row in rows), default=0)

        await avatar.talk(25)
        before = await sent()
        await avatar.talk(50)  # two seconds: a hundred packets, or one each 400 ms
        assert least <= await sent() - before <= most


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
async def test_other_codecs_by_configuration(livekit_server: LiveKitServer, room_name: str, codec: str) -> None:
    async with (
        guest_in(livekit_server, room_name) as guest,
        avatar_in(livekit_server, room_name, video_codec=codec, audio_channels=2) as avatar,
    ):
        await avatar.publish()
        await guest.until(lambda: (p := guest.seen()) is not None and len(p.track_publications) == 2)
        participant = guest.seen()
        assert participant is not None
        kinds = {t.mime_type.lower() for t in participant.track_publications.values()}
        assert f"video/{codec}" in kinds


async def test_publishing_that_is_given_up_can_be_taken_back(
    livekit_server: LiveKitServer, room_name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = anyio.Event()
    publish_track = rtc.LocalParticipant.publish_track

    async def publishing(us: rtc.LocalParticipant, *arguments: Any) -> rtc.LocalTrackPublication:
        asked.set()
        return await publish_track(us, *arguments)

    monkeypatch.setattr(rtc.LocalParticipant, "publish_track", publishing)
    async with guest_in(livekit_server, room_name) as guest:
        async with avatar_in(livekit_server, room_name) as avatar:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(avatar.publish)
                await asked.wait()
                tasks.cancel_scope.cancel()
            names = [p.name for p in avatar.room.local_participant.track_publications.values()]
            assert names == ["avatar-audio"]
        await guest.until(lambda: guest.seen() is None)
    assert not [record for record in caplog.records if "user callback" in record.getMessage()]


async def test_it_says_for_whom_it_speaks_where_the_token_does_not(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with (
        guest_in(livekit_server, room_name, "agent", agent=True) as agent,
        avatar_in(livekit_server, room_name, agent="agent") as avatar,
    ):
        await agent.until(lambda: agent.told("lk.publish_on_behalf") == "agent")
        await avatar.session.announce(state="ending", ends_in_s="30")
        await agent.until(lambda: agent.told("visavis.state") == "ending")
        assert agent.told("visavis.ends_in_s") == "30"


async def test_a_token_that_allows_no_attributes_is_no_obstacle(livekit_server: LiveKitServer, room_name: str) -> None:
    token = livekit_server.token("avatar", room_name, update_own_metadata=False)
    async with guest_in(livekit_server, room_name) as guest:
        async with avatar_in(livekit_server, room_name, token=token, agent="guest") as avatar:
            await avatar.publish()
            await avatar.session.announce(state="closing")
            assert guest.told("visavis.state") is None
        await guest.until(lambda: guest.seen() is None)


async def test_the_reason_is_told_before_it_leaves(livekit_server: LiveKitServer, room_name: str) -> None:
    async with guest_in(livekit_server, room_name) as guest:
        async with avatar_in(livekit_server, room_name) as avatar:
            await avatar.publish()
            await guest.until(lambda: guest.seen() is not None)
            avatar.context.reason = "nobody spoke for 60 s"
        await guest.until(lambda: guest.seen() is None)
        assert guest.told("visavis.reason") == "nobody spoke for 60 s"


# -- what it cannot join


async def refused(server: LiveKitServer, room: str, token: str, *, url: str = "") -> TransportError:
    session = await LiveKitTransport(LiveKitTransportOptions(join_timeout_s=6)).prepare(
        context := SessionContext("test", SessionRequest()),
        LiveKitSessionOptions(url=url or server.url, token=SecretStr(token)),
    )
    with pytest.raises(TransportError) as caught:
        await session.open(context)
    await session.aclose(caught.value)
    return caught.value


async def test_why_a_room_could_not_be_joined(
    livekit_server: LiveKitServer, room_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = livekit_server
    expired = server.token("avatar", room_name, ttl=-100)
    grants = api.VideoGrants(room_join=True, room=room_name)
    foreign = api.AccessToken(server.key, "another-secret-of-32-characters!").with_identity("a").with_grants(grants)
    mute = api.VideoGrants(room_join=True, room=room_name, can_publish=False)
    silent = api.AccessToken(server.key, server.secret).with_identity("a").with_grants(mute)
    for token, words in (
        (expired, "expired"),
        (foreign.to_jwt(), "another secret"),
        ("no token", "not a LiveKit token"),
        (silent.to_jwt(), "may not publish"),
    ):
        error = await refused(server, room_name, token)
        assert words in error.message
        assert error.hint
    error = await refused(server, room_name, server.token("avatar", room_name), url="ws://127.0.0.1:9")
    assert "nothing answers there" in error.message
    assert not re.search(r"eyJ[\w-]{20,}", caplog.text)


async def test_a_session_needs_a_room() -> None:
    with pytest.raises(TransportError, match="url and token missing"):
        await LiveKitTransport(LiveKitTransportOptions()).prepare(
            SessionContext("test", SessionRequest()), LiveKitSessionOptions()
        )


async def test_a_cancelled_join_leaves_nobody_behind(livekit_server: LiveKitServer, room_name: str) -> None:
    async with guest_in(livekit_server, room_name) as guest:
        with anyio.move_on_after(0.01):
            async with avatar_in(livekit_server, room_name):
                pass
        await guest.until(lambda: guest.seen() is None)
        async with avatar_in(livekit_server, room_name, identity="another"):
            await guest.until(lambda: guest.seen("another") is not None)
            await guest.until(lambda: guest.seen() is None)


# -- when it leaves


async def test_it_leaves_after_its_agent(livekit_server: LiveKitServer, room_name: str) -> None:
    async with guest_in(livekit_server, room_name):
        async with avatar_in(livekit_server, room_name, agent="agent", agent_grace_s=0.5) as avatar:
            async with guest_in(livekit_server, room_name, "agent", agent=True) as agent:
                await agent.until(lambda: "agent" in avatar.room.remote_participants)
                with anyio.move_on_after(1.0) as stayed:
                    await avatar.session.closed()
                assert stayed.cancelled_caught
            assert await leaving(avatar) == "its agent agent left the room"


async def test_an_agent_may_come_back_in_time(livekit_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(livekit_server, room_name, agent="agent", agent_grace_s=8.0) as avatar:
        async with guest_in(livekit_server, room_name, "agent") as agent:
            await agent.until(lambda: "agent" in avatar.room.remote_participants)
        await agent.until(lambda: "agent" not in avatar.room.remote_participants)
        async with guest_in(livekit_server, room_name, "agent") as agent:
            await agent.until(lambda: "agent" in avatar.room.remote_participants)
            assert avatar.room.isconnected()
            with anyio.move_on_after(0.5) as stayed:
                await avatar.session.closed()
            assert stayed.cancelled_caught


async def test_it_leaves_an_empty_room_but_waits_for_a_user_who_rejoins(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    async with avatar_in(livekit_server, room_name, empty_grace_s=2.0) as avatar:
        for _ in range(2):
            async with guest_in(livekit_server, room_name) as guest:
                await guest.until(lambda: "guest" in avatar.room.remote_participants)
            await guest.until(lambda: "guest" not in avatar.room.remote_participants)
        assert await leaving(avatar) == "nobody was in the room for 2 s"


async def test_it_goes_when_it_is_removed_or_the_room_deleted(livekit_server: LiveKitServer, room_name: str) -> None:
    async with api.LiveKitAPI(livekit_server.http_url, livekit_server.key, livekit_server.secret) as office:
        async with avatar_in(livekit_server, room_name) as avatar:
            await avatar.publish()
            await office.room.remove_participant(api.RoomParticipantIdentity(room=room_name, identity="avatar"))
            assert await leaving(avatar) == "it was removed from the room"
        async with avatar_in(livekit_server, room_name) as avatar:
            await avatar.publish()
            await office.room.delete_room(api.DeleteRoomRequest(room=room_name))
            assert await leaving(avatar) == "the room was deleted"


async def test_a_second_one_of_its_identity_takes_its_place(livekit_server: LiveKitServer, room_name: str) -> None:
    async with avatar_in(livekit_server, room_name) as first, avatar_in(livekit_server, room_name) as second:
        assert await leaving(first) == "another participant joined with its identity"
        assert second.room.isconnected()


# -- somebody else's room


async def test_in_a_borrowed_room_only_its_tracks_come_and_go(livekit_server: LiveKitServer, room_name: str) -> None:
    async with guest_in(livekit_server, room_name) as guest, guest_in(livekit_server, room_name, "agent") as agent:
        other = await agent.room.local_participant.publish_track(
            rtc.LocalAudioTrack.create_audio_track("voice", source := rtc.AudioSource(24_000, 1))
        )
        async with avatar_in(livekit_server, room_name, borrowed=agent.room) as avatar:
            await avatar.publish()
            await avatar.talk(5)
            await guest.until(lambda: (p := guest.seen("agent")) is not None and len(p.track_publications) == 3)
        assert agent.room.isconnected()
        await guest.until(lambda: (p := guest.seen("agent")) is not None and len(p.track_publications) == 1)
        there = guest.seen("agent")
        assert there is not None
        assert list(there.track_publications) == [other.sid]
        await source.aclose()


async def test_a_borrowed_room_that_is_lost_ends_the_session(livekit_server: LiveKitServer, room_name: str) -> None:
    async with guest_in(livekit_server, room_name, "agent") as agent:
        async with avatar_in(livekit_server, room_name, borrowed=agent.room) as avatar:
            await avatar.publish()
            await agent.room.disconnect()
            assert await leaving(avatar) == "the room was left"


# -- what is left


async def test_session_after_session_leaves_nothing_behind(livekit_server: LiveKitServer, room_name: str) -> None:
    def held() -> tuple[int, int, int]:
        gc.collect()
        return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    async with guest_in(livekit_server, room_name) as guest:
        after_third: tuple[int, int, int] | None = None
        for number in range(8):
            async with avatar_in(livekit_server, f"{room_name}-{number}", agent="nobody") as avatar:
                await avatar.publish()
                await avatar.talk(5, 0.2)
            del avatar
            if number == 2:
                await anyio.sleep(0.5)  # the SDK's own threads let go a little later
                after_third = held()
        assert after_third is not None
        first = after_third
        await guest.until(lambda: all(now <= then for now, then in zip(held(), first, strict=True)))
