"""Whether two renderers draw the same: one avatar, one sound, and the pictures compared one by one.

The same comparison serves every backend: ONNX Runtime on the processor is the measure, and what runs elsewhere, or by
other numbers than float32, has to come near it::

    film = filmed(make_onnxruntime, avatar)
    expect_parity(film, filmed(make_tensorrt, avatar), psnr=45.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from visavis.interfaces.renderer import Renderer, RenderInput
from visavis.media import Pcm
from visavis.testing.checks import expect
from visavis.testing.rig import Picture, RendererCase, loaded, worst

FP32: Final = 45.0
"""dB that a backend has to reach with float32 graphs, in its worst picture."""
FP16: Final = 40.0
"""dB with half-precision graphs."""
STILL: Final = 99.0
"""dB that stand for equal pictures."""
MOVES: Final = 12
"""Levels by which somebody's face has to move in a film: frozen pictures would be alike too easily."""


@dataclass(frozen=True)
class Film:
    """What a renderer drew: a row for each session, of pictures in order. ``batched`` says that they shared steps."""

    rows: list[list[Picture]]
    batched: bool


@dataclass(frozen=True)
class Parity:
    """How alike two films are: PSNR of the worst picture and of all, in dB; the largest difference, in levels."""

    pictures: int
    worst_db: float
    mean_db: float
    levels: int

    def __str__(self) -> str:
        figures = f"worst {self.worst_db:.1f} dB, all together {self.mean_db:.1f} dB, at most {self.levels} levels"
        return f"{self.pictures} pictures: {figures}"


def filmed(
    make: Callable[[], Renderer], avatar: Path, *, sessions: int = 3, seconds: float = 2.0, speech: Pcm | None = None
) -> Film:
    """What a new renderer draws of an avatar for some sessions at once.

    The first one is idle, then speaks, then is idle again; each further one begins a little later, so that a step
    holds some who speak and some who do not. ``speech`` is float32 ``[samples, 1]`` at the avatar's rate; without it
    a vowel is sung.
    """
    case = RendererCase(make=make, avatar=avatar, speech=speech)
    with loaded(case) as rig:
        count = min(sessions, rig.renderer.max_batch)
        steps = max(12, round(seconds * rig.fps))
        voice = rig.voice(steps)
        rows: list[list[Picture]] = [[] for _ in range(count)]
        with rig.sessions(count) as opened:
            for step in range(steps):
                inputs = [_given(voice, step - 2 * row, steps) for row in range(count)]
                for row, picture in enumerate(rig.step(opened, inputs)):
                    if picture is not None:
                        rows[row].append(picture)
    return Film(rows, count > 1)


def _given(voice: list[Pcm], step: int, steps: int) -> RenderInput:
    """Idle in the first and the last fifth; the first sound is heard ahead."""
    if step < steps // 5 or step >= steps - steps // 5:
        return RenderInput(None)
    return RenderInput(voice[step], draw=step > steps // 5)


def compare(one: Film, other: Film) -> Parity:
    """How alike two films are. Raises ConformanceFailure if they do not have the same pictures, or nobody moves."""
    shapes = [[picture.shape for picture in row] for row in one.rows]
    expect(shapes == [[picture.shape for picture in row] for row in other.rows], "the films have other pictures")
    expect(max(worst(row[0], picture) for row in one.rows for picture in row) >= MOVES, "in the film nobody moves")
    errors, levels = [], 0
    for first, second in zip(one.rows, other.rows, strict=True):
        for a, b in zip(first, second, strict=True):
            errors.append(float(np.square(a.astype(np.float32) - b).mean()))
            levels = max(levels, worst(a, b))
    return Parity(len(errors), _db(max(errors)), _db(sum(errors) / len(errors)), levels)


def expect_parity(one: Film, other: Film, *, psnr: float = FP32) -> Parity:
    """How alike they are. Raises ConformanceFailure if a single picture is less so than ``psnr`` dB."""
    found = compare(one, other)
    expect(found.worst_db >= psnr, f"{found}; every picture needs {psnr:g} dB")
    return found


def _db(error: float) -> float:
    return STILL if error <= 0 else min(STILL, 10 * math.log10(255**2 / error))
