"""How the head sways and the chest breathes: slow curves that close over the loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

FRAMES = 400
FPS = 25
BREATHS = 4
"""In the loop of 16 s: 15 a minute."""


@dataclass(frozen=True)
class Sway:
    """One value a frame; angles in degrees, shifts in frame pixels."""

    yaw: Curve
    """Towards the avatar's left, which is the picture's right."""
    pitch: Curve
    """Upwards."""
    roll: Curve
    """Clockwise in the picture."""
    x: Curve
    y: Curve
    body_x: Curve
    breath: Curve
    """0..1, 1 = breathed in."""


def wander(seed: int, deviation: float, harmonics: int = 7, bumps: int = 3) -> Curve:
    """[FRAMES] a periodic curve of zero mean: harmonics with falling strength and a few single moves."""
    rng = np.random.default_rng(seed)
    phase = np.arange(FRAMES) / FRAMES * 2 * np.pi
    out = np.zeros(FRAMES)
    for k in range(1, harmonics + 1):
        out += rng.normal(1, 0.25) / k**1.15 * np.cos(k * phase + rng.uniform(0, 2 * np.pi))
    for _ in range(bumps):
        # A look aside or a settling of the head: it comes within half a second and stays a while.
        at, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.6)
        rise = np.tanh(6 * np.sin((phase - at) / 1.0)) * np.exp((np.cos(phase - at - 0.5) - 1) / width**2)
        out += rng.choice([-1, 1]) * 0.9 * rise
    # Nothing faster than about 0.8 Hz: heads are heavy.
    spectrum = np.fft.rfft(out)
    spectrum *= np.exp(-((np.arange(len(spectrum)) / 11.0) ** 2))
    spectrum[0] = 0
    out = np.fft.irfft(spectrum, FRAMES)
    return deviation * out / out.std()


def breathing() -> Curve:
    """[FRAMES] 0..1: a quicker breath in, a slower one out, a short rest."""
    phase = np.arange(FRAMES) / FRAMES * 2 * np.pi * BREATHS
    phase = phase + 0.10 * np.sin(np.arange(FRAMES) / FRAMES * 2 * np.pi)
    wave = np.exp(1.1 * np.sin(phase + 0.35 * np.sin(phase)))
    return (wave - wave.min()) / (wave.max() - wave.min())


def sway() -> Sway:
    """The curves of Mira's idle loop."""
    yaw, pitch, roll = wander(31, 1.0), wander(47, 0.50), wander(12, 0.55)
    body = wander(8, 0.8, harmonics=3, bumps=0)
    x, y = body + wander(5, 0.4, harmonics=5, bumps=1), wander(6, 0.4, harmonics=5, bumps=1)
    # A head that turns also leans a little that way.
    curves = [yaw, pitch, roll + 0.15 * yaw, x, y, body, breathing()]
    # Begin where everything is slowest: idle and speech meet there, and so do the clip's two ends.
    speed = sum(((c - np.roll(c, 1)) / c.std()) ** 2 for c in curves)
    first = int(np.argmin(speed + np.roll(speed, -1)))
    return Sway(*(np.roll(c, -first) for c in curves))
