"""The server: it listens, watches the avatars, and drains when it is told to stop."""

from __future__ import annotations

import logging
import socket
from contextlib import aclosing

import anyio
from visavis.interfaces.avatar import AvatarStore
from visavis.interfaces.launcher import Launcher
from visavis.interfaces.server import Server
from visavis.metrics import Metrics

from visavis_server_http.app import make_app
from visavis_server_http.desk import Desk
from visavis_server_http.listening import Listener, bind, listener
from visavis_server_http.options import HttpServerOptions
from visavis_server_http.telemetry import PrometheusMetrics, SessionsNow

log = logging.getLogger("visavis.server.http")

WARM_FRAMES = 10
"""Pictures that are drawn for nobody when an avatar is loaded ahead."""


class HttpServer(Server):
    """Serves one launcher. ``metrics`` is told by ``/metrics``: give the same to the launcher."""

    def __init__(self, options: HttpServerOptions, metrics: PrometheusMetrics | None = None) -> None:
        self.options = options
        self.metrics: Metrics = metrics if metrics is not None else PrometheusMetrics()
        self.listening = anyio.Event()
        """Set once it answers."""
        self.address = ("", 0)
        """Where it listens, once it does."""
        self._stop = anyio.Event()
        self._hurry = anyio.Event()
        self._warmed: set[str] = set()

    @property
    def hurried(self) -> bool:
        """Whether it was told twice to stop."""
        return self._hurry.is_set()

    def stop(self) -> None:
        """Take on nothing more, let sentences finish, then end :meth:`run`. A second call lets nothing finish."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self, launcher: Launcher, store: AvatarStore) -> None:
        """Serve until cancelled, or until :meth:`stop`; then drain. Raises BadInput if the address is taken."""
        sock = bind(self.options)
        try:
            async with Desk(self.options, launcher, store, self.metrics) as desk:
                if isinstance(self.metrics, PrometheusMetrics):
                    self.metrics.watch(SessionsNow(desk))
                await self._serve(desk, store, sock)
        finally:
            sock.close()

    async def _serve(self, desk: Desk, store: AvatarStore, sock: socket.socket) -> None:
        server = listener(make_app(desk), self.options)
        desk.warm = not self.options.load_ahead
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, desk, store)
            tasks.start_soon(self._warm, desk)
            try:
                tasks.start_soon(self._listen, server, sock)
                await self._stop.wait()
                log.info("draining: no new session is taken on, %d run", desk.active())
                if not await desk.drain(self.options.drain_timeout_s, self._hurry):
                    log.warning("sessions were ended before they had finished")
            finally:
                server.should_exit = True
                tasks.cancel_scope.cancel()

    async def _listen(self, server: Listener, sock: socket.socket) -> None:
        """Until ``should_exit``: requests under way are answered even when all else is cancelled."""
        with anyio.CancelScope(shield=True):
            self.address = sock.getsockname()[:2]
            log.info("listening on %s", self.url)
            self.listening.set()
            await server.serve(sockets=[sock])

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _warm(self, desk: Desk) -> None:
        """Load avatars before they are asked for, so that the first session starts as quickly as the next."""
        try:
            usable = [entry for entry in await desk.avatars() if entry.problem is None]
            usable.sort(key=lambda entry: entry.builtin)
            for entry in usable[: self.options.load_ahead]:
                await self._warm_one(desk, entry.id)
        finally:
            desk.warm = True

    async def _warm_one(self, desk: Desk, avatar_id: str) -> None:
        try:
            took = await desk.launcher.rehearse(avatar_id, WARM_FRAMES)
        except Exception as error:  # noqa: BLE001 - one avatar, or a renderer that fails on it, stops nobody
            log.warning("the avatar could not be loaded ahead: %s", error, extra={"avatar": avatar_id})
            return
        frame = sorted(took)[len(took) // 2] if took else 0.0
        self._warmed.add(avatar_id)
        log.info("avatar loaded", extra={"avatar": avatar_id, "frame_seconds": round(frame, 4)})

    async def _watch(self, desk: Desk, store: AvatarStore) -> None:
        """Note what happens to the avatars; the list itself is always made of what is there."""
        try:
            async with aclosing(store.changes()) as changes:  # type: ignore[type-var]
                async for change in changes:
                    log.info("avatar %s", change.kind, extra={"avatar": change.id})
                    self.metrics.count("visavis_avatar_changes_total", kind=change.kind)
                    if change.kind == "replaced" and change.id in self._warmed:
                        await self._warm_one(desk, change.id)
        except Exception as error:  # noqa: BLE001 - the list is made anew for each request: nothing depends on this
            log.warning("changes of avatars are not told of any more: %s", error)
