"""The agent's audio output while it has an avatar: to the avatar while there is one, else to the agent's own track.

The agent sees one output that is never exchanged, so transcripts, recordings and interruptions go on through every
change. Behind it one task talks to the sinks (a stream to an avatar server, a session in this process, a track), in
order, and every segment gets exactly one ``playback_finished``, whatever becomes of the sink that was playing it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
from livekit import rtc
from livekit.agents.voice.io import (
    AudioOutput,
    AudioOutputCapabilities,
    PlaybackFinishedEvent,
    PlaybackProgressedEvent,
    PlaybackStartedEvent,
)

from visavis_source_agentsession.utterance import Utterance

log = logging.getLogger("livekit.plugins.visavis")

AHEAD_SECONDS = 60.0
"""How much is taken from the agent before it is delivered."""
OVERDUE_SECONDS = 10.0
"""How long after its time the end of an utterance may be reported."""
CHECK_SECONDS = 1.0
SLACK_SECONDS = 0.25
"""How far a report of what was heard may exceed the time since it began to be heard: clocks and messages differ."""


class Route(AudioOutput):  # type: ignore[misc]
    """An AudioOutput that leads to whatever sink speaks for the agent now.

    It starts without one: what is said waits until ``lead_to``. ``run`` must be running.
    """

    def __init__(self, *, sample_rate: int | None) -> None:
        super().__init__(label="visavis", capabilities=AudioOutputCapabilities(pause=True), sample_rate=sample_rate)
        self._wanted = sample_rate
        self.on_broken: Callable[[AudioOutput, Exception], bool] | None = None
        """Told when a sink raised. True: another one will come, and what is said waits for ``lead_to`` and ``lose``."""
        self._sink: AudioOutput | None = None
        self._decided = False
        self._utterances: deque[Utterance] = deque()
        self._open: Utterance | None = None
        self._change = anyio.Event()
        self._delivery: anyio.CancelScope | None = None
        self._lost: set[AudioOutput] = set()
        self._ears: dict[AudioOutput, dict[Any, Callable[..., None]]] = {}
        self._resamplers: dict[Utterance, rtc.AudioResampler] = {}

    # -- what the keeper of the route does

    @property
    def sink(self) -> AudioOutput | None:
        """Where it leads now."""
        return self._sink

    def lead_to(self, sink: AudioOutput | None) -> None:
        """From the next utterance on speech goes to ``sink``; None is silence: utterances finish unheard."""
        self._sink, self._decided = sink, True
        if sink is not None:
            self._listen(sink)
        self._changed()

    def lose(self, sink: AudioOutput, *, heard_until: float) -> None:
        """``sink`` is gone; it was last alive at ``heard_until`` (the event loop's clock).

        What it was saying then goes on by the sink of the day, from where it was; without one it is finished.
        """
        if self._sink is sink:
            self.hold()
        for event, ear in self._ears.pop(sink, {}).items():
            sink.off(event, ear)
        for utterance in self._utterances:
            if utterance.sink is sink and utterance.result is None:
                self._take_back(utterance, heard_until)
        self._lost.discard(sink)
        self._interrupt_delivery()
        self._settle()
        self._changed()

    def hold(self) -> None:
        """Speech waits until the next ``lead_to``."""
        self._sink, self._decided = None, False

    async def spoken_to(self) -> None:
        """Wait until the agent says something, or return at once while it does."""
        await self._until(lambda: bool(self._utterances))

    async def done_with(self, sink: AudioOutput) -> None:
        """Wait until no segment is with ``sink`` any more."""
        await self._until(lambda: all(u.sink is not sink for u in self._utterances))

    async def run(self) -> None:
        """Deliver what the agent says, until cancelled."""
        while True:
            change = self._change
            if not await self._step():
                with anyio.move_on_after(CHECK_SECONDS if self._utterances else math.inf):
                    await change.wait()
                self._finish_overdue()

    def _finish_overdue(self) -> None:
        """A report that never comes must not keep the agent waiting for ever."""
        now = anyio.current_time()
        for utterance in self._utterances:
            if utterance.result is None and utterance.due is not None and now > utterance.due + OVERDUE_SECONDS:
                log.warning("nobody reported the end of an utterance of %.1f s", utterance.said)
                utterance.result = (utterance.heard(now), utterance.cut or utterance.started_at is None)
        self._settle()

    def finish_all(self) -> None:
        """Nothing will be played any more: finish what was begun."""
        now = anyio.current_time()
        for utterance in self._utterances:
            utterance.result = utterance.result or (utterance.heard(now), True)
        self._settle()

    def _take_back(self, utterance: Utterance, heard_until: float) -> None:
        position = utterance.heard(heard_until)
        if utterance.cut or (self._decided and self._sink is None):
            utterance.result = (position, True)
            return
        self._resamplers.pop(utterance, None)
        utterance.rewind(position)
        log.info("an utterance goes on by another way, from %.2f s of it", utterance.before)

    # -- what the agent calls

    @property
    def sample_rate(self) -> int | None:
        """What the sink of the day wants, else what the avatar will."""
        wanted: int | None = self._sink.sample_rate if self._sink is not None else None
        return wanted or self._wanted

    @property
    def can_pause(self) -> bool:
        """Whether the sink of the day can pause: a track can, an avatar cannot."""
        return self._sink is not None and self._sink.can_pause

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Say ``frame``. Waits only when the agent is very far ahead.

        The end of a sentence is taken before its beginning is heard: transcripts are paced by how long it is.
        """
        await super().capture_frame(frame)
        if self._open is None:
            self._open = Utterance()
            self._utterances.append(self._open)
        utterance = self._open
        utterance.add(frame)
        self._changed()
        await self._until(lambda: utterance.cut or utterance.result is not None or utterance.ahead <= AHEAD_SECONDS)

    def flush(self) -> None:
        """The segment is complete."""
        super().flush()
        utterance, self._open = self._open, None
        if utterance is not None:
            utterance.flushed = True
            self._changed()

    def clear_buffer(self) -> None:
        """Stop at once: everything that was begun is finished as interrupted."""
        for utterance in self._utterances:
            utterance.cut = True
        self._interrupt_delivery()
        self._changed()

    def pause(self) -> None:
        """Pause, where the sink can."""
        if self.can_pause and self._sink is not None:
            self._sink.pause()

    def resume(self) -> None:
        """Go on, where the sink can."""
        if self.can_pause and self._sink is not None:
            self._sink.resume()

    # -- delivery, one step at a time and in one task: sinks want their calls in order

    async def _step(self) -> bool:
        """Tell a sink the next thing. False if there is nothing to tell."""
        if self._stop_what_is_cut():
            return True
        utterance = next((u for u in self._utterances if u.waiting and not u.cut), None)
        if utterance is None or utterance.sink in self._lost:
            return False
        if utterance.sink is None:
            if not self._decided:
                return False
            if self._sink is None:
                utterance.result = (utterance.before, True)
                self._settle()
                self._changed()
                return True
            utterance.sink = self._sink
        await self._guarded(utterance, utterance.sink)
        return True

    async def _guarded(self, utterance: Utterance, sink: AudioOutput) -> None:
        turn, taken = utterance.turn, sink.captured_playout_segments
        error: Exception | None = None
        with anyio.CancelScope() as self._delivery:
            try:
                await self._deliver(utterance, sink)
            except Exception as caught:  # noqa: BLE001 - whatever a sink fails with, the agent must go on
                error = caught
        self._delivery = None
        if utterance.turn == turn and utterance.result is None:
            utterance.begun = utterance.begun or sink.captured_playout_segments > taken
        if error is not None and not utterance.cut:
            self._broken(utterance, sink, error)

    async def _deliver(self, utterance: Utterance, sink: AudioOutput) -> None:
        if utterance.cursor < len(utterance.frames):
            turn, frame = utterance.turn, utterance.frames[utterance.cursor]
            for piece in self._resampled(utterance, sink, frame):
                await sink.capture_frame(piece)
            if utterance.turn == turn:
                utterance.advance()
        else:
            resampler = self._resamplers.pop(utterance, None)
            for piece in resampler.flush() if resampler is not None else []:
                await sink.capture_frame(piece)
            utterance.closed = True
            if not sink.can_pause:  # what may be paused has no time at which it must be over
                utterance.due = anyio.current_time() + utterance.said - utterance.before
            sink.flush()
        self._changed()

    def _resampled(self, utterance: Utterance, sink: AudioOutput, frame: rtc.AudioFrame) -> list[rtc.AudioFrame]:
        """At the sink's rate: an utterance begun for one sink may go on through another."""
        wanted = sink.sample_rate
        if wanted is None or wanted == frame.sample_rate:
            return [frame]
        if utterance not in self._resamplers:
            self._resamplers[utterance] = rtc.AudioResampler(frame.sample_rate, wanted, num_channels=frame.num_channels)
        pieces: list[rtc.AudioFrame] = self._resamplers[utterance].push(frame)
        return pieces

    def _stop_what_is_cut(self) -> bool:
        """Pass an interruption on, each sink once. False if there is none to pass on."""
        cut = [u for u in self._utterances if u.cut and not u.stopped]
        if not cut:
            return False
        sinks: dict[AudioOutput, None] = {}
        for utterance in cut:
            utterance.stopped = True
            self._resamplers.pop(utterance, None)
            if utterance.sink is None or not utterance.begun:
                utterance.result = utterance.result or (utterance.before, True)
                continue
            if not utterance.closed:
                utterance.closed = True
                utterance.sink.flush()
            sinks[utterance.sink] = None
        for sink in sinks:
            sink.clear_buffer()
        self._settle()
        return True

    def _interrupt_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.cancel()

    def _broken(self, utterance: Utterance, sink: AudioOutput, error: Exception) -> None:
        if self.on_broken is not None and self.on_broken(sink, error):
            self._lost.add(sink)
            if self._sink is sink:
                self.hold()
        elif utterance.sink is sink:  # nobody replaces it: this segment at least must not hang
            log.warning("an utterance could not be played: %s", error)
            utterance.result = (utterance.heard(anyio.current_time()), True)
            self._settle()
            self._changed()

    # -- what sinks report

    def _listen(self, sink: AudioOutput) -> None:
        if sink in self._ears:
            return
        self._ears[sink] = {
            "playback_started": lambda event: self._on_started(sink, event),
            "playback_progressed": lambda event: self._on_progressed(sink, event),
            "playback_finished": lambda event: self._on_finished(sink, event),
        }
        for event, ear in self._ears[sink].items():
            sink.on(event, ear)

    def _playing(self, sink: AudioOutput) -> Utterance | None:
        return next((u for u in self._utterances if u.sink is sink and u.result is None), None)

    def _on_started(self, sink: AudioOutput, event: PlaybackStartedEvent) -> None:
        utterance = self._playing(sink)
        if utterance is None or utterance.started_at is not None:
            return
        utterance.started_at = anyio.current_time()
        if utterance.due is not None:
            utterance.due = max(utterance.due, utterance.started_at + utterance.said - utterance.before)
        if not utterance.announced:
            utterance.announced = True
            self.on_playback_started(created_at=event.created_at)

    def _on_progressed(self, sink: AudioOutput, event: PlaybackProgressedEvent) -> None:
        utterance = self._playing(sink)
        if utterance is not None:
            offset = utterance.before + event.offset
            self.on_playback_progressed(started_at=event.started_at, offset=offset, duration=event.duration)

    def _on_finished(self, sink: AudioOutput, event: PlaybackFinishedEvent) -> None:
        utterance = self._playing(sink)
        if utterance is None or not (utterance.begun or utterance.cursor):
            return  # of a segment that was cut off before the sink took any of it
        position = utterance.before + event.playback_position
        if event.interrupted:  # a sink that hears nothing from its avatar reports all that it sent
            position = min(position, utterance.heard(anyio.current_time() + SLACK_SECONDS))
        utterance.result = (position, event.interrupted)
        self._settle()
        self._changed()

    def _settle(self) -> None:
        """Report what is finished, in the order in which it was said."""
        while self._utterances and (result := self._utterances[0].result) is not None:
            self._changed()
            done = self._utterances.popleft()
            self._resamplers.pop(done, None)
            position, interrupted = result
            self.on_playback_finished(playback_position=position, interrupted=interrupted)

    def _changed(self) -> None:
        change, self._change = self._change, anyio.Event()
        change.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change.wait()
