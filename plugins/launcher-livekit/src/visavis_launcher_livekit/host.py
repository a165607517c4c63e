"""A worker's sessions: taken from jobs, run by a launcher ``local``, reached by servers through the control room."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup
from visavis.config import Deployment
from visavis.errors import SessionError, VisavisError
from visavis.interfaces.session import SessionRequest
from visavis.remote.figures import FiguresOut
from visavis.remote.service import Service
from visavis.remote.telling import told_error, told_limits
from visavis.remote.wire import Message
from visavis.session import Session
from visavis.supervisor import LocalLauncher

from visavis_launcher_livekit.control import ControlRoom, RoomWire
from visavis_launcher_livekit.options import DispatchOptions
from visavis_launcher_livekit.order import Order, Participant, token_of

log = logging.getLogger("visavis.worker")

SENTENCE_SECONDS: Final = 30.0
"""How long a sentence may take to its end when a worker shuts down."""
LOAD_SECONDS: Final = 0.25
FULL: Final = 1.0
HUNG: Final = 70
"""The exit status of a worker whose renderer hangs."""
ANSWER_SECONDS: Final = 5.0
"""How long a server may take to say whether it still wants what it has offered."""


class _Offer:
    """A session that a server has offered; whether it wants it begun here is not known before it says so."""

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.wanted = False


class Host:
    """One for a worker process. An async context manager: entering it loads what is to be warm.

    ``load`` is how full it is, 0 to 1, from the cost of pictures that was measured: what LiveKit chooses workers by.
    """

    def __init__(
        self, options: DispatchOptions, deployment: Deployment, *, hung: Callable[[], object] = lambda: os._exit(HUNG)
    ) -> None:
        """``hung`` is called once the renderer hangs: its thread cannot be ended, nor the process in an orderly way."""
        self.options, self._hung = options, hung
        self._figures = FiguresOut()
        self.launcher = LocalLauncher(deployment, metrics=self._figures)
        self.load = 0.0
        self.draining = False
        self._services: dict[str, Service] = {}
        self._sessions: dict[str, tuple[Session, Service | None]] = {}
        self._expected: set[str] = set()
        """Jobs that were accepted and are not handed over yet."""
        self._taking: set[str] = set()
        """Jobs that were handed over and whose session does not run yet."""
        self._offers: dict[tuple[str, int], _Offer] = {}
        self._control: ControlRoom
        self._tasks: TaskGroup
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Get ready. Raises a VisavisError if a part cannot be made, or the control room not be joined."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.launcher)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._control = ControlRoom(self.options, "worker", "server", self._came)
            await self._tasks.start(self._control.run)
            await self._weigh()
            self._tasks.start_soon(self._keep_weighing)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Leave the control room and end what still runs."""
        self._tasks.cancel_scope.cancel()
        return await self._stack.__aexit__(kind, error, trace)

    # -- servers

    def _came(self, wire: RoomWire) -> None:
        self._tasks.start_soon(self._serve, wire)

    async def _serve(self, wire: RoomWire) -> None:
        """One server, for as long as it is there. Its sessions go on without it."""
        service = self._services[wire.peer] = Service(wire, self.launcher, methods={"take": self._answer})
        self._choose()
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(service.run)
                if self.draining:
                    await service.tell({"draining": True})
        finally:
            if self._services.get(wire.peer) is service:
                del self._services[wire.peer]
            wire.cut("it was let go")
            self._choose()

    def _choose(self) -> None:
        """Figures go to one server: the sum over all servers counts each once."""
        first = min(self._services, default="")
        for name, service in self._services.items():
            service.figures = self._figures if name == first else None

    async def _service(self, server: str) -> Service | None:
        """The service for a server that a job names; None if it is not there."""
        if self._control.wire(server) is None:
            return None
        with anyio.move_on_after(1.0):
            while server not in self._services:  # noqa: ASYNC110 - its task starts in a moment
                await anyio.sleep(0.01)
        return self._services.get(server)

    # -- how full it is

    async def _keep_weighing(self) -> None:
        while True:
            await anyio.sleep(LOAD_SECONDS)
            await self._weigh()
            if (busy := self.launcher.supervisor.batcher.busy_for) > self.options.hang_s:
                log.critical("the renderer has been at one call for %.0f s: this worker is of no use any more", busy)
                self._hung()
                return

    async def _weigh(self) -> None:
        full = await self.launcher.capacity()
        taken = full.running + max(full.starting, len(self._expected | self._taking))
        self.load = FULL if full.problem is not None or self.draining else min(FULL, taken / (full.most or 100))

    async def would_take(self, order: Order) -> bool:
        """Whether the session of an order would be begun here now."""
        await self._weigh()
        return self.load < min(FULL, order.below)

    # -- jobs

    @contextmanager
    def expecting(self, job: str) -> Iterator[None]:
        """A job that is accepted within ``with`` counts as a session already."""
        self._expected.add(job)
        try:
            yield
        finally:
            self._expected.discard(job)

    async def run_job(self, request: SessionRequest, order: Order, room: str, *, job: str = "") -> None:
        """Run the session of a job to its end. It ends when this is cancelled."""
        self._taking.add(job or order.id)
        try:
            service = await self._service(order.server) if order.server else None
            if service is not None and not await self._wanted(order, service):
                return
            session = await self._begin(request, order, room, service)
        finally:
            self._taking.discard(job or order.id)
        if session is None:
            return
        self._sessions[session.id] = session, service
        try:
            await session.wait()
        except VisavisError as failed:
            log.debug("session %s: %s", session.id, failed)
        finally:
            self._sessions.pop(session.id, None)
            with anyio.CancelScope(shield=True):
                await session.close("its job was ended")

    async def _wanted(self, order: Order, service: Service) -> bool:
        """Ask the server whether the session is to begin here: it may have offered it again, and another be ahead."""
        offer = self._offers[order.id, order.attempt] = _Offer()
        try:
            await service.tell({"taken": order.id, "attempt": order.attempt})
            with anyio.move_on_after(ANSWER_SECONDS):
                await offer.answered.wait()
        finally:
            del self._offers[order.id, order.attempt]
        if not offer.wanted:
            log.info("session %s is not begun here: its server has no answer, or another worker", order.id)
        return offer.wanted

    async def _answer(self, message: Message, payload: bytes) -> None:
        """A server's answer. Raises SessionError if nobody waits for it any more."""
        offer = self._offers.get((str(message.get("session")), int(message.get("attempt", 0))))
        if offer is None:
            raise SessionError("this worker does not wait for that session any more")
        offer.wanted = bool(message.get("wanted"))
        offer.answered.set()

    async def _begin(self, request: SessionRequest, order: Order, room: str, service: Service | None) -> Session | None:
        who = order.participant
        if not who.identity:
            who = Participant(identity=f"avatar-{request.avatar}-{order.id[-8:]}", attributes=_serves(request))
        way = {**request.transport, "url": self.options.url, "token": token_of(self.options, who, room)}
        try:
            session = await self.launcher.begin(
                request.model_copy(update={"transport": way}), session_id=order.id, inherited=order.inherited
            )
        except VisavisError as error:
            log.error("session %s did not start: %s", order.id, error, extra={"session": order.id, "room": room})
            if service is not None:
                await service.tell({"failed": order.id, "attempt": order.attempt, "error": told_error(error)})
            return None
        if service is not None:
            limits = told_limits(session.limits)
            await service.tell({"began": session.id, "attempt": order.attempt, "limits": limits})
            service.adopt(session)
        return session

    # -- shutting down

    async def drain(self) -> None:
        """Take on nothing more; give sessions their time to end, and then let other workers have them, silent."""
        self.draining = True
        await self._weigh()
        for service in list(self._services.values()):
            await service.tell({"draining": True})
        with anyio.move_on_after(self.options.drain_timeout_s):
            await self._until_empty()
        async with anyio.create_task_group() as tasks:
            for session, server in list(self._sessions.values()):
                tasks.start_soon(self._let_go, session, server)
        with anyio.move_on_after(SENTENCE_SECONDS):
            await self._until_empty()

    async def _let_go(self, session: Session, service: Service | None) -> None:
        try:
            if service is not None and service in self._services.values():
                await service.move(session, SENTENCE_SECONDS)
            else:  # nobody would begin it again
                await session.close("its worker shuts down", finish=True)
        except VisavisError as over:
            log.debug("session %s: %s", session.id, over)

    async def _until_empty(self) -> None:
        while self._sessions or self._taking:  # noqa: ASYNC110 - a count is polled, no event tells of it
            await anyio.sleep(0.05)


def _serves(request: SessionRequest) -> dict[str, str]:
    agent = request.transport.get("agent")
    return {"lk.publish_on_behalf": str(agent)} if agent else {}
