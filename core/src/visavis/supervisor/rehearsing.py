"""Drawing for nobody, to see how long a picture takes on this machine, beside whatever else is being drawn."""

from __future__ import annotations

import time

import numpy as np

from visavis.interfaces.renderer import LoadedAvatar, RenderInput
from visavis.pipeline.batcher import Batcher


async def rehearse(avatar: LoadedAvatar, batcher: Batcher, frames: int) -> list[float]:
    """Draw ``frames`` pictures of somebody babbling; returns the seconds that each took. Raises RendererError.

    Each step stands in line with those of the sessions that run: what it waits there is part of what it took.
    """
    form = avatar.format
    # Noise with a syllable's rhythm keeps a mouth as busy as speech does.
    t = np.arange((frames + form.look_ahead) * form.hop) / form.sample_rate
    noise = np.random.default_rng(0).normal(0.0, 0.1, len(t)) * np.maximum(0.0, np.sin(2 * np.pi * 2.5 * t))
    slices = noise.astype(np.float32).reshape(-1, form.hop)
    session = avatar.open()
    took: list[float] = []
    try:
        for number, pcm in enumerate(slices):
            began = time.perf_counter()
            await batcher.step(avatar, session, RenderInput(pcm, draw=number >= form.look_ahead))
            took.append(time.perf_counter() - began)
    finally:
        session.close()
    return took[form.look_ahead :]
