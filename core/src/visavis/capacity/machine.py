"""What processes of this machine spend: processor time and memory, by the operating system's account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psutil


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds so far, and bytes now."""

    server: float
    """Of this process and those that it started, but for the audience's."""
    audience: float
    """Of the audience's processes."""
    machine: float
    """Of everybody."""
    processors: int
    """How many the machine has."""
    memory: int
    """Bytes that the server's processes have for themselves (USS)."""


SPENT: Final = ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc")
"""What counts as busy, of what one or the other operating system tells; "user" has a guest's time in it."""
Account = Callable[[Sequence[int]], Reading]
"""Reads it; given the ids of the audience's processes."""


def account() -> Account:
    """The account of this process."""
    this = psutil.Process()

    def spent(process: psutil.Process) -> float:
        used = process.cpu_times()
        return float(used.user + used.system)

    def read(audience: Sequence[int]) -> Reading:
        times = psutil.cpu_times()
        machine = sum(float(getattr(times, name, 0.0)) for name in SPENT)
        server, watching, memory = 0.0, 0.0, 0
        for process in [this, *this.children(recursive=True)]:
            try:
                if process.pid in audience:
                    watching += spent(process)
                else:
                    server += spent(process)
                    memory += process.memory_full_info().uss
            except psutil.NoSuchProcess:
                continue  # it has ended between the two looks
        return Reading(server, watching, machine, psutil.cpu_count() or 1, memory)

    return read
