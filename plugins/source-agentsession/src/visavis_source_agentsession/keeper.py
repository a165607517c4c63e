"""Keeps an agent's voice where it belongs: with the avatar while there is one, else on the agent's own track."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from livekit.agents import APIError
from livekit.agents.voice.io import AudioOutput
from visavis.errors import BadInput, PluginError, VisavisError

from visavis_source_agentsession.link import Link, Loss
from visavis_source_agentsession.route import Route
from visavis_source_agentsession.track import VoiceTrack

log = logging.getLogger("livekit.plugins.visavis")

FIRST_RETRY = 1.0
LONGEST_RETRY = 30.0
STEADY_SECONDS = 30.0
"""An avatar that lived this long is asked back at once, however often it was asked before."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do without the avatar. Times in seconds."""

    voice: bool = True
    """The agent goes on by its own track."""
    retry: bool = True
    """The avatar is asked back."""
    join_timeout: float = 20.0
    """How long speech waits for an avatar that was granted, before it counts as missing."""


class Missing(VisavisError):  # noqa: N818 - it is named after what it says
    """The avatar was granted and did not come."""


class Keeper:
    """Watches one link and leads one route. ``run`` is its task; ``release`` lets go of the avatar for good."""

    def __init__(
        self,
        route: Route,
        link: Link,
        policy: Policy,
        *,
        voice: Callable[[], AudioOutput],
        on_available: Callable[[], None],
        on_unavailable: Callable[[str, Exception | None, bool], None],
    ) -> None:
        self._route, self._link, self._policy = route, link, policy
        self._make_voice = voice
        self._voice: AudioOutput | None = None
        self._avatar: AudioOutput | None = None
        self._on_available, self._on_unavailable = on_available, on_unavailable
        self._told: tuple[bool, bool] | None = None  # whether there is an avatar, and whether it is asked back
        self._broken: tuple[AudioOutput, Exception] | None = None
        self._breaking = anyio.Event()
        self._keeping = anyio.CancelScope()
        self._released = anyio.Event()
        self._finishing = anyio.Event()
        route.on_broken = self._sink_broke

    async def run(self, failed: Exception | None = None) -> None:
        """Until ``finish``. ``failed`` is what came of asking, if it was asked for in vain."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._route.run)
                try:
                    with self._keeping:
                        await self._keep(tasks, failed)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._let_go(tasks)
                    self._released.set()
                await self._finishing.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._released.set()
            self._route.finish_all()
            with anyio.CancelScope(shield=True):
                await self._close_voice()

    async def release(self) -> None:
        """Let go of the avatar; the agent goes on by voice until ``finish``."""
        self._keeping.cancel()
        await self._released.wait()

    def finish(self) -> None:
        """The agent is over as well."""
        self._keeping.cancel()
        self._finishing.set()

    # -- the avatar comes and goes

    async def _keep(self, tasks: TaskGroup, failed: Exception | None) -> None:
        wait, asked = FIRST_RETRY, failed is None
        while True:
            if failed is not None:
                await self._missed(tasks, failed)
                wait = max(wait, getattr(failed, "retry_after", None) or 0.0)
            if not asked:
                await anyio.sleep(wait)
                wait = min(2 * wait, LONGEST_RETRY)
            try:
                if not asked:
                    await self._link.ask(patience=0.0)
                asked, failed = False, None
                sink = await self._join(tasks)
            except Exception as error:  # noqa: BLE001 - whatever an avatar fails with, the agent goes on
                asked, failed = False, error
                continue
            since = anyio.current_time()
            asked = await self._mourn(tasks, sink, await self._lose(sink))
            if anyio.current_time() - since > STEADY_SECONDS:
                wait = FIRST_RETRY

    async def _join(self, tasks: TaskGroup) -> AudioOutput:
        sink: AudioOutput | None = None
        await self._link.connected()
        with anyio.move_on_after(self._policy.join_timeout):
            sink = await self._link.join(tasks)
        if sink is None:
            raise Missing(f"the avatar did not join within {self._policy.join_timeout:g} s")
        self._avatar, self._breaking = sink, anyio.Event()
        self._route.lead_to(sink)
        self._told = (True, True)
        self._on_available()
        tasks.start_soon(self._close_voice)
        return sink

    async def _lose(self, sink: AudioOutput) -> Loss:
        """Wait until the avatar is lost, or its sink fails."""
        loss: list[Loss] = []

        async def watch() -> None:
            loss.append(await self._link.lost())
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self._breaking.wait()
            tasks.cancel_scope.cancel()
        if loss:
            return loss[0]
        error = self._broken[1] if self._broken is not None else None
        return Loss(f"it takes no more sound: {type(error).__name__}", anyio.current_time(), error=error)

    async def _mourn(self, tasks: TaskGroup, sink: AudioOutput, loss: Loss) -> bool:
        """Go on without the avatar; after an orderly end it is asked back when the agent speaks.

        Returns whether it came back unasked.
        """
        self._by_voice(tasks)
        self._route.lose(sink, heard_until=loss.alive_until)
        self._avatar = None
        self._say(loss.reason, loss.error, self._policy.retry)
        if self._policy.retry and await self._link.comes_back():
            return True
        await self._link.drop(loss.reason)
        if not self._policy.retry:
            await anyio.sleep_forever()
        if loss.orderly:
            await self._route.spoken_to()
        return False

    async def _missed(self, tasks: TaskGroup, error: Exception) -> None:
        """It could not be had; returns if it may be had later."""
        self._by_voice(tasks)
        again = self._policy.retry and _passing(error)
        self._say(getattr(error, "message", None) or str(error) or type(error).__name__, error, again)
        await self._link.drop("it did not join")
        if not again:
            await anyio.sleep_forever()

    def _say(self, reason: str, error: Exception | None, again: bool) -> None:
        if self._told == (False, again):
            log.debug("still no avatar: %s", reason)
            return
        self._told = (False, again)
        log.warning(
            "%s; the agent goes on %s%s",
            reason,
            "by voice" if self._policy.voice else "unheard",
            ", and the avatar is asked back" if again else "",
        )
        self._on_unavailable(reason, error, again)

    async def _let_go(self, tasks: TaskGroup) -> None:
        """The avatar is dismissed; the agent goes on by voice."""
        avatar, self._avatar = self._avatar, None
        self._by_voice(tasks)
        if avatar is not None:
            self._route.lose(avatar, heard_until=anyio.current_time())
        await self._link.aclose()

    def _sink_broke(self, sink: AudioOutput, error: Exception) -> bool:
        """Whether another sink will take over."""
        if sink is not self._avatar:
            return False
        self._broken = (sink, error)
        self._breaking.set()
        return True

    # -- the agent's own track

    def _by_voice(self, tasks: TaskGroup) -> None:
        if not self._policy.voice:
            self._route.lead_to(None)
            return
        if self._voice is None:
            self._voice = self._make_voice()
            if isinstance(self._voice, VoiceTrack):
                tasks.start_soon(self._voice.run)
        self._route.lead_to(self._voice)

    async def _close_voice(self) -> None:
        """Take the agent's own track back, once it has said what it began."""
        voice, self._voice = self._voice, None
        if isinstance(voice, VoiceTrack):
            await self._route.done_with(voice)
            await voice.aclose()


def _passing(error: Exception) -> bool:
    """Whether it may be otherwise in a while."""
    return error.retryable if isinstance(error, APIError) else not isinstance(error, (BadInput, PluginError))
