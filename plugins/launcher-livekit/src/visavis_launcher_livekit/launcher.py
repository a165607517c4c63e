"""The launcher ``livekit-dispatch``: asks LiveKit to hand sessions to workers, and follows them in the control room."""

from __future__ import annotations

import itertools
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import anyio
from livekit import api
from visavis.config import Deployment
from visavis.errors import AtCapacity, ConfigError, SessionError, TransportError, VisavisError
from visavis.interfaces.session import SessionRequest
from visavis.metrics import Metrics
from visavis.remote.figures import FiguresIn
from visavis.remote.launcher import STOPS, RemoteLauncher
from visavis.remote.session import RemoteSession
from visavis.remote.telling import error_of
from visavis.remote.wire import Message, Wire
from visavis.remote.worker import RemoteWorker
from visavis.session import single

from visavis_launcher_livekit.control import ControlRoom, RoomWire
from visavis_launcher_livekit.options import DispatchOptions
from visavis_launcher_livekit.order import Order, metadata_of, participant_of

log = logging.getLogger("visavis.launcher.livekit")

RETRY_AFTER: Final = 5.0
PATIENCE_GROWS: Final = 2.0
"""Each further offer of a session waits so many times longer: where all is slow, haste would never get it begun."""
LEAVING_SECONDS: Final = 10.0
"""How long workers may take to end the sessions of a launcher that is left."""


class _Coming:
    """A session that was offered and does not run yet. ``attempt`` numbers the offer that stands; None if none does."""

    def __init__(self) -> None:
        self.attempt: int | None = None
        self.taken, self.settled = anyio.Event(), anyio.Event()
        self.worker: RemoteWorker | None = None
        self.limits: dict[str, float | None] = {}
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.taken.set()
        self.settled.set()


class DispatchLauncher(RemoteLauncher):
    """Sessions run in ``visavis worker`` processes on any machine. An async context manager: entering it joins the
    control room. A session of a worker that dies is dispatched anew under the same id and identity.
    """

    def __init__(self, options: DispatchOptions, deployment: Deployment, *, metrics: Metrics | None = None) -> None:
        super().__init__(deployment, metrics=metrics)
        missing = [name for name in ("url", "api_key", "api_secret") if not getattr(options, name)]
        if missing:
            raise ConfigError(
                f"the launcher livekit-dispatch lacks {', '.join(missing)}",
                hint="set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
            )
        self.options = options
        self._figures = FiguresIn(self.metrics)
        self._workers: dict[str, RemoteWorker] = {}
        self._coming: dict[str, _Coming] = {}
        self._attempts = itertools.count(1)
        self._dispatches: dict[str, tuple[str, str]] = {}
        self._control: ControlRoom
        self._api: api.LiveKitAPI
        self._stack = AsyncExitStack()

    @property
    def workers(self) -> list[RemoteWorker]:
        """The workers that have been heard of, those included that take no further session."""
        return [worker for worker in self._workers.values() if worker.ready.is_set()]

    # -- its life

    async def __aenter__(self) -> DispatchLauncher:
        """Join the control room. Raises TransportError if that cannot be done. Workers may come later."""
        secret = self.options.api_secret
        assert secret is not None
        try:
            async with AsyncExitStack() as stack:
                self._api = api.LiveKitAPI(self.options.url, self.options.api_key, secret.get_secret_value())
                stack.push_async_callback(self._api.aclose)
                self._tasks = await stack.enter_async_context(anyio.create_task_group())
                self._control = ControlRoom(self.options, "server", "worker", self._came)
                await self._tasks.start(self._control.run)
                self._tasks.start_soon(self.tell_load)
                with anyio.move_on_after(self.options.await_workers_s):
                    while not self.workers:  # noqa: ASYNC110 - workers are heard of one by one
                        await anyio.sleep(0.05)
                self._stack = stack.pop_all()
        except BaseExceptionGroup as group:
            raise single(group) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End all sessions and leave the control room; the workers stay for others."""
        self.close_all()
        try:
            with anyio.move_on_after(LEAVING_SECONDS):
                async with anyio.create_task_group() as closing:
                    for session in list(self._sessions.values()):
                        closing.start_soon(self._close, session)
        finally:
            self._tasks.cancel_scope.cancel()
            try:
                left = await self._stack.__aexit__(kind, error, trace)
            finally:
                for session in list(self._sessions.values()):
                    self._report(session, SessionError(f"{STOPS}, and its worker did not answer"))
        return left

    async def _close(self, session: RemoteSession) -> None:
        await session.close(STOPS)
        try:
            await session.wait()
        except VisavisError as failed:
            log.debug("session %s: %s", session.id, failed)
        await self._undo(session.id)

    # -- workers

    def _came(self, wire: RoomWire) -> None:
        self.spawn(self._follow, wire)

    async def _follow(self, wire: Wire) -> None:
        """One worker, from its first word to its last."""
        assert isinstance(wire, RoomWire)
        worker = RemoteWorker(
            wire,
            wire.peer,
            self.spawn,
            figures=self._figures,
            ended=self.ended,
            moved=self.move,
            news=self._news,
            shared=True,
        )
        self._workers[wire.peer] = worker
        options = self.options
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker.listen)
                tasks.start_soon(self._watch, worker)
                await worker.gone.wait()
                tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - one worker's failure must not end the others
            log.error("%s: %s", wire.peer, single(error))
        finally:
            worker.give_up("it was let go")
            wire.cut(worker.why)
            if self._workers.get(wire.peer) is worker:
                del self._workers[wire.peer]
            log.info("%s of %s is gone: %s", wire.peer, options.agent_name, worker.why)
            self._count()
            for coming in self._coming.values():
                if coming.worker is worker:
                    coming.fail(SessionError(f"its worker is gone: {worker.why}"))
            self.lose(worker)

    async def _watch(self, worker: RemoteWorker) -> None:
        options = self.options
        await worker.ready.wait()
        log.info("%s is ready", worker.name)
        self._count()
        await worker.watch(options.silence_s, drawing=options.hang_s, sure=self._control.answers)

    def _count(self) -> None:
        self.metrics.gauge("visavis_workers", len(self.workers))

    def _news(self, worker: RemoteWorker, message: Message) -> None:
        """What a worker says of a session that it was given."""
        if "draining" in message:
            worker.taking = False
            return
        session_id = str(message.get("taken") or message.get("began") or message.get("failed") or "")
        attempt = int(message.get("attempt", 0))
        coming = self._coming.get(session_id)
        if coming is not None and coming.attempt != attempt:
            coming = None  # it is of an offer that was taken back
        if "taken" in message:
            if coming is not None and coming.taken.is_set():
                coming = None
            if coming is not None:
                coming.worker = worker
                coming.taken.set()
            self.spawn(self._answer, worker, session_id, attempt, coming)
        elif coming is None:
            if "began" in message:  # nobody waits for it any more
                self.spawn(self._unwanted, worker, session_id)
        elif "began" in message:
            coming.limits = dict(message["limits"])
            coming.settled.set()
        elif "failed" in message:
            coming.fail(error_of(message["error"]))

    async def _answer(self, worker: RemoteWorker, session_id: str, attempt: int, coming: _Coming | None) -> None:
        """Tell a worker whether it is the one that begins a session."""
        try:
            await worker.calls.call("take", session=session_id, attempt=attempt, wanted=coming is not None)
        except SessionError as gone:
            if coming is not None:
                coming.fail(gone)

    async def _unwanted(self, worker: RemoteWorker, session_id: str) -> None:
        try:
            await worker.calls.call("close", session=session_id, reason="nobody wants it any more", finish=False)
        except SessionError as gone:
            log.debug("session %s: %s", session_id, gone)

    # -- sessions

    async def place(self, session: RemoteSession, request: SessionRequest) -> None:
        """Have a session dispatched until some worker takes it, and wait until it runs there."""
        who, room = participant_of(self.options, self._token(request))
        order = Order(id=session.id, server=self._control.identity, participant=who, inherited=dict(session.notes))
        metadata_of(request, order)  # what cannot be told fails before anything is offered
        coming = self._coming[session.id] = _Coming()
        try:
            with anyio.move_on_after(self.options.start_timeout_s):
                patience, below = self.options.take_timeout_s, self._least_full()
                while not coming.taken.is_set():
                    coming.attempt = next(self._attempts)
                    offer = order.model_copy(update={"attempt": coming.attempt, "below": below})
                    await self._dispatch(session.id, room, metadata_of(request, offer), coming, patience)
                    patience, below = patience * PATIENCE_GROWS, Order().below
                await coming.settled.wait()
        finally:
            del self._coming[session.id]
            if not coming.settled.is_set() or coming.error is not None:
                self.spawn(self._undo, session.id)
        if coming.error is not None:
            raise coming.error
        if not coming.taken.is_set():
            raise AtCapacity("no worker has taken the session on", retry_after=RETRY_AFTER)
        if not coming.settled.is_set() or coming.worker is None:
            limit = self.options.start_timeout_s
            raise SessionError(f"the session did not start within {limit:g} s", hint="the worker's log says more")
        coming.worker.hold(session, coming.limits)

    def _least_full(self) -> float:
        """How full a worker may be to be asked first: less than a session fuller than the emptiest, for each one that
        is on its way. Left to LiveKit alone, chance spreads them, and now and then three to one."""
        taking = [worker for worker in self.workers if worker.taking]
        if not taking:
            return Order().below
        emptiest = min(taking, key=lambda worker: worker.load)
        return emptiest.load + len(self._coming) / (emptiest.capacity.most or 1_000)

    def _token(self, request: SessionRequest) -> str:
        token = request.transport.get("token", "")
        token = token.get_secret_value() if hasattr(token, "get_secret_value") else token
        if not isinstance(token, str) or not token:
            raise TransportError("a dispatched session needs a room token", hint="give session.transport.token")
        return token

    async def _dispatch(self, session_id: str, room: str, metadata: str, coming: _Coming, patience: float) -> None:
        """Ask LiveKit once, and give a worker some time to take it; taken back if none does."""
        wanted = api.CreateAgentDispatchRequest(agent_name=self.options.agent_name, room=room, metadata=metadata)
        try:
            made = await self._api.agent_dispatch.create_dispatch(wanted)
        except Exception as error:  # noqa: BLE001 - whatever the API raises: it may quote what must not be shown
            raise TransportError(
                f"LiveKit at {self.options.url} takes no dispatch: {type(error).__name__}",
                hint="check its address, and that the API key may administer rooms",
            ) from None
        self._dispatches[session_id] = made.id, room
        with anyio.move_on_after(patience):
            await coming.taken.wait()
        if not coming.taken.is_set():
            coming.attempt = None  # who comes with it now comes too late
            self.metrics.count("visavis_dispatches_untaken_total")
            await self._undo(session_id)

    async def _undo(self, session_id: str) -> None:
        """Take a dispatch back; whatever has become of it meanwhile."""
        dispatch, room = self._dispatches.pop(session_id, ("", ""))
        if dispatch:
            try:
                await self._api.agent_dispatch.delete_dispatch(dispatch, room)
            except Exception as error:  # noqa: BLE001 - a room that is gone has taken it along
                log.debug("a dispatch in %s could not be taken back: %s", room, type(error).__name__)

    def ended(self, session: RemoteSession) -> None:
        """A session is over, and its dispatch with it."""
        super().ended(session)
        self.spawn(self._undo, session.id)
