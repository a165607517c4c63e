"""What the data stream source says, whom it listens to, and what it tells them: real pipeline, a room of our own."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest
from visavis.errors import SessionError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis_source_datastream import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.source import DataStreamSource

pytestmark = pytest.mark.anyio


def sound(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    """A loud tone, int16 interleaved."""
    t = np.arange(round(seconds * rate)) / rate
    tone = (20_000 * np.sign(np.sin(2 * np.pi * 200 * t + 0.1))).astype("<i2")
    return np.repeat(tone[:, None], channels, axis=1).tobytes()


def finish(position: float, interrupted: bool = False) -> dict[str, Any]:
    return {"playback_position": pytest.approx(position, abs=1e-6), "interrupted": interrupted}


@pytest.fixture
def room(make_room: Any) -> Any:
    return make_room()


# -- speaking


async def test_a_stream_is_said_and_its_sender_told(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(1.0))
        stream.end()
        await anyio.sleep(0.6)
        assert agent.told == [("started", "")]
        await anyio.sleep(1.4)
        assert agent.told == [("started", ""), ("finished", finish(1.0))]
        assert scene.heard() == pytest.approx(1.0, abs=0.01)


async def test_a_long_stream_that_comes_at_once_is_said_whole(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        stream = agent.stream()
        for _ in range(100):
            stream.write(sound(0.15)[:4_800])
        stream.end()
        await anyio.sleep(16.5)
        assert agent.finishes == [finish(15.0)]
        assert scene.heard() == pytest.approx(15.0, abs=0.02)


async def test_streams_of_one_sender_are_said_in_their_order(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        for seconds in (0.4, 0.0, 0.2, 0.3):
            stream = agent.stream()
            if seconds:
                stream.write(sound(seconds))
            stream.end()
        await anyio.sleep(2)
        assert agent.finishes == [finish(0.4), finish(0.0), finish(0.2), finish(0.3)]
        assert [name for name, _ in agent.told] == [
            "started", "finished", "finished", "started", "finished", "started", "finished"
        ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 481, 15_000])
async def test_chunks_may_end_within_a_sample(room: Any, open_scene: Any, size: int) -> None:
    said = sound(0.3, channels=2) + b"\x01\x02\x03"  # and a last half sample
    async with open_scene(room) as scene:
        agent = room.join("agent")
        stream = agent.stream(16_000, 2)
        for at in range(0, len(said), size):
            stream.write(said[at : at + size])
        stream.end()
        await anyio.sleep(1.2)
        assert agent.finishes == [finish(0.3)]
        assert scene.heard() == pytest.approx(0.3, abs=0.01)


ATTRIBUTES: list[tuple[dict[str, str] | None, int, int]] = [
    (None, 24_000, 1),
    ({}, 24_000, 1),
    ({"sample_rate": "16000"}, 16_000, 1),
    ({"num_channels": "2"}, 24_000, 2),
    ({"sample_rate": "", "num_channels": " "}, 24_000, 1),
    ({"sample_rate": " 44100 ", "num_channels": "2.0", "other": "x"}, 44_100, 2),
    ({"sample_rate": "4000"}, 4_000, 1),
    ({"sample_rate": "384000"}, 384_000, 1),
    ({"sample_rate": "22050", "num_channels": "6"}, 22_050, 6),
]


@pytest.mark.parametrize(("attributes", "rate", "channels"), ATTRIBUTES)
async def test_an_odd_header_is_understood(
    room: Any, open_scene: Any, attributes: dict[str, str] | None, rate: int, channels: int
) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        stream = agent.stream_with(attributes)
        stream.write(sound(0.5, rate, channels))
        stream.end()
        await anyio.sleep(1.5)
        assert agent.finishes == [finish(0.5)]
        assert scene.heard() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("rate", "channels", "words"),
    [
        ("banana", "1", "sample_rate is 'banana', not a whole number"),
        ("1000000000", "1", "a sample rate of 1000000000 Hz"),
        ("3999", "1", "a sample rate of 3999 Hz"),
        ("-16000", "1", "a sample rate of -16000 Hz"),
        ("16000.5", "1", "not a whole number"),
        ("nan", "1", "not a whole number"),
        ("1e999", "1", "not a whole number"),
        ("9" * 5_000, "1", "not a whole number"),
        ("16000", "99", "99 channels"),
        ("16000", "0", "0 channels"),
        ("16000", "\u202ex\n", "num_channels is '\\u202ex', not a whole number"),
    ],
)
async def test_an_impossible_header_is_refused_in_a_sentence(
    room: Any, open_scene: Any, rate: str, channels: str, words: str
) -> None:
    """And answered as any other: a sender that waits for the end of its segment does not wait for ever."""
    async with open_scene(room) as scene:
        agent = room.join("agent")
        stream = agent.stream(rate, channels)
        stream.write(sound(0.5))
        await anyio.sleep(0.1)
        (error,) = agent.errors
        assert words in error["error"]
        assert "\n" not in error["error"]
        assert len(error["error"]) < 200
        assert error["code"] == "BAD_FORMAT"
        assert error["details"] == {"stream_id": "s1"}
        assert agent.finishes == [finish(0.0, interrupted=True)]
        assert stream.closed
        good = agent.stream()
        good.write(sound(0.3))
        good.end()
        await anyio.sleep(1.0)
        assert agent.finishes[1:] == [finish(0.3)]
        assert scene.metrics.total("visavis_datastream_refused_total") == 1


# -- interruption


async def test_an_interrupt_ends_what_is_said_and_what_waits(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        for _ in range(3):
            stream = agent.stream()
            stream.write(sound(5.0))
            stream.end()
        await anyio.sleep(1.0)
        assert await agent.clear() == "ok"
        await anyio.sleep(0.05)
        assert [f["interrupted"] for f in agent.finishes] == [True] * 3
        assert agent.finishes[0]["playback_position"] == pytest.approx(scene.heard(), abs=0.11)
        assert agent.finishes[1:] == [finish(0.0, interrupted=True)] * 2
        again = agent.stream()
        again.write(sound(0.5))
        again.end()
        await anyio.sleep(1.5)
        assert agent.finishes[3:] == [finish(0.5)]
        assert agent.starts == 2


async def test_what_still_comes_on_a_cleared_stream_is_thrown_away(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        old = agent.stream()
        old.write(sound(0.5))
        await anyio.sleep(0.3)
        await agent.clear()
        heard = scene.heard()
        old.write(sound(3.0))
        new = agent.stream()
        old.write(sound(3.0))
        new.write(sound(0.5))
        new.end()
        old.end()
        await anyio.sleep(2)
        assert [f["interrupted"] for f in agent.finishes] == [True, False]
        assert scene.heard() - heard == pytest.approx(0.5, abs=0.02)


async def test_an_interrupt_before_the_first_sample(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        agent.stream()
        await agent.clear()
        await anyio.sleep(0.05)
        assert agent.told == [("finished", finish(0.0, interrupted=True))]


async def test_an_interrupt_at_once_after_the_first_chunk(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(2.0))
        await agent.clear()
        await anyio.sleep(0.1)
        assert [f["interrupted"] for f in agent.finishes] == [True]


async def test_two_interrupts_at_once(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(2.0))
        await anyio.sleep(0.5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.clear)
            tasks.start_soon(agent.clear)
        await anyio.sleep(0.5)
        assert len(agent.finishes) == 1
        await agent.clear()  # nothing to stop: nothing to tell
        await anyio.sleep(0.5)
        assert len(agent.finishes) == 1


async def test_an_interrupt_of_the_session_stops_what_waits_in_the_room_too(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        agent = room.join("agent")
        for _ in range(2):
            agent.stream().write(sound(2.0))
        await anyio.sleep(0.7)
        await scene.session.interrupt()
        await anyio.sleep(0.1)
        assert [f["interrupted"] for f in agent.finishes] == [True, True]


async def test_the_end_of_the_session_is_told(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        for _ in range(2):
            stream = agent.stream()
            stream.write(sound(3.0))
            stream.end()
        await anyio.sleep(1.0)
    assert [f["interrupted"] for f in agent.finishes] == [True, True]
    assert 0.7 < agent.finishes[0]["playback_position"] < 1.0


# -- streams that break off


async def test_a_newer_stream_ends_an_open_one(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        lost = agent.stream()
        lost.write(sound(0.5))
        await anyio.sleep(1.0)
        new = agent.stream()
        new.write(sound(0.4))
        new.end()
        lost.write(b"")
        await anyio.sleep(2.0)
        assert agent.finishes == [finish(0.5), finish(0.4)]


async def test_an_open_stream_without_bytes_is_ended(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(stalled_s=2.0)) as scene:
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(0.5))
        await anyio.sleep(2.2)
        assert agent.finishes == [finish(0.5)]
        assert [e["code"] for e in agent.errors] == ["STALLED"]
        stream.write(sound(1.0))
        await anyio.sleep(1.5)
        assert len(agent.finishes) == 1
        assert scene.heard() == pytest.approx(0.5, abs=0.02)


async def test_a_stream_that_is_broken_off_is_said_as_far_as_it_goes(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(0.5))
        stream.abort()
        await anyio.sleep(1.2)
        assert agent.finishes == [finish(0.5)]


async def test_a_sender_that_leaves_in_mid_stream_is_heard_as_far_as_it_came(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        guest = room.join("guest")
        stream = guest.stream()
        stream.write(sound(1.0))
        await anyio.sleep(0.3)
        guest.leave()
        stream.write(sound(0.2))  # was on its way
        await anyio.sleep(2)
        assert scene.heard() == pytest.approx(1.2, abs=0.02)
        other = room.join("other")
        stream = other.stream()
        stream.write(sound(0.3))
        stream.end()
        await anyio.sleep(1)
        assert other.finishes == [finish(0.3)]


async def test_one_that_comes_back_hears_of_its_end(room: Any, open_scene: Any) -> None:
    """Its connection was replaced in mid-sentence: whoever waits for the end would wait for ever."""
    async with open_scene(room):
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(1.0))
        stream.end()
        await anyio.sleep(0.5)
        agent.leave()
        await anyio.sleep(3)
        agent.come()
        await anyio.sleep(0.1)
        assert agent.finishes == [finish(1.0)]


async def test_events_wait_while_the_room_reconnects(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        agent = room.join("agent")
        stream = agent.stream()
        stream.write(sound(0.3))
        stream.end()
        await anyio.sleep(0.1)
        room.connect(False)
        await anyio.sleep(3)
        assert agent.finishes == []
        room.connect(True)
        await anyio.sleep(0.1)
        assert agent.finishes == [finish(0.3)]


# -- telling


async def test_one_that_has_no_such_methods_is_heard_all_the_same(room: Any, open_scene: Any) -> None:
    async with open_scene(room) as scene:
        guest = room.join("guest", deaf=True)
        for _ in range(3):
            stream = guest.stream()
            stream.write(sound(0.3))
            stream.end()
        await anyio.sleep(2)
        assert scene.heard() == pytest.approx(0.9, abs=0.02)


async def test_a_slow_answer_holds_back_neither_its_owner_nor_others(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        slow, agent = room.join("slow", answers=lambda method: 4.0), room.join("agent")
        for them in (slow, agent):
            stream = them.stream()
            stream.write(sound(0.3))
            stream.end()
        await anyio.sleep(1.2)
        assert [name for name, _ in slow.told] == ["started", "finished"]
        assert [name for name, _ in agent.told] == ["started", "finished"]


async def test_events_for_one_who_is_gone_hold_nobody_back(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        gone, agent = room.join("gone"), room.join("agent")
        stream = gone.stream()
        stream.write(sound(1.0))
        await anyio.sleep(0.3)
        gone.leave()
        await gone.clear()
        stream = agent.stream()
        stream.write(sound(0.2))
        stream.end()
        await anyio.sleep(1.0)
        assert agent.finishes == [finish(0.2)]
        assert gone.finishes == []


# -- who may speak


@pytest.mark.parametrize("by", ["option", "attribute"])
async def test_it_speaks_for_the_one_it_serves(room: Any, open_scene: Any, by: str) -> None:
    if by == "attribute":
        room.local_participant.attributes["lk.publish_on_behalf"] = "agent"
    async with open_scene(room, identity="agent" if by == "option" else None) as scene:
        agent, guest = room.join("agent"), room.join("guest")
        stream = guest.stream()
        stream.write(sound(1.0))
        stream = agent.stream()
        stream.write(sound(1.0))
        stream.end()
        await anyio.sleep(0.5)
        for method in ("lk.clear_buffer", "user_state_changed"):
            with pytest.raises(Exception, match="serves another participant"):
                await guest.call(method)
        await anyio.sleep(1.5)
        assert agent.finishes == [finish(1.0)]
        assert [e["code"] for e in guest.errors] == ["NOT_SERVED"]
        assert guest.finishes == []
        assert scene.heard() == pytest.approx(1.0, abs=0.02)


async def test_the_one_it_serves_tells_how_the_conversation_goes(room: Any, open_scene: Any) -> None:
    async with open_scene(room, identity="agent") as scene:
        agent = room.join("agent")
        before = scene.session.context.last_sign
        assert await agent.call("user_state_changed", "speaking") == "ok"
        assert await agent.call("agent_state_changed", "thinking") == "ok"
        assert scene.session.context.last_sign > before


async def say(them: Any, seconds: float) -> None:
    stream = them.stream()
    stream.write(sound(seconds))
    stream.end()


async def test_queue_lets_one_wait_for_the_other(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(policy="queue")) as scene:
        one, other = room.join("one"), room.join("other")
        await say(one, 1.0)
        await say(other, 0.5)
        await say(one, 0.25)
        await anyio.sleep(0.5)
        assert other.told == []
        await anyio.sleep(2.5)
        assert one.finishes == [finish(1.0), finish(0.25)]
        assert other.finishes == [finish(0.5)]
        assert scene.heard() == pytest.approx(1.75, abs=0.02)


async def test_a_stream_that_says_nothing_lets_others_by(room: Any, open_scene: Any) -> None:
    async with open_scene(room):
        silent, other = room.join("silent"), room.join("other")
        silent.stream()
        await say(other, 0.5)
        await anyio.sleep(1.5)
        assert other.finishes == [finish(0.5)]


async def test_replace_gives_the_floor_to_the_latest(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(policy="replace")):
        one, other = room.join("one"), room.join("other")
        await say(one, 2.0)
        await say(one, 2.0)
        await anyio.sleep(0.5)
        await say(other, 0.5)
        await anyio.sleep(1.5)
        assert [f["interrupted"] for f in one.finishes] == [True, True]
        assert other.finishes == [finish(0.5)]


async def test_refuse_keeps_the_floor_for_the_first(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(policy="refuse")):
        one, other = room.join("one"), room.join("other")
        await say(one, 1.0)
        await anyio.sleep(0.5)
        await say(other, 0.5)
        await anyio.sleep(1.5)
        assert one.finishes == [finish(1.0)]
        assert [e["code"] for e in other.errors] == ["FLOOR_TAKEN"]
        assert other.finishes == [finish(0.0, interrupted=True)]
        await say(other, 0.5)
        await anyio.sleep(1.5)
        assert other.finishes[1:] == [finish(0.5)]


@pytest.mark.parametrize("speaker", ["one", "other"])
async def test_in_an_open_room_nobody_stops_others(room: Any, open_scene: Any, speaker: str) -> None:
    async with open_scene(room):
        both = {"one": room.join("one"), "other": room.join("other")}
        await say(both["one"], 1.0)
        await say(both["other"], 0.5)
        await anyio.sleep(0.5)
        await both[speaker].clear()
        await anyio.sleep(2)
        assert [f["interrupted"] for f in both["one"].finishes] == [speaker == "one"]
        assert [f["interrupted"] for f in both["other"].finishes] == [speaker == "other"]


# -- limits


async def test_a_stream_that_brings_too_much_is_cut_off(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(max_segment_s=2.0)) as scene:
        agent = room.join("agent")
        endless = agent.stream()
        for _ in range(10):
            endless.write(sound(0.1))
        await anyio.sleep(0.3)
        for _ in range(1_000):
            endless.write(sound(0.1))
        await anyio.sleep(1.5)
        assert [e["code"] for e in agent.errors] == ["TOO_LONG"]
        (end,) = agent.finishes
        assert end["interrupted"]
        assert end["playback_position"] == pytest.approx(scene.heard(), abs=0.01)
        assert scene.heard() < 1.5
        await say(agent, 0.5)
        await anyio.sleep(1.2)
        assert agent.finishes[1:] == [finish(0.5)]


async def test_a_stream_that_announces_too_much_is_refused_at_once(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(max_segment_s=2.0)):
        agent = room.join("agent")
        agent.stream(size=64_001)
        agent.stream(size=64_000)
        await anyio.sleep(0.1)
        assert [e["code"] for e in agent.errors] == ["TOO_LONG"]


async def test_what_waits_is_bounded_for_all_streams_together(room: Any, open_scene: Any) -> None:
    async with open_scene(room, DataStreamOptions(max_buffered_mb=0.1)):
        agent = room.join("agent")
        for _ in range(4):
            await say(agent, 1.0)  # 32 kB each
        await anyio.sleep(0.2)
        assert [e["code"] for e in agent.errors] == ["TOO_MUCH_WAITS"]
        await anyio.sleep(4)
        assert sorted(f["playback_position"] for f in agent.finishes) == pytest.approx([0, 1, 1, 1])
        assert sum(f["interrupted"] for f in agent.finishes) == 1
        await say(agent, 1.0)
        await anyio.sleep(1.5)
        assert agent.finishes[4:] == [finish(1.0)]


async def test_streams_are_counted(room: Any, open_scene: Any) -> None:
    options = DataStreamOptions(max_streams=3, max_streams_total=5, max_streams_per_second=1.0)
    async with open_scene(room, options):
        one, other = room.join("one"), room.join("other")
        for them in (one, other):
            for _ in range(4):
                await say(them, 0.1)
        await anyio.sleep(3)
        assert len(one.finishes) == 3
        assert len(other.finishes) == 2
        assert [e["code"] for e in one.errors + other.errors] == ["TOO_MANY_STREAMS"] * 3


async def test_a_flood_of_refused_streams_makes_no_flood_of_messages(room: Any, open_scene: Any) -> None:
    async with open_scene(room, identity="agent"):
        guest, agent = room.join("guest"), room.join("agent")
        for _ in range(900):
            guest.stream().write(sound(0.1))
        await say(agent, 0.2)
        await anyio.sleep(2)
        assert 0 < len(guest.errors) < 50
        assert agent.finishes == [finish(0.2)]


# -- its place


async def test_it_needs_a_room() -> None:
    source = DataStreamSource(DataStreamOptions(), DataStreamSessionOptions())
    with pytest.raises(SessionError, match="needs a LiveKit room"):
        await source.prepare(SessionContext("s", SessionRequest()))
    await source.aclose()


async def test_a_room_has_one(room: Any) -> None:
    room.register_byte_stream_handler("lk.audio_stream", print)
    context = SessionContext("s", SessionRequest())
    context.resources[type(room)] = room
    from livekit import rtc

    context.resources[rtc.Room] = room
    source = DataStreamSource(DataStreamOptions(), DataStreamSessionOptions())
    with pytest.raises(SessionError, match="somebody listens"):
        await source.prepare(context)
    await source.aclose()
    assert room.handlers == {"lk.audio_stream": print}
