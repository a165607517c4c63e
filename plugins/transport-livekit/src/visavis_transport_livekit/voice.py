"""The sound's way out: feeds LiveKit's audio source so that it neither runs dry nor falls behind."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Final

import numpy as np
from livekit import rtc
from numpy.typing import NDArray
from visavis.media import AudioFormat, Pcm
from visavis.metrics import Metrics

from visavis_transport_livekit.reservoir import TICK, Reservoir

log = logging.getLogger("visavis.transport.livekit")

QUEUE_MS: Final = 60
"""The native queue's size. It reports when it holds no more than this, and takes twice as much at most."""
BLOCK_MS: Final = 40
"""What is put into it at a time: with the usual lead each block has to wait for a tick, and tells when that was."""
MOST_WAITING: Final = 0.3
"""Seconds of sound that may wait here; beyond it ``push`` waits. A process that was late for longer loses nothing."""
CALM: Final = 30.0
"""Seconds without a gap after which the lead shrinks by a tick again."""
TAIL: Final = 0.15
"""Seconds for which the last sound is on its way to an ear: a packet (20 ms), the line, a receiver's jitter buffer.

Who takes the track away earlier cuts off the last syllable (60 ms are usual on a good line, see ``bench/livekit``).
"""
SLACK: Final = 2
"""Ticks by which the sound in front of the encoder may differ from the lead before silence is shortened or lengthened.

Frames come every 40 ms, ticks every 10: one tick of difference is the phase between the two, no drift.
"""


class Voice:
    """One published sound. Positions count samples of the published rate, silence of its own included."""

    def __init__(self, audio: AudioFormat, lead_ms: int, most_lead_ms: int, metrics: Metrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._audio, self._metrics = audio, metrics
        self.source = rtc.AudioSource(audio.rate, audio.channels, queue_size_ms=QUEUE_MS)
        self._reservoir = Reservoir(audio.rate, QUEUE_MS, self._loop.time())
        self._least = self._lead = lead_ms // 10
        self._most = max(self._least, most_lead_ms // 10)
        self._gap_at = self._loop.time()
        self._dry = 0  # ticks that had found nothing at the last look
        self._flushed = False  # since then: the tick after that finds nothing, and no lead would have helped
        self._waiting: deque[NDArray[np.int16]] = deque()
        self._waits = 0  # samples in _waiting
        self._given = 0  # samples that were pushed by the caller
        self._end = 0  # where the last of them ends
        self._quiet_at = 0.0  # when the last speech has left
        self._block = BLOCK_MS * audio.rate // 1000
        self._change = asyncio.Event()
        self._room = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to feed the source."""
        self._feeding = self._loop.create_task(self._feed(), name="visavis-livekit-voice")

    # -- what comes in

    async def push(self, pcm: Pcm) -> float:
        """Take one frame's sound. Returns when its first sample goes to the encoder, in the loop's seconds.

        Waits while too much waits already. Silence may be shortened or lengthened, so that as much is ahead as the lead
        says; speech never is.
        """
        while self._waits > MOST_WAITING * self._audio.rate and self._alive:
            self._room.clear()
            await self._room.wait()
        now = self._loop.time()
        self._watch_gaps(now)
        self._given += len(pcm)
        samples, spoken = len(pcm), bool(pcm.any())
        ahead = self._ahead // self._reservoir.tick - self._lead  # in ticks, against the lead
        if ahead < 0 and (not spoken or not self._reservoir.entered):
            self._put(self._silence(-ahead * self._reservoir.tick))
        elif ahead >= SLACK and not spoken:
            samples = max(0, samples - ahead * self._reservoir.tick)
        begins = self._reservoir.leaves_at(self._position)
        self._put(_int16(pcm) if spoken else self._silence(samples))
        self._end = self._position
        if spoken:
            self._quiet_at = begins + len(pcm) / self._audio.rate
        return begins

    def _put(self, samples: NDArray[np.int16]) -> None:
        if len(samples):
            self._waiting.append(samples)
            self._waits += len(samples)
            self._change.set()

    def _silence(self, samples: int) -> NDArray[np.int16]:
        return np.zeros((samples, self._audio.channels), np.int16)

    @property
    def _position(self) -> int:
        return self._reservoir.entered + self._waits

    @property
    def _ahead(self) -> int:
        """Samples in front of what comes next."""
        return self._reservoir.level + self._waits

    @property
    def _alive(self) -> bool:
        return self._feeding is not None and not self._feeding.done()

    def _watch_gaps(self, now: float) -> None:
        """Lengthen the lead by what was missing of it, and shorten it again in calm."""
        self._reservoir.settle(now)
        # Whoever asks what is held settles, too: the account itself knows of every tick that found nothing.
        missing, self._dry = self._reservoir.dry - self._dry, self._reservoir.dry
        flushed, self._flushed = self._flushed, False
        if missing and not flushed:
            self._gap_at = now
            self._lead = min(self._most, self._lead + missing)
            self._metrics.count("visavis_sound_gaps_total")
        elif now - self._gap_at > CALM and self._lead > self._least:
            self._gap_at = now
            self._lead -= 1

    # -- what goes out

    async def _feed(self) -> None:
        """Put what waits into the source, in pieces that it takes; learn from when it has taken them."""
        while True:
            while not self._waits:
                self._change.clear()
                await self._change.wait()
            block = self._take(self._block)
            self._room.set()
            now = self._loop.time()
            self._reservoir.settle(now)
            expected = self._reservoir.push(len(block))
            frame = rtc.AudioFrame(block.tobytes(), self._audio.rate, self._audio.channels, len(block))
            try:
                await self.source.capture_frame(frame)
            except Exception as error:  # noqa: BLE001 - the SDK raises bare exceptions; the next piece may be taken
                log.warning("livekit took no sound: %s", error)
                self._metrics.count("visavis_sound_refused_total")
                await asyncio.sleep(TICK)
                continue
            now = self._loop.time()
            self._reservoir.reported(expected, now)

    def _take(self, most: int) -> NDArray[np.int16]:
        block = self._waiting.popleft()
        if len(block) > most:
            self._waiting.appendleft(block[most:])
            block = block[:most]
        self._waits -= len(block)
        return block

    # -- what is asked

    def held(self) -> int:
        """Samples pushed that have not gone to the encoder yet."""
        self._reservoir.settle(self._loop.time())
        return max(0, min(self._end - self._reservoir.left, self._given))

    @property
    def lead(self) -> float:
        """Seconds of sound that are kept in front of the encoder."""
        return self._lead * TICK

    def flush(self, until: float) -> None:
        """Throw away what is held. Silence takes its place until that time, so that the stream has no gap."""
        self._waiting.clear()
        self._waits = 0
        self.source.clear_queue()
        self._flushed = True
        now = self._loop.time()
        self._reservoir.clear(now)
        self._end = self._reservoir.left
        self._quiet_at = min(self._quiet_at, now)
        bridge = self._lead + min(10, max(0, math.ceil((until - now) / TICK)))
        self._put(self._silence(bridge * self._reservoir.tick))
        self._room.set()

    async def drain(self) -> None:
        """Wait until all that was pushed has been heard, as far as one can know here."""
        if not self.held() and self._loop.time() >= self._quiet_at + TAIL:
            return
        tail = math.ceil(TAIL * self._audio.rate)
        self._put(self._silence(tail - (self._ahead + tail) % self._reservoir.tick))  # whole ticks: a rest is not taken
        while self.held() and self._alive:  # noqa: ASYNC110 - the queue tells nobody when it is empty
            await asyncio.sleep(max(TICK / 2, self._reservoir.leaves_at(self._end) - self._loop.time()))
        await asyncio.sleep(min(TAIL, max(0.0, self._quiet_at + TAIL - self._loop.time())))

    async def aclose(self) -> None:
        """Stop feeding and let go of the source. May be called twice."""
        feeding, self._feeding = self._feeding, None
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        self._room.set()
        await self.source.aclose()


def _int16(pcm: Pcm) -> NDArray[np.int16]:
    """Float samples in -1..1 as 16 bit; what is louder is clipped."""
    samples: NDArray[np.int16] = np.clip(np.rint(pcm * np.float32(32768)), -32768, 32767).astype(np.int16)
    return samples
