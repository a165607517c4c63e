"""The data stream source does what every source must."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
from livekit import rtc
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.source import AudioSource
from visavis.testing import PackagingCase, PackagingKit, SourceCase, SourceKit
from visavis_source_datastream import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.source import DataStreamSource

SOUND = np.random.default_rng(1).integers(-20_000, 20_000, (20_000, 2), np.int16)


class TestStreams(SourceKit):
    """Two streams of a participant, one after the other, in chunks that end within a sample."""

    @pytest.fixture
    def source(self, make_room: Any) -> SourceCase:
        rooms: list[Any] = []  # of the sources in the order of their making
        made: list[AudioSource] = []

        def make(taken: bool = False) -> AudioSource:
            rooms.append(make_room())
            if taken:
                rooms[-1].register_byte_stream_handler("lk.audio_stream", print)
            made.append(DataStreamSource(DataStreamOptions(), DataStreamSessionOptions()))
            return made[-1]

        def context() -> SessionContext:
            found = SessionContext("conformance", SessionRequest())
            found.resources[rtc.Room] = rooms[-1]
            return found

        async def drive(source: AudioSource) -> None:
            room = rooms[made.index(source)]
            room.emit("local_track_subscribed", SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO))
            sender = room.join("agent")
            for part in (SOUND[:15_000], SOUND[15_000:]):
                stream, data = sender.stream(16_000, 2), part.tobytes()
                for at in range(0, len(data), 4_801):
                    stream.write(data[at : at + 4_801])
                    await anyio.sleep(0.001)
                stream.end()

        says = SOUND.astype(np.float32) / 32_768
        return SourceCase(
            make=make,
            context=context,
            drive=drive,
            ends=False,
            says=says,
            wrong=lambda: make(taken=True),
            patience=1.0,
        )


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-source-datastream")
