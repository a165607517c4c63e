"""The command line around the ramp: which bench is meant, what may be said, and how findings look."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from visavis.capacity import Findings, Step
from visavis.capacity.measuring import Floor
from visavis.capacity.verdict import Stage, Verdict
from visavis.cli.capacity import said, summary, table
from visavis.errors import MediaError

STEP = Step(
    sessions=1, seconds=10, frames=250, late=0, rate=25, fps=25, gap=0.05, cores=0.4, audience_cores=0.1,
    machine_cores=0.6, machine_size=2, memory=200_000_000, drawing=0.2, behind=0.001, admitted=3,
)  # fmt: skip
MORE = replace(STEP, sessions=2, frames=500, late=25, cores=0.8, memory=220_000_000, drawing=None, admitted=None)
FOUND = Findings(
    steps=[MORE, STEP], held=STEP, burst=MORE, verdict=Verdict(Stage.PROCESSOR, "with 2 sessions it was full"),
    machine=2, floor=Floor(talking=0.2, idle=0.1), idle=0.15, memory_first=150_000_000, memory_each=20_000_000,
)  # fmt: skip


def test_the_word_after_bench_says_which(visavis: Callable[..., Any]) -> None:
    frame, capacity = visavis("bench", "--help").out, visavis("bench", "capacity", "--help").out
    assert "Measure what a frame costs here" in frame
    assert "visavis bench capacity" in frame  # where else would one hear of it
    assert "--most" in capacity
    assert "--most" not in frame
    assert visavis("bench", "nothing.wav").err.startswith("visavis: error: nothing.wav does not exist")


def test_findings_as_a_table() -> None:
    rows = table(FOUND)
    assert [row[0] for row in rows] == ["sessions", "1", "2"]
    assert len({len(row) for row in rows}) == 1
    assert [row[-1] for row in rows] == ["", "<- held", ""]
    named = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert (named[1]["late %"], named[1]["a session"], named[1]["MB"]) == ("5.00", "0.400", "220")
    assert (named[0]["renderer"], named[1]["renderer"]) == ("20 %", "-")
    assert (named[0]["auto"], named[1]["auto"]) == ("3", "-")


def test_findings_in_words() -> None:
    rows = {row[0]: row[1:] for row in summary(FOUND, {"avatar": "mira", "launcher": "local"})}
    assert rows["sessions held"] == ("1", "mira, local")
    assert rows["limited by"] == ("processor", "with 2 sessions it was full")
    assert (rows["a core"][0], rows["auto"][0]) == ("2.5", "3")
    assert (rows["first session"][0], rows["each further"][0]) == ("150.0", "20.0")
    assert rows["silent"] == ("0.150", "cores a session; 0.100 the floor, which shows ready pictures")
    nothing = replace(FOUND, held=None, idle=None, memory_first=None, memory_each=None)
    rows = {row[0]: row[1:] for row in summary(nothing, {"avatar": "mira"})}
    assert rows["sessions held"][0] == "0"
    assert rows["talking"][0] == "0.400"
    assert "silent" not in rows


def test_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(np.array([[100, 300], [-100, -300]], "<i2").tobytes())
    speech = said(path)
    assert (speech.rate, speech.pcm.tolist()) == (8_000, [200, -200])
    assert len(said(None).pcm) == 20 * said(None).rate
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8_000)
        file.writeframes(b"12")
    with pytest.raises(MediaError, match="it has 8 bits a sample"):
        said(path)
    path.write_bytes(b"")
    with pytest.raises(MediaError, match="cannot be read as a WAV file"):
        said(path)
