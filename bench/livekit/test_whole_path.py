"""The whole path as a subscriber gets it: `visavis serve`, a bare client, a viewer. Figures are printed, not judged.

What is judged: that all is heard and shown, at full size, and that what the client is told is true to the sample.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import Talk, beep_figures
from subjects import AGENT, AVATAR, AvatarServer, Subject, serving
from visavis.testing.livekit import reading
from visavis.testing.livekit.sender import Utterance, speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

pytestmark = pytest.mark.anyio
RATE = 24_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server(livekit_server: LiveKitServer, tmp_path: Path) -> AsyncIterator[AvatarServer]:
    """A server with the flash renderer."""
    async with serving(livekit_server, tmp_path) as server:
        yield server


@pytest.fixture
async def talk(livekit_server: LiveKitServer, server: AvatarServer, room_name: str) -> AsyncIterator[Talk]:
    """Its avatar in a room with a viewer and a client."""
    async with (
        watching(livekit_server, room_name) as viewer,
        speaking_to(livekit_server, room_name, AVATAR, identity=AGENT) as sender,
    ):
        await server.start(room_name)
        await sender.avatar_seen()
        yield Talk(Subject("visavis", server.pid), viewer, sender)


async def late_pictures(server: AvatarServer) -> int:
    """How many pictures its only session had not ready in time."""
    (shown,) = (await server.client.get("/v1/sessions")).json()["sessions"]
    return int((await server.session(shown["id"]))["stats"]["late_frames"])


async def test_what_is_said_is_heard_and_shown(talk: Talk, server: AvatarServer) -> None:
    """One at once when the avatar is seen; then every rate, odd pieces and two channels; each counted to the sample."""
    tones = {8_000: 400.0, 16_000: 550.0, 44_100: 700.0, 48_000: 850.0}
    early = await talk.sender.say(reading.steady(1.0, RATE, tone=1000), RATE)
    await talk.silent(early)
    said: list[Utterance] = []
    for rate, tone in tones.items():
        pcm = reading.steady(1.2 + 0.0137, rate, tone=tone)
        stereo = np.stack([pcm, pcm], axis=1) if rate == 44_100 else pcm
        said.append(await talk.sender.say(stereo, rate, chunk_ms=37.3))
        await talk.silent(said[-1])
    beeps = await talk.sender.say(reading.beeps(8, RATE), RATE)
    await talk.silent(beeps)
    seen = await talk.viewer.stop()
    take, late = seen.of(AVATAR), await late_pictures(server)

    for utterance in [early, *said, beeps]:
        assert utterance.finish is not None
        assert not utterance.finish.interrupted
        assert utterance.finish.position == pytest.approx(utterance.seconds, abs=1 / utterance.rate)
    assert len(talk.sender.started) == len(talk.sender.finishes) == len(talk.sender.said)

    assert beeps.first_write is not None
    print(beep_figures(seen, [beeps], 7.1, beeps.first_write))
    assert len([s for s in reading.spans(take.sound, pause=0.25) if s.begin > beeps.first_write]) == 8
    assert set(reading.sizes(take.pictures)) == {(512, 512)}
    shown = take.pictures.between(beeps.first_write, np.inf)
    assert len(reading.flashes(shown)) in range(4, 9)  # a machine in need may drop a picture, and never adds one
    steps = np.diff(reading.numbers(take.pictures)) % 256
    assert (steps < 128).all(), "an older picture came after a newer one"
    assert np.count_nonzero(steps == 0) <= late, "a picture came twice, and not for one that was missing"

    spans = [
        reading.heard(take.sound, a.first_write or 0, b.first_write or 0)
        for a, b in zip(said, [*said[1:], beeps], strict=True)
    ]
    for span, (rate, tone) in zip(spans, tones.items(), strict=True):
        assert span is not None, f"the speech at {rate} Hz was not heard"
        print(f"{rate} Hz: heard {span.seconds:.4f} s of 1.2137")
        assert reading.tone(take.sound, span.begin + 0.3, span.end - 0.3) == pytest.approx(tone, abs=8)


async def test_an_interruption_is_told_truly(talk: Talk) -> None:
    """Told once and as interrupted; nothing is started a second time; what comes next is counted from its own start."""
    cuts = []
    for wait in (0.9, 0.5):
        cut = await talk.sender.say(reading.steady(5, RATE), RATE)
        await cut.wait_started()
        await anyio.sleep(wait)
        starts = len(talk.sender.started)
        await talk.sender.interrupt()
        finish = await cut.wait_finished()
        assert finish.interrupted
        assert 0 < finish.position < 5
        await talk.silent(cut)
        assert len(talk.sender.started) == starts
        after = await talk.sender.say(reading.steady(0.8, RATE), RATE)
        await talk.silent(after)
        assert after.finish is not None
        assert (after.finish.position, after.finish.interrupted) == (0.8, False)
        cuts.append((cut, after))
    before = len(talk.sender.finishes)
    unheard = [await talk.sender.open(RATE) for _ in range(2)]
    async with anyio.create_task_group() as both:  # twice at once, of two segments without a sample
        both.start_soon(talk.sender.interrupt)
        both.start_soon(talk.sender.interrupt)
    for utterance in unheard:
        finish = await utterance.wait_finished()
        assert (finish.position, finish.interrupted) == (0, True)
        await utterance.close()
    last = await talk.sender.say(reading.steady(0.4, RATE), RATE)
    await talk.silent(last)
    assert len(talk.sender.finishes) == before + 3
    seen = await talk.viewer.stop()
    sound = seen.of(AVATAR).sound
    for cut, after in cuts:
        span = reading.heard(sound, cut.first_write or 0, after.first_write or 0)
        assert span is not None
        assert cut.finish is not None
        print(f"told {cut.finish.position:.3f} s, heard {span.seconds:.3f} s")
