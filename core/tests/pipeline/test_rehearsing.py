"""A rehearsal draws for nobody and says what each picture took."""

from __future__ import annotations

import pytest
from visavis.errors import RendererError
from visavis.pipeline.batcher import Batcher
from visavis.supervisor.rehearsing import rehearse
from visavis.testing.fakes import FakeRenderer

pytestmark = pytest.mark.anyio


async def test_every_picture_is_drawn_and_timed_the_primed_ones_left_out() -> None:
    renderer = FakeRenderer(look_ahead=3)
    avatar = renderer.load()
    took = await rehearse(avatar, Batcher(renderer), 12)
    (session,) = avatar.sessions
    assert session.drawn == len(took) == 12
    assert len(renderer.batches) == 15
    assert all(seconds > 0 for seconds in took)
    assert session.closed


async def test_it_closes_its_session_when_the_renderer_fails() -> None:
    class Broken(FakeRenderer):
        def step(self, sessions, inputs):  # type: ignore[no-untyped-def]
            raise OSError("the device is gone")

    renderer = Broken()
    avatar = renderer.load()
    with pytest.raises(RendererError, match="the device is gone"):
        await rehearse(avatar, Batcher(renderer), 2)
    assert avatar.sessions[0].closed
