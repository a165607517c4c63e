"""Drawing for nobody: to see how long a picture takes beside whatever else is being drawn, or to have pictures."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from visavis.interfaces.renderer import LoadedAvatar, RenderInput
from visavis.media import VideoFrame
from visavis.pipeline.batcher import Batcher


async def rehearse(avatar: LoadedAvatar, batcher: Batcher, frames: int) -> list[float]:
    """Draw ``frames`` pictures of somebody babbling; returns the seconds that each took. Raises RendererError.

    Each step stands in line with those of the sessions that run: what it waits there is part of what it took.
    """
    async with aclosing(_babbling(avatar, batcher, frames)) as drawn:
        return [seconds async for _, seconds in drawn]


async def pictures(avatar: LoadedAvatar, batcher: Batcher, frames: int) -> list[VideoFrame]:
    """Draw ``frames`` pictures of somebody babbling, and return them. Raises RendererError."""
    async with aclosing(_babbling(avatar, batcher, frames)) as drawn:
        return [picture async for picture, _ in drawn]


async def _babbling(
    avatar: LoadedAvatar, batcher: Batcher, frames: int
) -> AsyncGenerator[tuple[VideoFrame, float], None]:
    """The pictures, each with the seconds it took."""
    form = avatar.format
    # Noise with a syllable's rhythm keeps a mouth as busy as speech does.
    t = np.arange((frames + form.look_ahead) * form.hop) / form.sample_rate
    noise = np.random.default_rng(0).normal(0.0, 0.1, len(t)) * np.maximum(0.0, np.sin(2 * np.pi * 2.5 * t))
    slices = noise.astype(np.float32).reshape(-1, form.hop)
    session = avatar.open()
    try:
        for number, pcm in enumerate(slices):
            began = time.perf_counter()
            picture = await batcher.step(avatar, session, RenderInput(pcm, draw=number >= form.look_ahead))
            if picture is not None:
                yield picture, time.perf_counter() - began
    finally:
        session.close()
