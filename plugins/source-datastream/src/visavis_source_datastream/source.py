"""The data stream source: participants of a room stream PCM, the avatar says it and tells them what was heard."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from livekit import rtc
from visavis.errors import FloorRefused, SessionError
from visavis.interfaces.session import SessionContext, SpeechStream
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.metrics import Metrics, NoMetrics

from visavis_source_datastream import wire
from visavis_source_datastream.courier import Call, Courier, Message
from visavis_source_datastream.door import Door
from visavis_source_datastream.options import DataStreamOptions, DataStreamSessionOptions
from visavis_source_datastream.utterance import News, Reader, Stir, Utterance
from visavis_source_datastream.wire import Code, Refusal

log = logging.getLogger("visavis.source.datastream")

AUDIENCE_SECONDS: Final = 1.0
"""How long the first word waits for somebody to hear it: subscribing to a new track takes a quarter of a second."""
NOTE: Final = "datastream"
"""The name of what is left to a successor: by sender, position and interruption of each utterance not told of."""
REFUSALS_LOGGED: Final = 50
"""Refusals of a session that the log tells of: who sends nonsense for hours fills no disk."""
MOST_ARRIVALS: Final = 1_024
"""What may have happened in the room before it was looked at."""


@dataclass(frozen=True, slots=True)
class _Opened:
    reader: Reader
    identity: str


@dataclass(frozen=True, slots=True)
class _Cleared:
    identity: str
    done: anyio.Event


@dataclass(frozen=True, slots=True)
class _Left:
    identity: str


@dataclass(frozen=True, slots=True)
class _Came:
    identity: str


_Arrival = _Opened | _Cleared | _Left | _Came


class DataStreamSource(AudioSource):
    """Speaks what is streamed to it on ``lk.audio_stream``, one segment a stream.

    Raises SessionError in ``prepare`` if the session has no LiveKit room or another source listens in it already.
    """

    def __init__(self, options: DataStreamOptions, session: DataStreamSessionOptions) -> None:
        self._options, self._session = options, session
        self._room: rtc.Room | None = None
        self._metrics: Metrics = NoMetrics()
        self._sign_of_life: Callable[[], object] = lambda: None
        self._undo: list[Callable[[], object]] = []
        self._arrivals: deque[_Arrival] = deque()
        self._closed = False
        self._refused = 0
        self._expected = True  # nobody has been spoken to
        self._inherited: dict[str, list[list[Any]]] = {}
        self._noted: Callable[[], object] = lambda: None
        self._heard: anyio.Event
        self._stir: Stir
        self._door: Door
        self._courier: Courier

    # -- its life

    async def prepare(self, context: SessionContext) -> None:
        """Listen for streams before the room is joined, so that the first one is not missed."""
        try:
            room = context.resource(rtc.Room)
        except KeyError:
            raise SessionError("the datastream source needs a LiveKit room", hint="use transport: livekit") from None
        self._metrics, self._sign_of_life = context.metrics, context.sign_of_life
        context.notes[NOTE] = self._note
        self._inherited = dict(context.inherited.get(NOTE, {}))
        self._noted = lambda: context.on_note()
        self._stir, self._heard = Stir(), anyio.Event()
        self._door = Door(self._options, self._tell, self._serves, context.metrics)
        try:
            room.register_byte_stream_handler(wire.AUDIO_TOPIC, self._on_stream)
        except ValueError:
            raise SessionError(f"somebody listens for {wire.AUDIO_TOPIC} in this session's room already") from None
        self._room = room
        self._undo.append(lambda: room.unregister_byte_stream_handler(wire.AUDIO_TOPIC))
        self._courier = Courier(room, self._door.gone)
        self._undo.append(self._courier.close)
        listeners = {
            "participant_disconnected": self._on_left,
            "participant_connected": self._on_came,
            "local_track_subscribed": self._on_subscribed,
        }
        for event, listener in listeners.items():
            room.on(event, listener)
            self._undo.append(partial(room.off, event, listener))

    async def joined(self, context: SessionContext) -> None:
        """Take calls: those need a room that is connected."""
        assert self._room is not None
        methods = {wire.CLEAR_BUFFER: self._on_clear, **dict.fromkeys(wire.STATES, self._on_state)}
        for name, method in methods.items():
            self._room.local_participant.register_rpc_method(name, method)
            self._undo.append(partial(_unregister, self._room, name))
        self._finish_inherited()

    def _note(self) -> dict[str, list[list[Any]]]:
        """What a successor has to tell each sender: how its utterances ended, those that are open as cut off now."""
        open_ones: dict[str, list[list[Any]]] = {}
        for line in self._door.lines():
            if line.utterances:
                open_ones[line.identity] = [list(utterance.outcome()) for utterance in line.utterances]
        return open_ones

    def _finish_inherited(self) -> None:
        """Utterances of a predecessor whose process died: their senders still wait to be told of the end."""
        for identity, outcomes in self._inherited.items():
            if self._serves(identity):
                for position, interrupted in outcomes:
                    told = wire.finished(float(position), interrupted=bool(interrupted))
                    self._courier.post(identity, Call(wire.PLAYBACK_FINISHED, told))
        self._inherited = {}

    async def run(self, speech: SpeechWriter) -> None:
        """Speak until the session ends: a room has no last word."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._courier.run)
            tasks.start_soon(self._speak, speech, tasks)
            while True:
                happened = self._stir.next
                while self._arrivals:
                    await self._attend(self._arrivals.popleft(), speech, tasks)
                await happened.wait()

    async def aclose(self) -> None:
        """Stop listening; whoever still waits for the end of an utterance is told. May be called twice."""
        if self._closed:
            return
        self._closed = True
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception as error:  # noqa: BLE001 - a room that broke down cannot be asked to forget either
                log.debug("could not let go of the room: %s", type(error).__name__)
        if self._room is not None:
            await self._take_leave()
        self._room = None

    async def _take_leave(self) -> None:
        for arrival in self._arrivals:
            if isinstance(arrival, _Cleared):
                arrival.done.set()
            elif isinstance(arrival, _Opened):
                self._let_in(arrival)
                arrival.reader.close()
        self._arrivals.clear()
        for utterance in self._door.utterances():
            utterance.drop()
            if utterance.segment is not None:
                with anyio.move_on_after(0.1):  # the pipeline has finished it by now
                    result = await utterance.segment.wait_finished()
                    utterance.finish(result.position, interrupted=result.interrupted)
            utterance.finish(0.0, interrupted=True)
        await self._courier.farewell()

    # -- what the room calls

    def _on_stream(self, reader: Reader, identity: str) -> None:
        _in_turn(lambda: self._arrive(_Opened(reader, identity)))

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        _in_turn(lambda: self._arrive(_Left(participant.identity)))

    def _on_came(self, participant: rtc.RemoteParticipant) -> None:
        _in_turn(lambda: self._arrive(_Came(participant.identity)))

    def _on_subscribed(self, track: rtc.Track) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._heard.set()

    async def _on_clear(self, call: rtc.RpcInvocationData) -> str:
        self._check(call)
        done = anyio.Event()
        self._arrive(_Cleared(call.caller_identity, done))
        await done.wait()
        return "ok"

    async def _on_state(self, call: rtc.RpcInvocationData) -> str:
        self._check(call)
        self._sign_of_life()
        log.debug("%s: %.40r", call.method, call.payload)
        return "ok"

    def _check(self, call: rtc.RpcInvocationData) -> None:
        if not self._serves(call.caller_identity):
            self._metrics.count("visavis_datastream_refused_total", code=Code.NOT_SERVED.value)
            raise rtc.RpcError(403, "this avatar serves another participant")

    def _serves(self, identity: str) -> bool:
        return self._served in ("", identity)

    @property
    def _served(self) -> str:
        """Whom it speaks for; empty where nobody is named: for everyone in the room."""
        assert self._room is not None
        return self._session.identity or self._room.local_participant.attributes.get(wire.ON_BEHALF, "")

    def _arrive(self, arrival: _Arrival) -> None:
        """Note what happened, for ``run`` to attend to in the order of its happening."""
        if self._closed or len(self._arrivals) >= MOST_ARRIVALS:
            if isinstance(arrival, _Opened):
                arrival.reader.close()
            elif isinstance(arrival, _Cleared):
                arrival.done.set()
            return
        self._arrivals.append(arrival)
        self._stir()

    # -- what comes of it

    async def _attend(self, arrival: _Arrival, speech: SpeechWriter, tasks: TaskGroup) -> None:
        match arrival:
            case _Opened():
                utterance = self._let_in(arrival)
                if utterance is None or not utterance.wanted:
                    arrival.reader.close()
                    return
                tasks.start_soon(utterance.receive, arrival.reader, self._options.stalled_s)
                if self._options.policy == "replace":
                    for identity in self._door.others(utterance.line):
                        await self._clear(identity, speech)
            case _Cleared():
                try:
                    await self._clear(arrival.identity, speech)
                finally:
                    arrival.done.set()
            case _Left():
                self._door.left(arrival.identity)
            case _Came():
                self._door.came(arrival.identity)
                self._courier.stir()

    def _let_in(self, arrival: _Opened) -> Utterance | None:
        try:
            utterance = self._door.admit(arrival.reader, arrival.identity)
            self._noted()
            return utterance
        except Refusal as refusal:
            self._refuse(arrival.identity, arrival.reader.info.stream_id, refusal)
            return None

    def _refuse(self, identity: str, stream: str, refusal: Refusal) -> None:
        self._refused += 1
        level = logging.WARNING if self._refused <= REFUSALS_LOGGED else logging.DEBUG
        log.log(level, "a stream of %s is refused: %s", identity, refusal.sentence)
        self._metrics.count("visavis_datastream_refused_total", code=refusal.code.value)
        self._courier.post(identity, Message(refusal.text(stream)))

    async def _clear(self, identity: str, speech: SpeechWriter) -> None:
        """Stop what this participant says and what of it waits.

        The one whom the avatar serves stops everything; in a room where anyone may speak, nobody stops others.
        """
        theirs = list(self._door.utterances(identity))
        for utterance in theirs:
            utterance.drop()
        if self._served or any(u.segment is not None for u in theirs):
            await speech.interrupt()

    async def _speak(self, speech: SpeechWriter, tasks: TaskGroup) -> None:
        """Say one utterance after the other."""
        while True:
            stir = self._door.stir.next
            utterance = self._door.next()
            if utterance is None or self._door.speaking(beside=utterance.line):
                await stir.wait()
            else:
                utterance.taken = True
                await self._say(utterance, speech, tasks)

    async def _say(self, utterance: Utterance, speech: SpeechWriter, tasks: TaskGroup) -> None:
        heard = utterance.format
        pcm = await utterance.take()
        if pcm is None:  # opened and closed without a sample: over before it began
            utterance.finish(0.0, interrupted=False)
            return
        await self._audience()
        try:
            segment = await speech.open(heard.rate, heard.channels)
        except FloorRefused as error:
            utterance.refuse(Refusal(Code.FLOOR_TAKEN, str(error)))
            return
        if not utterance.wanted:  # it was cleared while that waited for the floor
            await segment.end()
            return
        utterance.segment = segment
        tasks.start_soon(self._follow, utterance, segment)
        while pcm is not None:
            await segment.write(pcm)
            pcm = await utterance.take()
        await segment.end()

    async def _audience(self) -> None:
        """Before the first word: wait until somebody hears the avatar, a moment at most.

        Who speaks as soon as it sees the avatar is ahead of those who are about to subscribe to its sound.
        """
        if not self._expected:
            return
        with anyio.move_on_after(AUDIENCE_SECONDS):
            await self._heard.wait()
        self._expected = False

    async def _follow(self, utterance: Utterance, segment: SpeechStream) -> None:
        """Tell how it is played."""
        if await segment.wait_started():
            utterance.start()
        result = await segment.wait_finished()
        by_others = result.interrupted and utterance.wanted
        utterance.finish(result.position, interrupted=result.interrupted)
        if by_others:  # an interrupt of the session stops what waits, too
            for waiting in self._door.utterances():
                waiting.drop()

    def _tell(self, utterance: Utterance, news: News) -> None:
        to, now = utterance.line.identity, anyio.current_time()
        match news:
            case "started":
                self._courier.post(to, Call(wire.PLAYBACK_STARTED, ""))
                self._metrics.observe("visavis_datastream_start_seconds", now - utterance.opened_at)
            case "refused":
                assert utterance.refusal is not None
                self._refuse(to, utterance.stream_id, utterance.refusal)
            case "finished":
                assert utterance.result is not None
                position, interrupted = utterance.result
                self._noted()
                self._courier.post(to, Call(wire.PLAYBACK_FINISHED, wire.finished(position, interrupted=interrupted)))


def _unregister(room: rtc.Room, method: str) -> None:
    """The room's participant is another one after it was entered anew."""
    room.local_participant.unregister_rpc_method(method)


def _in_turn(step: Callable[[], None]) -> None:
    """Do it as many turns of the loop later as the SDK takes from a call's arrival to its method.

    The SDK tells of a stream at once, but has a task start a task that calls a method. Without this, a stream that was
    opened just after ``lk.clear_buffer`` would come before it, and be cleared.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another event loop: there is no SDK either
        step()
    else:
        loop.call_soon(loop.call_soon, step)
