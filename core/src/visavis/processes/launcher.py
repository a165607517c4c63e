"""Hands sessions to worker processes, and replaces those that die, hang or have grown too large."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import anyio
from anyio.abc import TaskStatus

from visavis.config import Deployment, Limits
from visavis.errors import AtCapacity, SessionError, VisavisError
from visavis.interfaces.session import SessionRequest
from visavis.metrics import Metrics
from visavis.processes.hiring import Hire, Hired, hired
from visavis.processes.options import ProcessOptions
from visavis.processes.orders import orders
from visavis.remote.figures import FiguresIn
from visavis.remote.launcher import STOPS, RemoteLauncher
from visavis.remote.session import RemoteSession
from visavis.remote.wire import WireClosed
from visavis.remote.worker import RemoteWorker
from visavis.session import single
from visavis.supervisor.admission import RETRY_AFTER, processors

log = logging.getLogger("visavis.launcher")

CORES_EACH: Final = 2
"""Processors for a worker: its renderer keeps one busy, encoding and the network the other."""
LEAST_WORKERS: Final = 2
"""A crash ends half of the sessions at most."""
WEIGHING_SECONDS: Final = 2.0
STOPPING_SECONDS: Final = 25.0
"""How long workers may take to end their sessions when the launcher is left."""
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to replace a worker that dies before it is ready."""


@dataclass(eq=False)
class _Employee:
    """A worker and its process. ``worn`` is set once it should be replaced, ``retired`` once it was told to end."""

    worker: RemoteWorker
    process: Hired
    worn: anyio.Event = field(default_factory=anyio.Event)
    weight: int = 0
    retired: bool = False


class ProcessLauncher(RemoteLauncher):
    """Sessions run in worker processes. An async context manager: entering it waits until all workers are ready.

    ``hire`` starts a worker; by default a process.
    """

    def __init__(
        self,
        options: ProcessOptions,
        deployment: Deployment,
        *,
        metrics: Metrics | None = None,
        hire: Hire = hired,
    ) -> None:
        super().__init__(deployment, metrics=metrics)
        self.options = options
        self._hire = hire
        self._figures = FiguresIn(self.metrics)
        self._employees: list[_Employee] = []
        self._warm = list(deployment.prewarm)
        self._made = 0
        self._stack = AsyncExitStack()

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        if isinstance(self.options.workers, int):
            return self.options.workers
        return len(self.options.gpus) or max(LEAST_WORKERS, processors() // CORES_EACH)

    @property
    def workers(self) -> list[RemoteWorker]:
        """The workers that are ready, those included that take no further session."""
        return [employee.worker for employee in self._employees]

    # -- its life

    async def __aenter__(self) -> ProcessLauncher:
        """Start the workers and wait until all are ready. Raises why one cannot be, a VisavisError."""
        try:
            async with AsyncExitStack() as stack:
                self._tasks = await stack.enter_async_context(anyio.create_task_group())
                async with anyio.create_task_group() as starting:
                    for seat in range(self.wanted):
                        starting.start_soon(self._take_seat, seat)
                self._tasks.start_soon(self.tell_load)
                self._stack = stack.pop_all()
        except BaseExceptionGroup as group:
            raise single(group) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Have the workers end all sessions and themselves; those that do not are killed."""
        self.close_all()
        try:
            with anyio.move_on_after(STOPPING_SECONDS):
                async with anyio.create_task_group() as stopping:
                    for employee in self._employees:
                        stopping.start_soon(self._stop, employee)
        finally:
            self._tasks.cancel_scope.cancel()
            try:
                left = await self._stack.__aexit__(kind, error, trace)
            finally:
                for session in list(self._sessions.values()):
                    self._report(session, SessionError(f"{STOPS}, and its worker did not answer"))
        return left

    async def _stop(self, employee: _Employee) -> None:
        employee.retired = True
        await employee.worker.stop()
        await employee.worker.gone.wait()

    async def _take_seat(self, seat: int) -> None:
        await self._tasks.start(self._keep, seat)

    async def _keep(self, seat: int, *, task_status: TaskStatus[None]) -> None:
        """Keep a seat taken: whoever leaves it is replaced, and whoever is worn once the replacement is there."""
        employee: _Employee = await self._tasks.start(self._employ, seat)
        task_status.started()
        while True:
            await employee.worn.wait()
            if self._closing:
                return
            successor = await self._replacement(seat)
            employee.worker.taking = False  # not before: nobody is refused meanwhile
            employee = successor

    async def _replacement(self, seat: int) -> _Employee:
        pause = 0.0
        while True:
            try:
                made: _Employee = await self._tasks.start(self._employ, seat)
                return made
            except VisavisError as error:
                pause = min(LONGEST_PAUSE, 2 * pause + 1)
                log.error("worker %d could not be replaced: %s; next attempt in %g s", seat, error, pause)
                await anyio.sleep(pause)

    # -- one worker

    async def _employ(self, seat: int, *, task_status: TaskStatus[_Employee]) -> None:
        """One worker from its start to its end."""
        self._made += 1
        name = f"{seat}.{self._made}"
        employee: _Employee | None = None
        try:
            async with self._hire(self._orders(), self._environment(seat)) as process:
                worker = RemoteWorker(process.wire, name, self.spawn, figures=self._figures, ended=self.ended)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(worker.listen)
                    await self._until_ready(worker)
                    employee = _Employee(worker, process, weight=process.weigh())
                    self._employees.append(employee)
                    self._count()
                    log.info("worker %s is ready, process %d", name, process.pid)
                    task_status.started(employee)
                    tasks.start_soon(worker.watch, self.options.hang_s)
                    tasks.start_soon(self._oversee, employee)
                    await worker.gone.wait()
                    process.kill()
                    self._dismiss(employee)
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - one worker's failure must not end the others
            if employee is None:
                raise single(error) from None
            log.error("worker %s: %s", name, single(error))
        finally:
            if employee is not None:
                self._dismiss(employee)

    async def _until_ready(self, worker: RemoteWorker) -> None:
        async def until_gone(scope: anyio.CancelScope) -> None:
            await worker.gone.wait()
            scope.cancel()

        limit = self.options.start_timeout_s
        with anyio.move_on_after(limit):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(until_gone, tasks.cancel_scope)
                await worker.ready.wait()
                tasks.cancel_scope.cancel()
        if not worker.ready.is_set():
            why = worker.why if worker.gone.is_set() else f"it was not ready within {limit:g} s"
            worker.give_up(why)
            raise SessionError(f"a worker process could not start: {why}", hint="its log says more")

    def _dismiss(self, employee: _Employee) -> None:
        """It is gone: its sessions are begun again elsewhere, and its seat is free."""
        if employee in self._employees:
            self._employees.remove(employee)
            self._count()
            if not self._closing and not employee.retired:
                self.metrics.count("visavis_workers_lost_total")
                log.error("worker %s is gone: %s", employee.worker.name, employee.worker.why)
        employee.worker.give_up("it was let go")
        self.lose(employee.worker)
        employee.worn.set()

    async def _oversee(self, employee: _Employee) -> None:
        """Have it replaced once it is worn, and end it once it then is idle."""
        worker = employee.worker
        while True:
            await anyio.sleep(WEIGHING_SECONDS)
            if not employee.worn.is_set() and (why := self._worn(employee)):
                log.info("worker %s is to be replaced: %s", worker.name, why)
                self.metrics.count("visavis_workers_recycled_total")
                employee.worn.set()
            if not worker.taking and not worker.sessions and not worker.starting:
                employee.retired = True
                await worker.stop()
                with anyio.move_on_after(STOPPING_SECONDS):
                    await worker.gone.wait()
                worker.give_up("it has retired")

    def _worn(self, employee: _Employee) -> str:
        most, growth = self.options.recycle_sessions, self.options.recycle_growth_mb
        if most is not None and employee.worker.started >= most:
            return f"it has had {employee.worker.started} sessions"
        grown = (employee.process.weigh() - employee.weight) / 1e6
        if growth is not None and grown > growth:
            return f"its memory has grown by {grown:.0f} MB"
        return ""

    def _orders(self) -> dict[str, object]:
        limits = self.deployment.limits
        each = self.options.sessions_per_worker
        most = each if isinstance(each, int) else limits.max_sessions
        told = Limits.model_validate({**limits.model_dump(), "max_sessions": most})
        return orders(self.deployment, limits=told, prewarm=tuple(self._warm), cores=processors() / self.wanted)

    def _environment(self, seat: int) -> dict[str, str]:
        gpus = self.options.gpus
        return {"CUDA_VISIBLE_DEVICES": str(gpus[seat % len(gpus)])} if gpus else {}

    def _count(self) -> None:
        self.metrics.gauge("visavis_workers", len(self._employees))

    # -- sessions

    async def place(self, session: RemoteSession, request: SessionRequest) -> None:
        """Start a session in the worker that has most room; in the next one if that takes on no more."""
        full: AtCapacity | None = None
        tried: set[RemoteWorker] = set()
        while True:
            free = [w for w in self.workers if w.taking and w not in tried and w.capacity.problem is None]
            if not free:
                raise full or AtCapacity(self.problem() or "all workers are busy", retry_after=RETRY_AFTER)
            worker = min(free, key=lambda one: one.load)
            try:
                await worker.start(session, request)
                return
            except AtCapacity as error:
                full = error
                tried.add(worker)
            except WireClosed:  # it has just died: nothing was begun there
                tried.add(worker)

    async def rehearse(self, avatar: str, frames: int) -> list[float]:
        """As every launcher of workers; those that come later have the avatar in memory, too."""
        took = await super().rehearse(avatar, frames)
        if avatar not in self._warm:
            self._warm.append(avatar)
        return took
