"""A worker's end of a wire: answers calls for the sessions of its launcher, and tells how they do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import numpy as np
from anyio.abc import TaskGroup, TaskStatus

from visavis.errors import SessionError, VisavisError
from visavis.interfaces.session import SpeechStream
from visavis.remote.figures import FiguresOut
from visavis.remote.logs import LogsOut
from visavis.remote.telling import (
    request_of,
    told_capacity,
    told_error,
    told_finish,
    told_limits,
    told_stats,
)
from visavis.remote.wire import Message, Wire, WireClosed
from visavis.session import Session
from visavis.supervisor import LocalLauncher

log = logging.getLogger("visavis.worker")

BEAT_SECONDS: Final = 0.25
"""How often a worker says that it lives."""

Method = Callable[[Message, bytes], Awaitable[Any]]
"""What a call does: takes the message and its payload, returns what JSON can tell, raises a VisavisError."""


@dataclass(frozen=True, slots=True)
class _Started:
    """The answer to ``start``: the session is followed once it has been given."""

    session: Session


@dataclass(frozen=True, slots=True)
class _Opened:
    """The answer to ``speak``: the segment is followed once it has been given."""

    session: Session
    stream: SpeechStream


class Service:
    """Serves one launcher on one wire, for as long as the wire lasts.

    ``figures`` and ``logs`` are what goes along with each beat; without them these stay where they are. ``methods``
    can be called besides those that sessions need.
    """

    def __init__(
        self,
        wire: Wire,
        launcher: LocalLauncher,
        *,
        figures: FiguresOut | None = None,
        logs: LogsOut | None = None,
        methods: Mapping[str, Method] | None = None,
    ) -> None:
        self.figures = figures
        self._wire, self._launcher, self._logs = wire, launcher, logs
        self._sessions: dict[str, Session] = {}
        self._streams: dict[tuple[str, str], SpeechStream] = {}
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._moving: set[str] = set()
        self._news = anyio.Event()
        self._tasks: TaskGroup
        self._methods: dict[str, Method] = {
            name: getattr(self, f"_{name}")
            for name in ("start", "stats", "interrupt", "speak", "write", "end", "swap", "close", "rehearse")
        } | dict(methods or {})

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until the wire is closed or the other end says ``stop``; what runs then is the launcher's to end."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._beat)
            task_status.started()
            try:
                while True:
                    message, payload = await self._wire.receive()
                    if "stop" in message:
                        break
                    self._take(message, payload)
            except WireClosed as gone:
                log.debug("%s", gone)
            self._tasks.cancel_scope.cancel()

    async def farewell(self) -> None:
        """Tell how the sessions ended that the launcher has ended since; the last word."""
        for (session_id, _), stream in list(self._streams.items()):
            await self._listen(session_id, stream)
        for session in list(self._sessions.values()):
            await self._follow(session)
        await self._send(await self._news_now())

    async def tell(self, message: Message) -> None:
        """Say something of one's own; nobody hears it if the wire is gone."""
        await self._send(message)

    async def move(self, session: Session, patience: float) -> None:
        """End a session for it to be begun again elsewhere: as soon as nothing is being said."""
        self._moving.add(session.id)
        with anyio.move_on_after(patience):
            await session.wait_silent()
        await session.close("its worker shuts down", finish=True)

    def adopt(self, session: Session) -> None:
        """Serve a session that was not started through this wire."""
        self._sessions[session.id] = session
        session.context.on_note = self._stir
        self._tasks.start_soon(self._follow, session)

    # -- calls

    def _take(self, message: Message, payload: bytes) -> None:
        if (number := message.get("cancel")) is not None:
            scope = self._scopes.get(number)
            if scope is not None:
                scope.cancel()
            else:  # it never came, or is answered already
                self._tasks.start_soon(self._refuse, number)
        elif (number := message.get("call")) is not None:
            self._scopes[number] = anyio.CancelScope()
            self._tasks.start_soon(self._answer, number, message, payload)

    async def _refuse(self, number: int) -> None:
        await self._send({"answer": number, "error": told_error(SessionError("the call was cancelled"))})

    async def _answer(self, number: int, message: Message, payload: bytes) -> None:
        method = self._methods.get(str(message.get("method")))
        answer: Message = {"answer": number, "error": told_error(SessionError("the call was cancelled"))}
        result: Any = None
        try:
            with self._scopes[number]:
                if method is None:
                    raise SessionError(f"this worker knows no method {message.get('method')!r}", hint="update it")
                result = await method(message, payload)
                answer = {"answer": number, "result": _told(result)}
        except Exception as error:
            if not isinstance(error, VisavisError | ValueError):
                log.error("%s failed", message.get("method"), exc_info=error)
            answer = {"answer": number, "error": told_error(error)}
        finally:
            self._scopes.pop(number, None)
        await self._send(answer)
        # The answer goes first: nobody is told how something ends that he does not know of.
        if isinstance(result, _Started) and "result" in answer:
            await self._follow(result.session)
        elif isinstance(result, _Opened) and "result" in answer:
            await self._listen(result.session.id, result.stream)

    async def _start(self, message: Message, payload: bytes) -> _Started:
        session = await self._launcher.begin(
            request_of(message["request"]), session_id=message.get("id"), inherited=message.get("inherited")
        )
        self._sessions[session.id] = session
        session.context.on_note = self._stir
        return _Started(session)

    def _session(self, message: Message) -> Session:
        session = self._sessions.get(str(message.get("session")))
        if session is None:
            raise SessionError("that session does not run in this worker")
        return session

    async def _stats(self, message: Message, payload: bytes) -> dict[str, Any]:
        return told_stats(await self._session(message).stats())

    async def _interrupt(self, message: Message, payload: bytes) -> None:
        await self._session(message).interrupt()

    async def _swap(self, message: Message, payload: bytes) -> None:
        await self._session(message).swap(str(message["avatar"]))

    async def _close(self, message: Message, payload: bytes) -> None:
        session = self._sessions.get(str(message.get("session")))
        if session is not None:
            await session.close(str(message["reason"]), finish=bool(message["finish"]))

    async def _speak(self, message: Message, payload: bytes) -> _Opened:
        session = self._session(message)
        stream = await session.speak(int(message["rate"]), int(message["channels"]))
        self._streams[session.id, stream.id] = stream
        return _Opened(session, stream)

    async def _write(self, message: Message, payload: bytes) -> None:
        stream = self._streams.get((str(message["session"]), str(message["stream"])))
        if stream is not None:  # of one that has finished the rest is discarded, as ever
            await stream.write(np.frombuffer(payload, "<f4").reshape(-1, int(message["channels"])))

    async def _end(self, message: Message, payload: bytes) -> None:
        stream = self._streams.get((str(message["session"]), str(message["stream"])))
        if stream is not None:
            await stream.end()

    async def _rehearse(self, message: Message, payload: bytes) -> list[float]:
        return await self._launcher.rehearse(str(message["avatar"]), int(message["frames"]))

    # -- what is told without being asked

    async def _follow(self, session: Session) -> None:
        """Tell of a session's end, once."""
        error: VisavisError | None = None
        try:
            await session.wait()
        except VisavisError as failed:
            error = failed
        if self._sessions.pop(session.id, None) is None:
            return
        told: Message = {"ended": session.id, "stats": told_stats(await session.stats())}
        if session.id in self._moving:
            self._moving.discard(session.id)
            told |= {"moved": True, "notes": _notes(session)}
        await self._send({**told, "error": told_error(error)} if error is not None else told)

    async def _listen(self, session_id: str, stream: SpeechStream) -> None:
        """Tell of a segment's first sample, and of its end."""
        place = {"session": session_id, "stream": stream.id}
        if await stream.wait_started():
            await self._send({"heard": place})
        finish = await stream.wait_finished()
        self._streams.pop((session_id, stream.id), None)
        await self._send({"finished": place, "how": told_finish(finish)})

    def _stir(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def _beat(self) -> None:
        """Say that it lives: from the loop, so that a loop that stands still is silent."""
        while True:
            news = self._news
            await self._send(await self._news_now())
            with anyio.move_on_after(BEAT_SECONDS):
                await news.wait()

    async def _news_now(self) -> Message:
        full = await self._launcher.capacity()
        if full.most is not None and full.running + full.starting >= full.most:
            full = replace(full, problem=None)  # of that the other end keeps the account, and knows it sooner
        told: Message = {
            "beat": told_capacity(full),
            "drawing": self._launcher.supervisor.batcher.busy_for,
            "notes": {session.id: notes for session in self._sessions.values() if (notes := _notes(session))},
            "played": [[*place, stream.played] for place, stream in self._streams.items()],
        }
        if self.figures is not None:
            told["figures"] = self.figures.take()
        if self._logs is not None:
            told["log"] = self._logs.take()
        return told

    async def _send(self, message: Message) -> None:
        try:
            await self._wire.send(message)
        except WireClosed:
            log.debug("nobody is there to be told")


def _told(result: Any) -> Any:
    if isinstance(result, _Started):
        return {"id": result.session.id, "limits": told_limits(result.session.limits)}
    return result.stream.id if isinstance(result, _Opened) else result


def _notes(session: Session) -> dict[str, Any]:
    """What the parts of a session would leave to its successor."""
    return {name: tell() for name, tell in session.context.notes.items()}
