"""The renderer ``auto``: tries what works here on the first avatar that is loaded, and keeps the quickest."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from visavis.errors import RendererError
from visavis.hvia import Hvia
from visavis.interfaces.renderer import LoadedAvatar, Renderer, RenderInput, RenderSession
from visavis.media import VideoFrame
from visavis.plugins import Kind, RendererPlugin
from visavis.registry import Registry

log = logging.getLogger("visavis.renderer.auto")

AUTO: Final = "auto"
STEPS: Final = 12
"""Steps that are timed."""
PATIENCE: Final = 1.5
"""Seconds after which the timing of a renderer ends; one step is always timed."""
HOPELESS: Final = 0.2
"""A renderer that takes so many seconds for one picture is not tried with several sessions."""


@dataclass(frozen=True)
class Candidate:
    """A renderer to try: its name, its record, and options besides its defaults."""

    name: str
    record: RendererPlugin
    options: Mapping[str, Any]

    def __str__(self) -> str:
        told = ", ".join(f"{key}: {value}" for key, value in self.options.items())
        return f"{self.name} ({told})" if told else self.name


@dataclass(frozen=True)
class Trial:
    """How a candidate did: seconds a picture with ``sessions`` at once, or why it cannot be used."""

    name: str
    sessions: int = 0
    seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name} cannot be used ({self.problem})"
        return f"{self.name} {1000 * self.seconds:.2f} ms a picture, {self.sessions} at once"


def candidates(registry: Registry, among: Sequence[str] = ()) -> Iterator[Candidate | Trial]:
    """The renderers to try, and those that say themselves that they cannot work here (as trials with a problem)."""
    for item in registry.all(Kind.RENDERER):
        if item.name == AUTO or (among and item.name not in among):
            continue
        record: RendererPlugin = item.record
        try:
            problem = record.check() if record.check is not None else None
            trials = list(record.trials()) if record.trials is not None and problem is None else []
        except Exception as error:  # noqa: BLE001 - a check is the plugin's: whatever it raises is its answer
            problem, trials = f"{type(error).__name__}: {error}", []
        if problem is not None:
            yield Trial(item.name, problem=problem)
            continue
        for options in ({}, *trials):
            yield Candidate(item.name, record, options)


def try_out(renderer: Renderer, avatar: Hvia, name: str, sessions: int) -> Trial:
    """How long a renderer takes for a picture of somebody who speaks. Raises what the renderer raises."""
    loaded = renderer.load(avatar)
    with ExitStack() as stack:
        stack.callback(loaded.close)
        single = _timed(renderer, loaded, 1)
        if single > HOPELESS or renderer.max_batch == 1 or sessions == 1:
            return Trial(name, 1, single)
        count = min(sessions, renderer.max_batch)
        return Trial(name, count, _timed(renderer, loaded, count) / count)


def _timed(renderer: Renderer, loaded: LoadedAvatar, count: int) -> float:
    """The median seconds of a step with so many sessions."""
    form = loaded.format
    chance = np.random.default_rng(0)
    with ExitStack() as stack:
        opened = [loaded.open(seed=seed) for seed in range(count)]
        for session in opened:
            stack.callback(session.close)
        took: list[float] = []
        began = time.perf_counter()
        while len(took) <= STEPS and (len(took) < 2 or time.perf_counter() - began < PATIENCE):
            sound = chance.normal(0.0, 0.1, (count, form.hop)).astype(np.float32)
            start = time.perf_counter()
            renderer.step(opened, [RenderInput(pcm) for pcm in sound])
            took.append(time.perf_counter() - start)
    return statistics.median(took[1:])  # the first one settles in


def compared(options: Iterable[Candidate | Trial], avatar: Hvia, sessions: int) -> list[tuple[Trial, Renderer | None]]:
    """Every candidate's trial and its renderer, the quickest first; those that cannot be used last, without one."""
    found: list[tuple[Trial, Renderer | None]] = []
    for candidate in options:
        if isinstance(candidate, Trial):
            found.append((candidate, None))
            continue
        made: Renderer | None = None
        try:
            made = candidate.record.factory(candidate.record.config(**candidate.options))
            found.append((try_out(made, avatar, str(candidate), sessions), made))
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; another one may work
            found.append((Trial(str(candidate), problem=" ".join(str(error).split())), None))
            if made is not None:
                made.close()
    return sorted(found, key=lambda pair: (bool(pair[0].problem), pair[0].seconds))


def verdict(trials: Sequence[Trial]) -> str:
    """Which is the quickest and why, as one sentence. ``trials`` are sorted."""
    best, *rest = trials
    others = "; ".join(map(str, rest))
    return f"{best} is the quickest here" + (f" ({others})" if others else ", for nothing else is installed")


class AutoRenderer(Renderer):
    """Becomes the quickest renderer with the first avatar that is loaded. Raises RendererError if none is installed.

    ``sessions`` is how many at once it chooses for, ``among`` the names to choose from (all, if it is empty).
    """

    def __init__(self, registry: Registry, *, among: Sequence[str] = (), sessions: int = 8) -> None:
        self._options = list(candidates(registry, among))
        self._sessions = sessions
        self._lock = threading.Lock()
        self._chosen: Renderer | None = None
        if not self._options:
            raise RendererError("there is no renderer to choose from", hint="pip install visavis-renderer-onnxruntime")

    def load(self, avatar: Hvia) -> LoadedAvatar:
        """Load an avatar; the first time, find out who does it best. Raises RendererError if nobody can."""
        with self._lock:
            if self._chosen is None:
                self._chosen = self._choose(avatar)
                self.engines, self.max_batch = self._chosen.engines, self._chosen.max_batch
        return self._chosen.load(avatar)

    def _choose(self, avatar: Hvia) -> Renderer:
        (best, chosen), *rest = compared(self._options, avatar, self._sessions)
        for _, renderer in rest:
            if renderer is not None:
                renderer.close()
        if chosen is None:
            told = "; ".join(f"{trial.name}: {trial.problem}" for trial in (best, *(trial for trial, _ in rest)))
            raise RendererError(f"no renderer works here: {told}", hint="run `visavis doctor`")
        log.info("%s", verdict([best, *(trial for trial, _ in rest)]))
        chosen.metrics = self.metrics
        return chosen

    def step(self, sessions: Sequence[RenderSession], inputs: Sequence[RenderInput]) -> list[VideoFrame | None]:
        """One tick, by the chosen one."""
        if self._chosen is None:
            if sessions:
                raise RendererError("a session came before its avatar")
            return []
        return self._chosen.step(sessions, inputs)

    def close(self) -> None:
        """Let go of devices."""
        if self._chosen is not None:
            self._chosen.close()
