"""An avatar that is drawn inside the agent's own process. Needs the extra ``local``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from livekit import rtc
from visavis.config import Deployment, load_deployment, make_deployment
from visavis.config.deployment import DEFAULT_USE
from visavis.errors import ConfigError, VisavisError
from visavis.interfaces.session import SessionLimits, SessionRequest
from visavis.plugins import Kind
from visavis.registry import Registry
from visavis.session import Session, single
from visavis.supervisor import Supervisor

from visavis_source_agentsession.link import Link, Loss
from visavis_source_agentsession.voice import AgentVoice

log = logging.getLogger("livekit.plugins.visavis")

DEFAULTS = {**DEFAULT_USE, Kind.SOURCE: "agentsession", Kind.TRANSPORT: "livekit"}
ENDING_SECONDS = 10.0


def local_deployment(
    avatar: str | None, pipeline: str | os.PathLike[str] | None, limits: Mapping[str, float]
) -> tuple[Deployment, SessionRequest]:
    """What to run: a pipeline file, or the defaults for an avatar. ``avatar`` goes before the file's.

    Raises ConfigError for a file that does not fit, or is not for an agent.
    """
    registry = Registry.discover()
    if pipeline is not None:
        deployment = load_deployment(pipeline, registry, defaults=DEFAULTS)
    else:
        sections: dict[str, Any] = {"limits": {"idle_timeout_s": None}}
        deployment = make_deployment(sections, registry, defaults=DEFAULTS)
    if deployment.source.name != "agentsession":
        raise ConfigError(
            f"{pipeline}: its source is {deployment.source.name!r}, so it would not hear the agent",
            hint="write `source: {use: agentsession}`",
        )
    request = deployment.session or SessionRequest()
    update: dict[str, Any] = {"limits": SessionLimits(**limits)} if limits else {}
    if avatar is not None:
        update["avatar"] = avatar
    return deployment, request.model_copy(update=update)


class LocalLink(Link):
    """Runs the pipeline in the agent's event loop (it draws in worker threads), in the agent's own room."""

    def __init__(self, room: rtc.Room, deployment: Deployment, request: SessionRequest) -> None:
        super().__init__(room)
        self._deployment, self._request = deployment, request
        self._session: Session | None = None
        self._over = anyio.Event()
        self._loss: Loss | None = None

    @property
    def identity(self) -> str:
        """The agent's own: the avatar's tracks are the agent's."""
        return str(self._room.local_participant.identity)

    async def ask(self, *, patience: float | None = None) -> None:
        """There is nobody to ask."""

    async def join(self, tasks: TaskGroup) -> AgentVoice:
        """Start the pipeline; it has published when this returns. Raises what it fails with."""
        voice = AgentVoice()
        self._over, self._loss = anyio.Event(), None
        await tasks.start(self._run, voice)
        await voice.attached()
        return voice

    async def _run(self, voice: AgentVoice, *, task_status: TaskStatus[None]) -> None:
        started = False
        over = self._over
        try:
            resources: dict[type[Any], Any] = {rtc.Room: self._room, AgentVoice: voice}
            async with Supervisor(self._deployment) as supervisor:
                async with supervisor.session(self._request, resources=resources) as session:
                    self._session = session
                    async with anyio.create_task_group() as tasks:
                        await tasks.start(session.run)
                        started = True
                        task_status.started()
            reason = session.reason or "it was over"
            self._loss = Loss(f"the avatar left: {reason}", anyio.current_time(), orderly=True)
        except Exception as error:  # noqa: BLE001 - a pipeline that fails must not take the agent with it
            cause = single(error)
            if not started:
                raise cause from None
            self._loss = Loss(f"the avatar failed: {_words(cause)}", anyio.current_time(), error=error)
        finally:
            self._session = None
            over.set()

    async def lost(self) -> Loss:
        """Wait until the pipeline has ended."""
        await self._over.wait()
        return self._loss or Loss("the avatar's pipeline was stopped", anyio.current_time())

    async def drop(self, reason: str) -> None:
        """End the pipeline; its tracks are unpublished."""
        session = self._session
        if session is not None:
            with anyio.move_on_after(ENDING_SECONDS, shield=True):
                await session.close(reason)
                await self._over.wait()


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, VisavisError) else type(error).__name__
