"""A session whose process died is begun again: its successor tells the senders what its predecessor could not."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest

pytestmark = pytest.mark.anyio


def sound(seconds: float, rate: int = 16_000) -> bytes:
    """A loud tone, int16."""
    return (
        (20_000 * np.sign(np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate)) / rate + 0.1)))
        .astype("<i2")
        .tobytes()
    )


def finish(position: float, interrupted: bool = False) -> dict[str, Any]:
    return {"playback_position": pytest.approx(position, abs=1e-6), "interrupted": interrupted}


async def test_a_successor_tells_how_the_utterances_of_its_predecessor_ended(make_room: Any, open_scene: Any) -> None:
    before, after = make_room(), make_room()
    async with open_scene(before, identity="agent") as scene:
        agent = before.join("agent")
        notes = scene.session.context.notes["datastream"]
        told: list[Any] = []
        scene.session.context.on_note = lambda: told.append(notes())
        for _ in range(2):
            stream = agent.stream()
            stream.write(sound(2.0))
            stream.end()
        await anyio.sleep(1.0)
        left = notes()
        assert [len(each["agent"]) for each in told] == [1, 2]  # told at once, not with the next beat
    ((position, cut), unheard) = left["agent"]
    assert 0.5 < position < 1.0
    assert (cut, unheard) == (True, [0.0, True])
    agent, other = after.join("agent"), after.join("other")
    async with open_scene(after, identity="agent", inherited={"datastream": left}):
        await anyio.sleep(0.5)
        assert agent.told == [("finished", finish(position, True)), ("finished", finish(0.0, True))]
        stream = agent.stream()
        stream.write(sound(0.5))
        stream.end()
        await anyio.sleep(2)
        assert agent.finishes[2:] == [finish(0.5)]
        assert other.told == []
