"""Parts for worker processes: an installed plugin, as far as anybody can tell, for the time of a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PARTS = '''
"""A transport whose rooms keep nothing, a silent source, and a renderer that misbehaves when it is told to."""

import os
import time

import anyio

from visavis.component import ComponentConfig
from visavis.errors import TransportError
from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource
from visavis.interfaces.transport import Pacing
from visavis.media import AudioFormat
from visavis.plugins import AudioSourcePlugin, RendererPlugin, TransportPlugin


class RoomsOptions(ComponentConfig):
    joined: str = ""
    """A file that grows by a byte for each room that is joined."""
    notes: str = ""
    """A file that takes a line for what a session inherits."""


class RoomOptions(ComponentConfig):
    room: str = "open"


class SilenceOptions(ComponentConfig):
    pass


def rooms(config):
    from visavis.testing.fakes import Recorder, RecorderTransport

    class Room(Recorder):
        async def present(self, frame):
            await super().present(frame)
            self.frames.clear()
            self.times.clear()

    class Rooms(RecorderTransport):
        async def prepare(self, context, options):
            if options.room == "closed":
                raise TransportError("the room is closed", hint="ask for another one")
            if options.room == "slow":
                await anyio.sleep(3.0)
            if options.room == "deadly":
                os._exit(9)
            if config.joined:
                with open(config.joined, "a") as file:
                    file.write("x")
            if config.notes:
                with open(config.notes, "a") as file:
                    print(context.session_id, dict(context.inherited), file=file)
            context.notes["room"] = lambda: {"pid": os.getpid()}
            return Room(Pacing.REALTIME, AudioFormat(16_000))

    return Rooms()


def silence(config, session):
    class Silence(AudioSource):
        async def run(self, speech):
            await anyio.sleep_forever()

    return Silence()


class MoodOptions(ComponentConfig):
    mood: str = ""
    """A file: what it says is done at the next picture, once."""


def moody(config):
    from visavis.testing.fakes import FakeRenderer

    class Moody(FakeRenderer):
        def step(self, sessions, inputs):
            try:
                with open(config.mood) as file:
                    mood = file.read().strip()
                if mood:
                    os.rename(config.mood, config.mood + ".done")
            except FileNotFoundError:
                mood = ""
            if mood == "sleep":
                time.sleep(30)
            elif mood == "leak":
                self.leak = bytearray(os.urandom(1_000_000)) * 200
            return super().step(sessions, inputs)

    return Moody(fps=25)


@hookimpl
def visavis_audio_sources():
    yield AudioSourcePlugin(name="test-silence", summary="Says nothing.", config=SilenceOptions, factory=silence)


@hookimpl
def visavis_transports():
    for name, rejoins in (("test-rooms", True), ("test-halls", False)):
        yield TransportPlugin(
            name=name, summary="Rooms.", config=RoomsOptions, session=RoomOptions, rejoins=rejoins, factory=rooms
        )


@hookimpl
def visavis_renderers():
    yield RendererPlugin(name="test-moody", summary="Moody.", config=MoodOptions, factory=moody)
'''


@pytest.fixture
def parts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, of this process and of those that it starts, with a distribution in it."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "visavis_test_parts.py").write_text(PARTS, encoding="utf-8")
    info = folder / "visavis_test_parts-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: visavis-test-parts\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[visavis]\nparts = visavis_test_parts\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    return folder
