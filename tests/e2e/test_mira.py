"""The sample avatar: small, documented, alive, and quiet when nothing is said."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from visavis import Speaker, speak
from visavis.hvia import open_hvia
from visavis.media import VideoFrame

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
MIRA = ROOT / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"
HELLO = ROOT / "assets/demo/hello.wav"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def luma(frame: VideoFrame | None) -> np.ndarray:
    assert frame is not None
    return frame.planes()[0].astype(np.float32)


async def test_it_is_small_and_says_what_it_is() -> None:
    assert MIRA.stat().st_size <= 12_000_000
    with open_hvia(MIRA) as file:
        manifest = file.manifest
        assert (manifest.video.width, manifest.video.height, manifest.video.fps) == (512, 512, 25)
        assert manifest.synthetic
        assert manifest.likeness.of == "nobody"
        assert any("ICT" in notice and "MIT" in notice for notice in manifest.notices)
        assert manifest.motion.look_ahead <= 0.12 * manifest.motion.sample_rate


async def test_the_head_sways_and_the_loop_closes() -> None:
    with open_hvia(MIRA) as file:
        clip = file.manifest.clips[0]
        placement = json.loads(file.read(clip.placement))
        video = file.read(clip.video)
    path = np.array(placement["affine"])
    centre = np.array([128.0, 128.0, 1.0])
    where = np.stack([path[:, :3] @ centre, path[:, 3:] @ centre], 1)
    sway = float(np.sqrt(((where - where.mean(0)) ** 2).sum(1).mean()))
    assert 1.0 <= sway <= 6.0
    steps = np.linalg.norm(np.diff(where, axis=0), axis=1)
    assert np.linalg.norm(where[0] - where[-1]) <= 1.5 * steps.max()

    with av.open(io.BytesIO(video)) as decoded:
        frames = [f.to_ndarray(format="gray").astype(np.float32) for f in decoded.decode(video=0)]
    changes = [float(np.abs(b - a).mean()) for a, b in pairwise(frames)]
    assert float(np.abs(frames[0] - frames[-1]).mean()) <= max(changes)
    assert min(changes) > 0  # never frozen


async def test_silence_rests_blinks_and_never_freezes() -> None:
    """Half a minute without a word: the mouth keeps still, the lids do not."""
    mouth, eyes, whole = [], [], []
    previous = None
    async for frame in speak("mira", np.zeros(16_000 * 30, np.float32), 16_000):
        picture = luma(frame.video)
        mouth.append(float(picture[290:350, 200:310].mean()))
        eyes.append(picture[180:220, 160:350])
        if previous is not None:
            whole.append(float(np.abs(picture - previous).mean()))
        previous = picture
    assert len(mouth) == 750
    assert min(whole) > 0
    assert np.ptp(mouth) < 12
    # A blink changes the eyes' picture far more than a sway does, and for a short time.
    typical = np.median(np.stack(eyes[::10]), axis=0)
    shut = np.array([float(np.abs(e - typical).mean()) for e in eyes])
    blinking = shut > np.median(shut) + 0.5 * (shut.max() - np.median(shut))
    blinks = int(np.sum(blinking[1:] & ~blinking[:-1]))
    assert 3 <= blinks <= 14  # 10 to 25 a minute, and chance


async def test_it_speaks_with_its_mouth() -> None:
    with av.open(str(HELLO)) as file:
        rate = int(file.streams.audio[0].rate)
        pcm = np.concatenate([f.to_ndarray().ravel() for f in file.decode(audio=0)])
    async with Speaker("mira") as speaker:
        said = [luma(f.video)[290:350, 200:310] async for f in speaker.speak(pcm.astype(np.int16), rate)]
        rest = [luma(f.video)[290:350, 200:310] async for f in speaker.speak(np.zeros(rate * 4, np.float32), rate)]
    moved = np.mean([np.abs(b - a).mean() for a, b in pairwise(said)])
    rested = np.mean([np.abs(b - a).mean() for a, b in pairwise(rest)])
    assert moved > 2.5 * rested


async def test_equal_seeds_give_equal_pictures_and_others_differ() -> None:
    pcm = np.random.default_rng(1).normal(0, 0.1, 16_000 * 4).astype(np.float32)
    async with Speaker("mira") as speaker:
        takes = [[f.video async for f in speaker.speak(pcm, 16_000, seed=s)] for s in (5, 5, 6)]
    same = [np.array_equal(a.data, b.data) for a, b in zip(takes[0], takes[1], strict=True) if a and b]
    other = [np.array_equal(a.data, b.data) for a, b in zip(takes[0], takes[2], strict=True) if a and b]
    assert all(same)
    assert not all(other)
