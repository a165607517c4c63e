"""How sound is fed, against a queue that behaves as libwebrtc's: asserted on what it took, not on when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import pytest
from livekit import rtc
from numpy.typing import NDArray
from visavis.media import AudioFormat, silence
from visavis.metrics import MemoryMetrics
from visavis_transport_livekit import voice as module
from visavis_transport_livekit.voice import Voice

pytestmark = pytest.mark.anyio

RATE = 48_000
TICK = RATE // 100
SLOT = RATE // 25


class Queue:
    """libwebrtc's: takes 10 ms every 10 ms, refuses what is too much, reports once it holds no more than its size."""

    def __init__(self, rate: int, channels: int, queue_size_ms: int) -> None:
        self._size = queue_size_ms * rate // 1000
        self._channels = channels
        self.waiting = np.zeros(0, np.int16)
        self.taken: list[NDArray[np.int16]] = []
        self.most = self.dry = 0
        self._changed = asyncio.Event()
        self._busy = False
        self._ticks = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        begin, index = asyncio.get_running_loop().time(), 0
        while True:
            index += 1
            await asyncio.sleep(begin + index * 0.01 - asyncio.get_running_loop().time())
            if len(self.waiting) >= TICK * self._channels:
                self.taken.append(self.waiting[: TICK * self._channels])
                self.waiting = self.waiting[TICK * self._channels :]
            elif self.taken:
                self.dry += 1
            self._changed.set()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        samples = np.frombuffer(frame.data, np.int16)
        bound = 2 * self._size * self._channels
        assert not self._busy, "a second frame while the first one waits"
        assert len(self.waiting) + len(samples) <= bound, "failed to capture frame"
        self.waiting = np.concatenate([self.waiting, samples])
        self.most = max(self.most, len(self.waiting))
        self._busy = True
        while len(self.waiting) > self._size * self._channels:
            self._changed.clear()
            await self._changed.wait()
        self._busy = False

    def clear_queue(self) -> None:
        self.waiting = self.waiting[:0]

    async def aclose(self) -> None:
        self._ticks.cancel()

    def heard(self) -> NDArray[np.int16]:
        return np.concatenate([*self.taken, np.zeros(0, np.int16)])


@asynccontextmanager
async def speaking(
    monkeypatch: pytest.MonkeyPatch, *, channels: int = 1, lead: int = 40, metrics: MemoryMetrics | None = None
) -> AsyncIterator[tuple[Voice, Queue]]:
    monkeypatch.setattr(module.rtc, "AudioSource", Queue)
    voice = Voice(AudioFormat(RATE, channels), lead, 100, metrics or MemoryMetrics())
    voice.start()
    queue: Any = voice.source
    try:
        yield voice, queue
    finally:
        await voice.aclose()


def speech(samples: int, channels: int = 1, seed: int = 1) -> NDArray[np.int16]:
    """Samples that are all different from zero."""
    return np.random.default_rng(seed).integers(1, 30_000, (samples, channels)).astype(np.int16)


def as_float(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    return (pcm / 32768).astype(np.float32)


async def test_speech_goes_out_once_in_order_whatever_the_presenter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    said = speech(40 * SLOT)
    rng = np.random.default_rng(3)
    async with speaking(monkeypatch) as (voice, queue):
        await voice.push(silence(SLOT, 1))
        for index in range(40):
            await voice.push(as_float(said[index * SLOT : (index + 1) * SLOT]))
            await anyio.sleep(float(rng.choice([0.0, 0.0, 0.04, 0.07])))
        await voice.drain()
        heard = queue.heard()
    assert np.array_equal(heard[heard != 0], said[:, 0])


@pytest.mark.parametrize("channels", [1, 2])
async def test_slots_that_are_no_multiple_of_a_tick(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    said = speech(17 * 1600 + 5, channels)
    async with speaking(monkeypatch, channels=channels) as (voice, queue):
        for begin in range(0, len(said), 1600):  # 30 pictures a second
            await voice.push(as_float(said[begin : begin + 1600]))
        await voice.drain()
        heard = queue.heard()
    assert voice.held() == 0
    assert np.array_equal(heard[heard != 0], said.ravel())


async def test_silence_brings_the_queue_back_to_its_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(monkeypatch) as (voice, _):
        for index in range(6):  # a presenter that was late catches up at once
            await voice.push(as_float(speech(SLOT, seed=index)))
        behind = voice.held()
        begin = anyio.current_time()
        for index in range(20):
            await anyio.sleep_until(begin + index * 0.04)
            await voice.push(silence(SLOT, 1))
        assert voice.held() < behind
        assert voice.held() <= SLOT + (100 // 10 + module.SLACK) * TICK  # a frame and the longest lead


async def test_the_lead_grows_by_what_was_missing_whoever_has_looked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A presenter asks what is held right before it pushes: the gap is known by then, and counts all the same."""
    metrics = MemoryMetrics()
    async with speaking(monkeypatch, metrics=metrics) as (voice, _):
        for _ in range(3):
            await voice.push(silence(SLOT, 1))
        while voice.held():  # noqa: ASYNC110 - a queue runs dry and tells nobody
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        voice.held()
        await voice.push(silence(SLOT, 1))
        assert metrics.total("visavis_sound_gaps_total") == 1
        assert 0.07 <= voice.lead <= 0.1
        grown = voice.lead
        voice.held()
        await voice.push(silence(SLOT, 1))
        assert metrics.total("visavis_sound_gaps_total") == 1
        assert voice.lead == grown


async def test_a_flush_leaves_nothing_and_no_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(monkeypatch) as (voice, queue):
        voice.flush(0.0)  # before anything was said
        assert voice.held() == 0
        for index in range(5):
            await voice.push(as_float(speech(SLOT, seed=index)))
        await anyio.sleep(0.05)
        heard = len(queue.heard()[queue.heard() != 0])
        voice.flush(asyncio.get_running_loop().time() + 0.04)
        assert voice.held() == 0
        await anyio.sleep(0.06)
        rest = queue.heard()
        assert len(rest[rest != 0]) - heard <= 2 * TICK  # what was taken between the two looks
        assert not queue.waiting.any()
        after = speech(SLOT, seed=9)
        await voice.push(as_float(after))
        await voice.drain()
        heard_after = queue.heard()
        assert np.array_equal(heard_after[heard_after != 0][-SLOT:], after[:, 0])


async def test_louder_than_full_is_clipped_and_not_turned_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(monkeypatch) as (voice, queue):
        await voice.push(np.tile(np.array([[1.5], [-1.5]], np.float32), (SLOT // 2, 1)))
        await voice.drain()
        heard = queue.heard()
    assert set(np.unique(heard)) <= {-32768, 0, 32767}


async def test_it_stops_waiting_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(monkeypatch) as (voice, _):
        async with anyio.create_task_group() as tasks:

            async def much() -> None:
                for index in range(100):
                    await voice.push(as_float(speech(SLOT, seed=index)))

            tasks.start_soon(much)
            await anyio.sleep(0.05)
            await voice.aclose()
