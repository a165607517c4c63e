"""A session of another process, as its launcher hands it out; it outlives the process if it can be begun again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import anyio
import numpy as np
from numpy.typing import NDArray

from visavis.errors import SessionError
from visavis.interfaces.session import (
    PlaybackFinished,
    SessionHandle,
    SessionLimits,
    SessionRequest,
    SessionStats,
    SpeechStream,
)
from visavis.media import AudioFormat, as_pcm
from visavis.remote.calls import Calls
from visavis.remote.telling import finish_of, stats_of

PIECE_BYTES: Final = 64 * 1024
"""A long write goes in pieces of this size, each of which waits until the one before was taken."""


MOST_EARLY: Final = 64
"""Segments of which news may come before whoever opened them has been told their ids."""


class Place(Protocol):
    """Where a session runs."""

    @property
    def calls(self) -> Calls:
        """Its calls."""


class RemoteSpeech:
    """One segment that is said in another process. Implements ``visavis.interfaces.session.SpeechStream``."""

    def __init__(self, id: str, session_id: str, format: AudioFormat, calls: Calls) -> None:
        self._id, self._session_id, self._format, self._calls = id, session_id, format, calls
        self._started, self._done = anyio.Event(), anyio.Event()
        self._result: PlaybackFinished | None = None
        self._heard = False
        self._played = 0

    @property
    def id(self) -> str:
        """Unique in its session."""
        return self._id

    @property
    def played(self) -> int:
        """Samples that were played when its worker last told of it."""
        return self._played if self._result is None else self._result.samples

    def play(self, samples: int) -> None:
        """So many were played."""
        self._played = max(self._played, samples)

    async def write(self, pcm: NDArray[np.generic]) -> None:
        """Add sound; see SpeechStream.write. Of a segment whose worker is gone it is discarded: that was cut off."""
        samples = as_pcm(np.asarray(pcm), self._format.channels).astype("<f4", copy=False)
        step = max(1, PIECE_BYTES // (4 * self._format.channels))
        for at in range(0, len(samples), step):
            if self._result is not None:
                return
            piece = np.ascontiguousarray(samples[at : at + step]).tobytes()
            await self._call("write", piece, channels=self._format.channels)

    async def end(self) -> None:
        """No more sound will come."""
        if self._result is None:
            await self._call("end")

    async def _call(self, method: str, payload: bytes = b"", **arguments: Any) -> None:
        try:
            await self._calls.call(method, payload=payload, session=self._session_id, stream=self._id, **arguments)
        except SessionError:
            if self._result is None:  # the worker's end finishes it: who writes has done nothing wrong
                await self._done.wait()

    def heard(self) -> None:
        """Its first sample was played."""
        self._heard = True
        self._started.set()

    def finish(self, result: PlaybackFinished | None = None) -> None:
        """It ends here; without a result it was cut off where it was last heard of. Only the first call counts."""
        if self._result is None:
            self._result = result or PlaybackFinished(self._id, self.played, self._format.rate, True)
            self._heard = self._heard or (result is None and self.played > 0)
            self._started.set()
            self._done.set()

    async def wait_started(self) -> bool:
        """Wait until its first sample has been played; False if it ended unheard."""
        await self._started.wait()
        return self._heard

    async def wait_finished(self) -> PlaybackFinished:
        """Wait for its end."""
        await self._done.wait()
        assert self._result is not None
        return self._result


class RemoteSession(SessionHandle):
    """Reached by messages. ``place`` is where it runs; None while it is being begun again somewhere else."""

    def __init__(self, id: str, request: SessionRequest, spawn: Callable[..., None]) -> None:
        self._id, self.request = id, request
        self.began = anyio.current_time()
        self.place: Place | None = None
        self.notes: Mapping[str, Any] = {}
        """What its parts would leave to a successor, as last told."""
        self.deaths: list[float] = []
        """When it was lost, in the loop's seconds."""
        self._spawn = spawn
        self._limits = request.limits
        self._stats = SessionStats(state="running", avatar=request.avatar)
        self._earlier = SessionStats()
        self._streams: dict[str, RemoteSpeech] = {}
        self._early: dict[str, list[Mapping[str, Any] | None]] = {}
        self._moved = anyio.Event()
        self._ended = anyio.Event()
        self._closing: tuple[str, bool] | None = None
        self._error: Exception | None = None

    # -- SessionHandle

    @property
    def id(self) -> str:
        """The session's id."""
        return self._id

    @property
    def limits(self) -> SessionLimits:
        """The limits that apply to it."""
        return self._limits

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    @property
    def closed_meanwhile(self) -> bool:
        """Whether it was ended by its caller while it was being begun again: what has begun must not go on."""
        return self.over and self.place is None

    @property
    def closing(self) -> bool:
        """Whether somebody wants it to end."""
        return self._closing is not None

    async def stats(self) -> SessionStats:
        """Figures so far; while it is being begun again, those of before."""
        place = self.place
        if not self.over and place is not None:
            try:
                self._stats = self._added(stats_of(await place.calls.call("stats", session=self._id)))
            except SessionError:
                if self.place is place:  # it may just have ended: its last figures are on their way
                    with anyio.move_on_after(1.0):
                        await self._ended.wait()
        return replace(self._stats)

    async def interrupt(self) -> None:
        """Stop what is said and what waits. Of a session that is being begun again nothing is said."""
        self._check_running()
        if self.place is not None:
            await self.place.calls.call("interrupt", session=self._id)

    async def speak(self, rate: int, channels: int = 1) -> SpeechStream:
        """Open a segment; waits while the session is being begun again. Raises SessionError, FloorRefused."""
        wanted = AudioFormat(rate, channels)
        calls = await self._placed()

        def late(stream: str) -> None:
            self._spawn(self._forget, calls, stream)

        stream = await calls.call("speak", late=late, session=self._id, rate=rate, channels=channels)
        made = RemoteSpeech(str(stream), self._id, wanted, calls)
        if self.place is None or self.place.calls is not calls:
            made.finish()
        else:
            self._streams[made.id] = made
            for how in self._early.pop(made.id, ()):
                self.tell(made.id, how=how)
        return made

    async def _forget(self, calls: Calls, stream: str) -> None:
        try:
            await calls.call("end", session=self._id, stream=stream)
        except SessionError:
            return  # it is gone with its worker

    async def swap(self, avatar: str) -> None:
        """Show another avatar; also after it was begun again. Raises AvatarError, RendererError, SessionError."""
        calls = await self._placed()
        await calls.call("swap", session=self._id, avatar=avatar)
        self.request = self.request.model_copy(update={"avatar": avatar})

    async def close(self, reason: str = "closed", *, finish: bool = False) -> None:
        """End the session, at once or (``finish``) after what is being said. May be called twice."""
        if self.over:
            return
        if self._closing is None:
            self._closing = reason, finish
        if self.place is None:
            self.end(None)
            return
        try:
            await self.place.calls.call("close", session=self._id, reason=reason, finish=finish)
        except SessionError:
            return  # the worker is gone: it is not begun again

    async def wait(self) -> None:
        """Wait for its end; raises its error if it failed."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    def _check_running(self) -> None:
        if self.over:
            raise SessionError(f"session {self._id} is closed")

    async def _placed(self) -> Calls:
        while True:
            self._check_running()
            if self.place is not None:
                return self.place.calls
            await self._moved.wait()

    # -- what its launcher does

    def settle(self, place: Place, limits: SessionLimits) -> None:
        """It runs there now."""
        self.place, self._limits = place, limits
        self._move()
        if self._closing is not None:
            reason, finish = self._closing
            self._spawn(self._close_late, reason, finish)

    async def _close_late(self, reason: str, finish: bool) -> None:
        await self.close(reason, finish=finish)

    def lose(self) -> None:
        """Its worker is gone: what was being said is cut off where it was last heard of."""
        self.deaths.append(anyio.current_time())
        self.leave()

    def leave(self) -> None:
        """It runs nowhere now, until it is begun again."""
        self.place = None
        self._earlier = replace(self._stats)
        self._cut_off()
        self._move()

    def end(self, stats: SessionStats | None, error: Exception | None = None) -> None:
        """It is over. Only the first call counts."""
        if self.over:
            return
        if stats is not None:
            self._stats = self._added(stats)
        wanted = self._closing[0] if self._closing is not None else ""
        reason = self._stats.reason or wanted or (getattr(error, "message", "") if error is not None else "closed")
        self._stats = replace(self._stats, state="closed", reason=reason)
        self._error = error
        self._cut_off()
        self._ended.set()
        self._move()

    def tell(self, stream: str, *, played: int | None = None, how: Mapping[str, Any] | None = None) -> None:
        """News of a segment: how much was played, or how it ended; without both, that it is heard."""
        segment = self._streams.get(stream)
        if segment is None:  # it has not been handed out yet, or was never wanted
            if played is None and len(self._early) < MOST_EARLY:
                self._early.setdefault(stream, []).append(how)
            return
        if played is not None:
            segment.play(played)
        elif how is not None:
            segment.finish(finish_of(dict(how)))
            del self._streams[stream]
        else:
            segment.heard()

    def again(self) -> SessionRequest:
        """The request by which it is begun again: with what is left of its time."""
        most = self.request.limits.max_duration_s
        if most is None:
            return self.request
        left = max(1.0, most - (anyio.current_time() - self.began))
        limits = self.request.limits.model_copy(update={"max_duration_s": left})
        return self.request.model_copy(update={"limits": limits})

    def _cut_off(self) -> None:
        for stream in self._streams.values():
            stream.finish()
        self._streams.clear()

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def _added(self, stats: SessionStats) -> SessionStats:
        """Figures of now with those of before it was begun again."""
        before = self._earlier
        summed = ("frames", "idle_frames", "late_frames", "dropped_frames", "underruns", "segments", "spoken", "shown")
        return replace(
            stats,
            first_frame=before.first_frame if before.first_frame is not None else stats.first_frame,
            **{name: getattr(before, name) + getattr(stats, name) for name in summed},
        )
