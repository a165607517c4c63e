"""The life of a session from the server's side: started, watched until it is over, ended."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import anyio
from visavis.errors import VisavisError
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.session import SessionRequest
from visavis.metrics import Metrics
from visavis.redaction import redacted

from visavis_server_http import accounting, errors
from visavis_server_http.entries import Entry, Ledger
from visavis_server_http.errors import ApiError

log = logging.getLogger("visavis.server.http")

SHUTDOWN: Final = "the server shuts down"
CLOSING_S: Final = 10.0
"""How long a session that was told to end may take before its caller is answered all the same."""


class Lives:
    """Runs entries: one task each, which finishes its entry whatever happens."""

    def __init__(self, launcher: Launcher, ledger: Ledger, metrics: Metrics, start_timeout_s: float) -> None:
        self._launcher, self._ledger, self._metrics = launcher, ledger, metrics
        self._start_timeout_s = start_timeout_s

    async def run(self, entry: Entry, request: SessionRequest, held: Entry | None) -> None:
        """Start a session, after ``held`` in whose place it comes has ended, and watch it until it is over.

        Cancelled, it ends the session without waiting for it.
        """
        try:
            await self._live(entry, request, held)
        finally:
            if entry.active:
                if entry.handle is not None:
                    with anyio.CancelScope(shield=True):
                        await entry.handle.close(SHUTDOWN)
                if entry.started_at is None:
                    entry.failure = errors.draining()
                entry.finish("cancelled", entry.stopping or SHUTDOWN)
                accounting.ended(entry, self._metrics)

    async def _live(self, entry: Entry, request: SessionRequest, held: Entry | None) -> None:
        try:
            with entry.scope:
                if held is not None:
                    await self.end(held, "replaced by a new session")
                with anyio.fail_after(self._start_timeout_s):
                    entry.handle = await self._launcher.start(request)
        except Exception as error:  # noqa: BLE001 - whatever made it fail is its caller's to know
            self._failed(entry, self._why(entry, error))
            return
        if entry.handle is None:
            stopped = ApiError(409, "SESSION_STOPPED", f"it was stopped: {entry.stopping}")
            self._failed(entry, errors.draining() if entry.stopping == SHUTDOWN else stopped)
            return
        entry.limits = entry.handle.limits
        accounting.running(entry, self._metrics)
        entry.settled.set()
        await self._until_over(entry)

    def _why(self, entry: Entry, error: Exception) -> ApiError:
        if isinstance(error, TimeoutError):
            limit = self._start_timeout_s
            return ApiError(502, "ROOM_JOIN_FAILED", f"the session did not start within {limit:g} s", {"step": "start"})
        told = errors.from_start(error)
        if told.status == 500:
            log.error("a session could not be started", exc_info=error, extra=accounting.about(entry))
        told.message = redacted(told.message)
        return told

    def _failed(self, entry: Entry, failure: ApiError) -> None:
        entry.failure = failure
        if entry.finish("cancelled" if entry.stopping else "failed", entry.stopping or failure.code, failure.message):
            accounting.ended(entry, self._metrics)

    async def _until_over(self, entry: Entry) -> None:
        handle = entry.handle
        assert handle is not None
        error: str | None = None
        try:
            if entry.stopping:
                await handle.close(entry.stopping)
            await handle.wait()
        except VisavisError as failed:
            error = redacted(str(failed))
        except Exception as failed:
            log.error("a session broke", exc_info=failed, extra=accounting.about(entry))
            error = f"a defect: {type(failed).__name__}"
        try:
            entry.stats = await handle.stats()
        except VisavisError as gone:
            log.info("its last figures are lost: %s", redacted(str(gone)), extra=accounting.about(entry))
        reason = entry.stopping or redacted(entry.stats.reason) or ("error" if error else "ended")
        entry.finish("failed" if error else "cancelled" if entry.stopping else "completed", reason, error)
        entry.handle = None
        accounting.ended(entry, self._metrics)

    async def end(self, entry: Entry, reason: str, *, finish: bool = False) -> None:
        """End a session and wait for it: with ``finish`` until all that was begun was said, else a few seconds."""
        if not entry.active:
            return
        entry.stopping = entry.stopping or reason
        if entry.handle is None:
            entry.scope.cancel()
        else:
            await entry.handle.close(reason, finish=finish)
        with anyio.move_on_after(None if finish else CLOSING_S):
            await entry.over.wait()

    async def end_all(self, reason: str, *, finish: bool = False) -> None:
        """End all sessions at once."""
        async with anyio.create_task_group() as tasks:
            for entry in self._ledger.active():
                tasks.start_soon(partial(self.end, entry, reason, finish=finish))

    async def drain(self, timeout_s: float, hurry: anyio.Event | None) -> bool:
        """Let sentences finish, at most so long or until ``hurry``; then end what is left.

        Returns whether all ended by themselves in time.
        """
        with anyio.move_on_after(timeout_s) as waiting:
            async with anyio.create_task_group() as tasks:
                if hurry is not None:
                    tasks.start_soon(_cancel_on, hurry, waiting)
                await self.end_all(SHUTDOWN, finish=True)
                tasks.cancel_scope.cancel()
        if not self._ledger.active():
            return True
        with anyio.move_on_after(CLOSING_S):
            await self.end_all(SHUTDOWN)
        return False


async def _cancel_on(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
