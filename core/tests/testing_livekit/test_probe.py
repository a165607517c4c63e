"""The probe finds what is known to be there: a shift of sound against picture, a squeeze, a tone, a colour."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
from visavis.testing.livekit import reading
from visavis.testing.livekit.floor import floor
from visavis.testing.livekit.sender import speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import ViewerError, watching

pytestmark = pytest.mark.anyio
RATE = 24_000
SHIFT = 0.1


def shifted(pairs: int) -> np.ndarray:
    """Two channels, heard and shown: a beep a second, of which every other one is heard ``SHIFT`` after it is shown."""
    shown = reading.beeps(2 * pairs, RATE)
    on_time = reading.beeps(2 * pairs, RATE, every=2)
    late = reading.beeps(2 * pairs, RATE, every=2, first=1 + SHIFT)
    return np.stack([on_time + late, shown], axis=1)


async def test_the_probe_reads_a_known_shift_and_a_known_squeeze(livekit_server: LiveKitServer, room_name: str) -> None:
    async with (
        watching(livekit_server, room_name) as viewer,
        floor(livekit_server, room_name),
        speaking_to(livekit_server, room_name, "avatar") as sender,
    ):
        await sender.avatar_seen()
        await viewer.until("picture", of="avatar")
        said = await sender.say(shifted(5), RATE)
        finish = await said.wait_finished()
        assert (finish.position, finish.interrupted) == (10.0, False)
        assert len(sender.started) == 1
        whole = await sender.say(reading.steady(1.5, RATE, tone=600), RATE)
        await whole.wait_finished()
        await viewer.until("silence", of="avatar", after=whole.first_write)
        cut = await sender.say(reading.steady(1.4, RATE, tone=900), RATE)
        await cut.wait_finished()
        await viewer.until("silence", of="avatar", after=cut.first_write)
        seen = await viewer.stop()
    take = seen.of("avatar")
    assert said.first_write is not None
    assert whole.first_write is not None
    assert cut.first_write is not None

    read = reading.offsets(take.pictures, take.sound, stalls=seen.stalls)
    # Each against those beside it, and without what the viewer's jitter buffer held: on a busy machine it wanders by
    # more than the shift.
    sent = reading.as_sent(read, seen, "avatar").ms
    steps = np.abs(sent[1:-1] - (sent[:-2] + sent[2:]) / 2)
    print(f"offsets {np.round(read.ms, 1)}, as sent {np.round(sent, 1)}; shift read {np.median(steps):.1f} ms")
    assert np.median(steps) == pytest.approx(1000 * SHIFT, abs=15)
    assert np.median(read.ms[read.ms < np.mean(read.ms)]) < -60  # heard late is seen early: a negative offset

    one = reading.heard(take.sound, whole.first_write, cut.first_write)
    other = reading.heard(take.sound, cut.first_write, np.inf)
    assert one is not None
    assert other is not None
    print(f"heard {one.seconds:.3f} s of 1.5, {other.seconds:.3f} s of 1.4")
    assert one.seconds - other.seconds == pytest.approx(0.1, abs=0.03)
    assert reading.tone(take.sound, one.begin + 0.2, one.end - 0.2) == pytest.approx(600, abs=5)
    assert reading.tone(take.sound, other.begin + 0.2, other.end - 0.2) == pytest.approx(900, abs=5)
    assert reading.colour(take.pictures) == pytest.approx((128, 128), abs=2)

    assert set(reading.sizes(take.pictures)) == {(512, 512)}
    missing = np.diff(reading.numbers(take.pictures)) % 256
    print(f"{reading.gaps(take.pictures, stalls=seen.stalls)}; {int((missing - 1).sum())} pictures missing")
    assert len(take.pictures) > 250


async def test_a_viewer_says_what_happens_in_the_room(livekit_server: LiveKitServer, room_name: str) -> None:
    async with watching(livekit_server, room_name, decode=False) as viewer:
        with pytest.raises(ViewerError, match=r"no event 'sound of nobody': not within .* joined"):
            await viewer.until("sound", of="nobody", timeout=0.1)
        async with speaking_to(livekit_server, room_name, "avatar") as sender:
            await viewer.until("participant", of="agent")
            await sender.room.local_participant.set_attributes({"mood": "fine"})
            await viewer.until("attributes", of="agent", where=lambda event: event["changed"] == {"mood": "fine"})
            with pytest.raises(TimeoutError):
                await sender.avatar_seen(timeout=0.1)
        left = await viewer.until("left", of="agent")
        assert viewer.mark("over") >= left["t"]
        seen = await viewer.stop()
    assert seen.takes == []
    assert seen.when("left", "agent") == [left["t"]]
    assert not psutil.pid_exists(viewer.pid)


async def test_a_viewer_that_cannot_join_says_so(livekit_server: LiveKitServer, room_name: str) -> None:
    livekit_server.secret, right = "wrong" * 8, livekit_server.secret
    try:
        with pytest.raises(ViewerError, match="could not join the room at ws"):
            async with watching(livekit_server, room_name):
                pass
    finally:
        livekit_server.secret = right
