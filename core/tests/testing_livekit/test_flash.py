"""The flash renderer keeps a renderer's contract, and its pictures say what the sound beside them does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from visavis.hvia import open_hvia
from visavis.interfaces.renderer import RenderInput
from visavis.media import Plane
from visavis.testing import RendererCase, RendererKit
from visavis.testing.livekit.flash import BRIGHT, FlashOptions, FlashRenderer, discoverable
from visavis.testing.tiny import tiny_avatar


class TestFlash(RendererKit):
    @pytest.fixture
    def renderer(self, tmp_path: Path) -> RendererCase:
        return RendererCase(make=FlashRenderer, avatar=tiny_avatar(tmp_path))


def flashes(picture: Plane) -> bool:
    return bool(picture[4, 64] == BRIGHT)


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_it_flashes_with_the_slice_that_holds_the_onset(tmp_path: Path, look_ahead: int) -> None:
    renderer = FlashRenderer(FlashOptions(look_ahead=look_ahead))
    with open_hvia(tiny_avatar(tmp_path)) as file:
        avatar = renderer.load(file)
    hop = avatar.format.hop
    loud, hush = np.full(hop, 0.3, np.float32), np.zeros(hop, np.float32)
    sound = [hush, loud, loud, hush, loud, *[hush] * look_ahead]
    session = avatar.open()
    drawn = []
    for number, pcm in enumerate(sound):
        (frame,) = renderer.step([session], [RenderInput(pcm, draw=number >= look_ahead)])
        if frame is not None:
            drawn.append(frame.data)
    assert [flashes(picture) for picture in drawn] == [False, True, False, False, True]
    assert [bool(picture[64, 64] == BRIGHT) for picture in drawn] == [False, True, True, False, True]


def test_an_idle_picture_ends_what_was_heard(tmp_path: Path) -> None:
    renderer = FlashRenderer(FlashOptions(look_ahead=0))
    with open_hvia(tiny_avatar(tmp_path)) as file:
        avatar = renderer.load(file)
    loud = RenderInput(np.full(avatar.format.hop, 0.3, np.float32))
    session = avatar.open()
    shown = [renderer.step([session], [given])[0] for given in (loud, loud, RenderInput(None), loud)]
    assert [frame is not None and flashes(frame.data) for frame in shown] == [True, False, False, True]


def test_a_process_of_its_own_finds_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visavis", "plugins"]
    ran = subprocess.run(command, env=discoverable(tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "flash" in ran.stdout
