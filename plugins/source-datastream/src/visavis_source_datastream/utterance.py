"""One byte stream on its way to the speech floor: from its header to its one ``lk.playback_finished``."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, Protocol

import anyio
import numpy as np
from numpy.typing import NDArray
from visavis.interfaces.session import SpeechStream
from visavis.media import AudioFormat

from visavis_source_datastream.wire import BYTES_PER_SAMPLE, Code, Refusal

log = logging.getLogger("visavis.source.datastream")

PIECE_SECONDS = 0.1
"""How much is handed to the pipeline at a time: what is not handed over yet can still be thrown away."""
HURRIED_QUIET, HURRIED_MOST = 0.25, 2.0
"""Once nothing more is due (a newer stream, a sender gone): what was sent before may still come in, for so long."""

Ears = NDArray[np.int16]
News = Literal["started", "refused", "finished"]
"""What a sender is told of an utterance."""


class Reader(Protocol):
    """What is used of ``livekit.rtc.ByteStreamReader``."""

    info: Any

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks as they come."""

    def close(self) -> None:
        """Take no more."""


class Purse:
    """How many bytes may wait in a session, all its utterances together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0


class Stir:
    """Wakes whoever waits for something to have changed."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def __call__(self) -> None:
        """It has changed."""
        event, self._event = self._event, anyio.Event()
        event.set()

    @property
    def next(self) -> anyio.Event:
        """Set at the next change. Take it before you look, wait for it after."""
        return self._event


class Line:
    """One sender's utterances in the order in which it opened them, and what it is told of them in that order."""

    def __init__(self, identity: str, tell: Callable[[Utterance, News], None]) -> None:
        self.identity = identity
        self.utterances: deque[Utterance] = deque()
        """Opened and not finished, the oldest first. Bounded by the source, which refuses what is beyond."""
        self.gone = False
        """Whether the sender has left the room."""
        self.tokens = 0.0
        """Streams it may open at once."""
        self.refilled = anyio.current_time()
        self.tell = tell

    def settle(self) -> None:
        """Tell what has come about since: an utterance is told of only once those before it are finished."""
        while self.utterances:
            first = self.utterances[0]
            if first.heard and not first.told_start:
                first.told_start = True
                self.tell(first, "started")
            if first.result is None:
                return
            self.utterances.popleft()
            self.tell(first, "finished")


class Utterance:
    """The bytes of one stream and what becomes of them. It finishes exactly once."""

    def __init__(self, line: Line, stream_id: str, format: AudioFormat, most: int, purse: Purse, stir: Stir) -> None:
        self.line, self.stream_id, self.format = line, stream_id, format
        self.open = True
        """Whether bytes may still come."""
        self.wanted = True
        """False once it was cleared or refused: what still comes is thrown away."""
        self.taken = False
        """Whether its turn to be spoken has come."""
        self.segment: SpeechStream | None = None
        self.result: tuple[float, bool] | None = None
        """Seconds played and whether it was interrupted, once it is over."""
        self.refusal: Refusal | None = None
        self.heard = self.told_start = False
        self.opened_at = anyio.current_time()
        self._most, self._purse, self._stir = most, purse, stir
        self._bytes = bytearray()
        self._received = 0
        self._more = Stir()
        self._receiving: anyio.CancelScope | None = None
        self._hurried: float | None = None
        self._stalled = float("inf")

    # -- bytes come in

    @property
    def ready(self) -> bool:
        """Whether there is anything to do for the one who speaks: a sample to say, or its end."""
        return not self.open or len(self._bytes) >= self._sample

    @property
    def _sample(self) -> int:
        return BYTES_PER_SAMPLE * self.format.channels

    async def receive(self, reader: Reader, stalled: float) -> None:
        """Take in chunks until the stream ends, stalls, or is of no use any more."""
        self._stalled = stalled
        try:
            with anyio.CancelScope(deadline=self._patience()) as scope:
                self._receiving = scope
                if not self.wanted:
                    return
                async for chunk in reader:
                    if not self._take_in(chunk):
                        return
                    scope.deadline = self._patience()
            if scope.cancelled_caught and self.wanted and self._hurried is None:
                self.object(Refusal(Code.STALLED, f"no byte for {stalled:g} s: the stream was ended, open another"))
        except ConnectionError as error:  # the SDK's StreamError: aborted by its sender, or the room is gone
            log.info("stream %s of %s broke off: %s", self.stream_id, self.line.identity, error)
        finally:
            self._receiving = None
            reader.close()
            self.end()

    def _patience(self) -> float:
        now = anyio.current_time()
        if self._hurried is not None:
            return min(self._hurried, now + HURRIED_QUIET)
        return now + self._stalled

    def _take_in(self, chunk: bytes) -> bool:
        """Keep a chunk; tells whether more is wanted. One too many refuses the whole stream."""
        if not self.wanted:
            return False
        was_ready = self.ready
        self._received += len(chunk)
        if self._received > self._most:
            seconds = self._most / (self._sample * self.format.rate)
            self.refuse(Refusal(Code.TOO_LONG, f"a stream may bring {seconds:g} s of sound: open another for the rest"))
            return False
        if self._purse.held + len(chunk) > self._purse.most:
            most = self._purse.most / 1_000_000
            self.refuse(Refusal(Code.TOO_MUCH_WAITS, f"more than {most:g} MB wait to be spoken: send it later"))
            return False
        self._purse.held += len(chunk)
        self._bytes += chunk
        self._more()
        if self.ready and not was_ready:
            self._stir()
        return True

    def hurry(self) -> None:
        """Nothing more is due: a newer stream was opened, or the sender has gone."""
        if self.open and self._hurried is None:
            self._hurried = anyio.current_time() + HURRIED_MOST
            if self._receiving is not None:
                self._receiving.deadline = min(self._receiving.deadline, self._patience())

    def end(self) -> None:
        """No more bytes will come."""
        if self.open:
            self.open = False
            self._more()
            self._stir()

    # -- and go out

    async def take(self) -> Ears | None:
        """The next samples, int16 interleaved; waits for some. None at the end; a last half sample is dropped."""
        while self.wanted:
            more = self._more.next
            whole = len(self._bytes) - len(self._bytes) % self._sample
            if whole:
                return self._pull(min(whole, self._sample * max(1, int(self.format.rate * PIECE_SECONDS))))
            if not self.open:
                break
            await more.wait()
        self._discard()
        return None

    def _pull(self, size: int) -> Ears:
        piece = bytes(self._bytes[:size])
        del self._bytes[:size]
        self._purse.held -= size
        return np.frombuffer(piece, "<i2").astype(np.int16, copy=False)

    def _discard(self) -> None:
        self._purse.held -= len(self._bytes)
        self._bytes = bytearray()

    # -- what becomes of it

    def outcome(self) -> tuple[float, bool]:
        """Seconds played and whether it was interrupted: as it ended, or if it were cut off now."""
        if self.result is not None:
            return self.result
        return (0.0 if self.segment is None else self.segment.played / self.format.rate), True

    def start(self) -> None:
        """Its first sample was played."""
        self.heard = True
        self.line.settle()

    def drop(self) -> None:
        """Cleared: nothing of it is wanted any more. If its segment was begun, that one's end is its own."""
        self._throw_away()
        if self.segment is None:
            self.finish(0.0, interrupted=True)

    def _throw_away(self) -> None:
        self.wanted = False
        if self._receiving is not None:
            self._receiving.cancel()
        self._discard()
        self.end()
        self._more()

    def refuse(self, refusal: Refusal) -> None:
        """It broke a rule: what was handed to the pipeline is still heard, the rest is not."""
        self.object(refusal)
        self.drop()

    def object(self, refusal: Refusal) -> None:
        """Have its sender told what was wrong with it."""
        self.refusal = refusal
        self.line.tell(self, "refused")

    def finish(self, position: float, *, interrupted: bool) -> None:
        """It is over; what still comes in is thrown away. Only the first call counts."""
        if self.result is None:
            self._throw_away()
            cut_short = self.refusal is not None and self.refusal.code is not Code.STALLED
            self.result = (position, interrupted or cut_short)
            self.line.settle()
            self._stir()
