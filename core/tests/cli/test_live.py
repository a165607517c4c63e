"""``visavis run`` with a session in real time: a signal ends it by plan, a failure with its reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Install = Callable[[str, str], None]

CODE = """
import os, signal
import anyio
from visavis.component import NoOptions
from visavis.errors import TransportError
from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat
from visavis.plugins import AudioSourcePlugin, RendererPlugin, TransportPlugin
from visavis.testing.fakes import FakeRenderer, RecorderTransport

TOLD = []

class Cuts(AudioSource):
    async def run(self, speech):
        await anyio.sleep(0.3)
        if os.environ.get("LIVE_FAILS"):
            raise TransportError("the room is gone", hint="look for it")
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

class Rooms(RecorderTransport):
    async def prepare(self, context, options):
        made = await super().prepare(context, options)
        TOLD.append(made)
        return made

@hookimpl
def visavis_audio_sources():
    yield AudioSourcePlugin(name="cuts", summary="Cuts in.", factory=lambda config, session: Cuts())

@hookimpl
def visavis_renderers():
    yield RendererPlugin(name="grey", summary="Grey.", factory=lambda config: FakeRenderer(fps=25))

@hookimpl
def visavis_transports():
    yield TransportPlugin(
        name="rooms", summary="Rooms.", factory=lambda config: Rooms(Pacing.REALTIME, AudioFormat(16_000))
    )
"""


@pytest.fixture
def live(dist: Install, tmp_path: Path) -> Path:
    dist("visavis-live", CODE)
    file = tmp_path / "live.yaml"
    file.write_text("source: {use: cuts}\nrenderer: {use: grey}\ntransport: {use: rooms}\nsession: {avatar: mira}\n")
    return file


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise on Windows")
def test_a_signal_ends_a_live_session_by_plan(visavis: Run, live: Path) -> None:
    ran = visavis("run", live, "--json")
    assert (ran.status, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["ended"] == "stopped by its operator"
    assert said["frames"] >= 5
    room = sys.modules["visavis_live"].TOLD[-1]
    assert room.announced == [{"state": "closing", "reason": "stopped by its operator"}]
    assert room.error is None
    ran = visavis("run", live)
    assert "live, 0.00 s of speech; it ended: stopped by its operator" in ran.err


def test_a_failure_of_a_live_session_has_its_reason(visavis: Run, live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVE_FAILS", "1")
    ran = visavis("run", live)
    assert (ran.status, ran.err) == (1, "visavis: error: the room is gone\n  look for it\n")
    assert sys.modules["visavis_live"].TOLD[-1].announced == [{"state": "closing", "reason": "the room is gone"}]
