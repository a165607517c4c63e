"""Talks beside each other: what their turns promise."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import measuring

pytestmark = pytest.mark.anyio


async def test_talks_begin_together_and_are_sent_their_speech_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SENT", 0.0)
    turns = measuring.Turns(3)
    happened: list[str] = []

    async def talk(name: str, turns_late: int) -> None:
        for _ in range(turns_late):
            await anyio.lowlevel.checkpoint()
        happened.append("ready")
        await turns.ready()
        for _ in range(2):
            async with turns.turn():
                happened.append(f"{name} is sent")
                await anyio.lowlevel.checkpoint()
                happened.append(f"{name} has it")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for late, name in enumerate(("floor", "peer", "visavis")):
                tasks.start_soon(talk, name, 3 * late)
    assert happened[:3] == ["ready"] * 3
    sent = happened[3:]
    assert len(sent) == 12
    assert sent[1::2] == [before.replace("is sent", "has it") for before in sent[::2]]
