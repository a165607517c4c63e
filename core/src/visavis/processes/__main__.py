"""A worker process: a launcher ``local`` of its parent's deployment, served on the socket that it was given.

It ends when its parent says so, or is gone; signals are its parent's to judge.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import anyio
from anyio.abc import UNIXSocketStream

from visavis.errors import VisavisError
from visavis.processes.orders import deployment_of
from visavis.registry import Registry
from visavis.remote.figures import FiguresOut
from visavis.remote.logs import LogsOut, collect
from visavis.remote.service import Service
from visavis.remote.telling import told_error
from visavis.remote.wire import StreamWire, Wire, WireClosed
from visavis.session import single
from visavis.supervisor import LocalLauncher
from visavis.workers import settle, take_short_turns

log = logging.getLogger("visavis.worker")


async def work(wire: Wire) -> None:
    """Take orders, serve, and tell how all ended. Raises WireClosed if the parent is gone before."""
    told, _ = await wire.receive()
    orders = told["orders"]
    logs = collect(orders["levels"])
    try:
        deployment = deployment_of(orders, Registry.discover())
        figures = FiguresOut()
        await serve(wire, LocalLauncher(deployment, metrics=figures, cores=orders["cores"]), figures, logs)
    except Exception as error:
        cause = single(error)
        if not isinstance(cause, VisavisError):
            log.error("the worker cannot go on", exc_info=cause)
        await wire.send({"refused": told_error(cause)})


async def serve(wire: Wire, launcher: LocalLauncher, figures: FiguresOut, logs: LogsOut | None) -> None:
    """Serve a launcher for as long as the wire lasts, then end its sessions."""
    async with launcher:
        settle()
        service = Service(wire, launcher, figures=figures, logs=logs)
        await service.run()
    await service.farewell()


async def _main(descriptor: int) -> None:
    wire = StreamWire(await UNIXSocketStream.from_socket(descriptor))
    try:
        await work(wire)
    except WireClosed:
        return  # nobody is there to be told
    finally:
        await wire.aclose()


def main() -> None:
    """Run one worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group: sentences are finished first
    take_short_turns()
    anyio.run(_main, int(sys.argv[1]))
    sys.stderr.flush()
    # All is closed by now. Threads of engines that end with the interpreter are known to abort it.
    os._exit(0)


if __name__ == "__main__":
    main()
