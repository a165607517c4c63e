"""LiveKit's own agents worker around a host: it registers, reports the load, and hands over the jobs it is given.

Jobs are run by threads (``JobExecutorType.THREAD``), which only wait: the sessions all live in this process's one event
loop, so that they share the weights of their avatars and the renderer's calls. A process for each job, the library's
default, would hold a copy of every avatar for every session.

A job's own participant never joins its room: LiveKit ends a job as soon as the participant of its identity leaves, and
a successor enters under the identity of the one that died, which puts that one out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from livekit.agents import AgentServer, JobContext, JobExecutorType, JobRequest
from livekit.agents.worker import ServerType
from visavis.errors import ConfigError
from visavis.redaction import redacted

from visavis_launcher_livekit.host import FULL, Host
from visavis_launcher_livekit.options import DispatchOptions
from visavis_launcher_livekit.order import read_metadata

log = logging.getLogger("visavis.worker")

WAITING_THREADS: Final = 4
"""Threads that are kept ready for jobs; the library takes a job for that share of a worker while there is none."""
THRESHOLD: Final = 0.999
"""Only a worker that is full is unavailable: the cost of a session is known, not guessed."""
TARGET: Final = 0.65
"""The load that is told of a worker that is all but full. LiveKit offers no job while no worker's is below 0.7, its
setting ``agents.target_load``: told as it is, a lone worker would never be given the last third of its sessions."""
ENDING_SECONDS: Final = 20.0


def told_load(load: float) -> float:
    """What LiveKit is told of how full a worker is, 0 to 1: it offers jobs by weighted chance, few to the fuller."""
    return 1.0 if load >= FULL else TARGET * load


class Agent:
    """The agents worker of a host."""

    def __init__(self, options: DispatchOptions, host: Host) -> None:
        secret = options.api_secret
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._server = AgentServer(
            job_executor_type=JobExecutorType.THREAD,
            num_idle_processes=WAITING_THREADS,
            load_fnc=lambda: told_load(host.load),
            load_threshold=THRESHOLD,
            ws_url=options.url,
            api_key=options.api_key,
            api_secret=secret.get_secret_value() if secret is not None else None,
            host=options.health_host,
            port=options.health_port,
            shutdown_process_timeout=ENDING_SECONDS,
        )
        self._server.rtc_session(
            self._entrypoint, agent_name=options.agent_name, type=ServerType.ROOM, on_request=self._request
        )

    async def run(self, registered: Callable[[str], Any]) -> None:
        """Serve until closed; ``registered`` is told our id each time LiveKit knows us."""
        self._server.on("worker_registered", lambda worker_id, info: registered(worker_id))
        await self._server.run(devmode=False)

    async def refuse(self) -> None:
        """Report that no further job is taken, and wait for those under way."""
        await self._server.drain(timeout=None)

    async def aclose(self) -> None:
        """Unregister."""
        await self._server.aclose()

    async def _request(self, request: JobRequest) -> None:
        try:
            _, order = read_metadata(request.job.metadata)
        except ConfigError as error:
            log.error("the job %s cannot be done: %s", request.id, error)
            await request.reject(terminate=True)
            return
        if not await self._host.would_take(order):
            await request.reject(terminate=False)  # another worker may
            return
        with self._host.expecting(request.id):
            await request.accept(identity=f"visavis-{request.id}")

    async def _entrypoint(self, context: JobContext) -> None:
        """In a thread and an event loop of its own: hand the job to the host's loop, and wait for its end."""
        request, order = read_metadata(context.job.metadata)
        if not order.id:
            order = order.model_copy(update={"id": context.job.id})
        work = self._host.run_job(request, order, context.job.room.name, job=context.job.id)
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            await asyncio.wrap_future(running)
        except Exception as error:  # noqa: BLE001 - one job's failure is told, and hurts no other
            log.error("the job %s failed: %s", context.job.id, redacted(f"{type(error).__name__}: {error}"))
        finally:
            running.cancel()
            context.shutdown("the session is over")
