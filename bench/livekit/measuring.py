"""What the commands of this folder share: the clients, how a talk is measured, how figures are printed."""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import psutil
from subjects import AGENT, AVATAR, Subject, subject
from visavis.testing.livekit import reading
from visavis.testing.livekit.recording import Recording, Take, Times
from visavis.testing.livekit.sender import Sender, Utterance, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import Viewer, watching
from visavis_transport_livekit import native_log

Figures = dict[str, Any]
SETTLE = 2.0
"""Seconds after the first picture before anything is said: the receiver's buffers have found their size."""
PACE = 4.0
"""At how many times its own pace speech is sent: as a voice might be that is made while it speaks."""
SENT = 1.0
"""Seconds after an utterance was written in which it may still be under way to those in the room."""


@dataclass
class Talk:
    """A room with a subject, a viewer and a sender in it, for as long as its block lasts."""

    subject: Subject
    viewer: Viewer
    sender: Sender
    cpu: list[tuple[float, float]] = field(default_factory=list)

    def note_cpu(self) -> None:
        """Note the subject's processor time now."""
        self.cpu.append((time.monotonic(), self.subject.cpu()))

    def cores(self) -> float:
        """Processor seconds a second between the first and the last note."""
        (begin, used), (end, more) = self.cpu[0], self.cpu[-1]
        return (more - used) / (end - begin)

    async def silent(self, said: Utterance) -> None:
        """Wait until that utterance has been heard to its end, however long the receiver's buffer holds it."""
        await said.wait_finished(said.seconds + 30)
        await anyio.sleep(0.5)
        heard = [e for e in self.viewer.events if e["event"] in ("sound", "silence") and e["identity"] == AVATAR]
        if heard and heard[-1]["event"] == "sound":
            await self.viewer.until("silence", of=AVATAR, after=heard[-1]["t"])


class Room:
    """``async with Room(name, ...) as talk``: everybody joins, the first picture has come, all has settled."""

    def __init__(self, name: str, livekit: LiveKitServer, folder: Path, *, rate: int = 24_000, **options: Any) -> None:
        self._make: Callable[[str], Any] = lambda room: subject(name, livekit, room, rate, folder, **options)
        self._name, self._livekit = name, livekit

    async def __aenter__(self) -> Talk:
        async with AsyncExitStack() as stack:
            room = f"bench-{secrets.token_hex(4)}"
            viewer = await stack.enter_async_context(watching(self._livekit, room))
            sender = await stack.enter_async_context(speaking_to(self._livekit, room, AVATAR, identity=AGENT))
            who = await stack.enter_async_context(self._make(room))
            talk = Talk(who, viewer, sender)
            if who.name == "peer":  # it publishes nothing before it has something to say
                await anyio.sleep(1)
                await talk.silent(await sender.say(reading.steady(0.5, 24_000, level=0.01), 24_000))
            await sender.avatar_seen()
            try:
                await viewer.until("picture", of=AVATAR)
            except Exception as error:
                error.add_note(f"of {self._name}, in room {room}")
                raise
            await anyio.sleep(SETTLE)
            self._stack = stack.pop_all()
        return talk

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)


class Turns:
    """Talks beside each other: none begins before all are ready, and none is sent speech while another is.

    Whoever was always the last to be sent something would always be heard through the others' rush (``sync.py``).
    """

    def __init__(self, talks: int) -> None:
        self._missing = talks
        self._ready = anyio.Event()
        self._sending = anyio.Lock()

    async def ready(self) -> None:
        """Wait until all talks are."""
        self._missing -= 1
        if self._missing <= 0:
            self._ready.set()
        await self._ready.wait()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Speech may be sent within; nobody else's is under way then."""
        async with self._sending:
            yield
            await anyio.sleep(SENT)


def spread(values: Sequence[float] | Times, digits: int = 1) -> Figures:
    """Median, 2.5th and 97.5th percentile, the extremes and the number of some values."""
    if not len(values):
        return {"n": 0}
    array = np.asarray(values, np.float64)
    p = np.percentile(array, [50, 2.5, 97.5])
    names = ("median", "p2.5", "p97.5", "least", "most")
    found = dict(zip(names, (*p, array.min(), array.max()), strict=True))
    return {**{k: round(float(v), digits) for k, v in found.items()}, "n": len(array)}


def lengths(take: Take, said: Sequence[Utterance], expected: float) -> list[float]:
    """By how many ms each utterance was heard shorter (positive) or longer than it was sent; NaN if not heard."""
    found = []
    for utterance, following in zip(said, [*said[1:], None], strict=True):
        assert utterance.first_write is not None
        until = following.first_write if following is not None and following.first_write else math.inf
        span = reading.heard(take.sound, utterance.first_write, until)
        found.append(1000 * (expected - span.seconds) if span is not None else math.nan)
    return found


async def talk_beeps(
    name: str,
    livekit: LiveKitServer,
    folder: Path,
    *,
    seconds: float,
    rate: int = 24_000,
    chunk_ms: float = 100.0,
    pace: float = PACE,
    turns: Turns | None = None,
) -> Figures:
    """Flash and beep for so long: offset, drift, squeeze, gaps, sizes, latency, processor time.

    ``pace``: at how many times its own pace each utterance is sent. Talks that are measured beside each other share
    their ``turns``.
    """
    each = 10.0
    turns = turns or Turns(1)
    said: list[Utterance] = []
    async with Room(name, livekit, folder, rate=rate) as talk:
        await turns.ready()
        begin = time.monotonic()
        psutil.cpu_percent()
        talk.note_cpu()
        while time.monotonic() - begin < seconds:
            async with turns.turn():
                beeps = reading.beeps(each, rate)
                said.append(await talk.sender.say(beeps, rate, chunk_ms=chunk_ms, pace=pace))
            await talk.silent(said[-1])
        talk.note_cpu()
        cores, busy = talk.cores(), psutil.cpu_percent()
        seen = await talk.viewer.stop()
    return {
        **beep_figures(seen, said, each - 0.9, begin),
        "cpu, cores": round(cores, 3),
        "the machine was busy, %": busy,
    }


def beep_figures(seen: Recording, said: Sequence[Utterance], expected: float, begin: float) -> Figures:
    """What a talk of beeps says."""
    take = seen.of(AVATAR)
    offsets = reading.offsets(take.pictures, take.sound, stalls=seen.stalls)
    sent = reading.as_sent(offsets, seen, AVATAR)
    pictures = take.pictures.between(begin, math.inf)
    gaps = reading.gaps(pictures, stalls=seen.stalls)
    sizes = reading.sizes(pictures)
    squeezes = lengths(take, said, expected)
    firsts = [u.first_write for u in said if u.first_write is not None]
    starts = [reading.heard(take.sound, t, t + expected) for t in firsts]
    latencies = [1000 * (s.begin - t) for s, t in zip(starts, firsts, strict=True) if s is not None]
    return {
        "offset, ms": {**spread(offsets.ms), "unmatched": offsets.unmatched},
        "sound waits in the viewer's jitter buffer, ms": spread(reading.jitter_buffer(seen, AVATAR, begin)[1]),
        "offset without that wait, ms": spread(sent.ms),
        "drift of the offset, ms per 10 min": round(10 * reading.drift(offsets.at, offsets.ms), 1),
        "drift without that wait, ms per 10 min": round(10 * reading.drift(sent.at, sent.ms), 1),
        "squeeze of the first utterance, ms": round(squeezes[0], 1),
        "squeeze of the others, ms": spread([abs(s) for s in squeezes[1:]]),
        "first write -> heard, ms": spread(latencies, 0),
        "fps": round(gaps.fps, 2),
        "512x512, %": round(100 * sizes.get((512, 512), 0) / max(1, sum(sizes.values())), 1),
        "largest gap, ms": round(1000 * gaps.largest),
        "gaps over 120 ms": gaps.over,
        "gaps in the viewer's own stalls": gaps.excused,
    }


# -- commands


def arguments(about: str | None, *, seconds: float, subjects: str = "floor,peer,visavis") -> argparse.ArgumentParser:
    """The options that all commands have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=seconds, help=f"length of a measurement (default {seconds:g})")
    parser.add_argument("--json", type=Path, help="write all figures there")
    if subjects:
        parser.add_argument("--subjects", default=subjects, help=f"which are measured (default {subjects})")
    return parser


def paced(parser: argparse.ArgumentParser) -> None:
    """The option at which pace speech is sent."""
    about = f"send speech at so many times its own pace (default {PACE:g}; inf: all at once)"
    parser.add_argument("--pace", type=float, default=PACE, help=about)


def run(measure: Callable[[LiveKitServer, Path], Awaitable[Figures]], out: Path | None) -> Figures:
    """Start livekit-server, measure, print, write."""
    native_log.hush()  # the senders of this process would take more of the machine for their log than for sending

    async def main() -> Figures:
        with tempfile.TemporaryDirectory() as folder, LiveKitServer(Path(folder)) as livekit:
            figures = await measure(livekit, Path(folder))
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        return {**figures, "load of the machine (1, 5, 15 min)": f"{load} on {psutil.cpu_count()} cores"}

    figures = anyio.run(main, backend="asyncio")
    show(figures)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def show(figures: Mapping[str, Any]) -> None:
    """Print figures: a line each, a column for each subject."""
    subjects = [name for name, value in figures.items() if isinstance(value, Mapping) and is_subject(name)]
    rows = dict.fromkeys(row for name in subjects for row in figures[name])
    if subjects:
        print(f"{'':46}" + "".join(f"{name:>34}" for name in subjects))
    for row in rows:
        print(f"{row:46}" + "".join(f"{short(figures[name].get(row, '')):>34}" for name in subjects))
    for name, value in figures.items():
        if name not in subjects:
            print(f"{name:46} {short(value)}")


def is_subject(name: str) -> bool:
    """Whether figures of that name are a subject's."""
    kind, _, variant = name.partition(":")
    return kind in ("floor", "peer", "visavis") and " " not in variant


def short(value: Any) -> str:
    """A figure in few characters."""
    if isinstance(value, Mapping) and "median" in value:
        n = f" n={value['n']}" if "n" in value else ""
        return f"{value['median']:g} [{value['p2.5']:g}, {value['p97.5']:g}]{n}"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={short(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def ratio(figures: Mapping[str, Any], row: str, name: str = "visavis") -> float:
    """A figure of a subject against the floor's."""
    floor = figures["floor"][row]
    return round(figures[name][row] / floor, 2) if floor else math.nan
