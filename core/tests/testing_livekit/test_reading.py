"""What is read off a recording is what was put into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from visavis.testing.livekit import reading
from visavis.testing.livekit.flash import Canvas
from visavis.testing.livekit.recording import RATE, Pictures, Recording, Sound, Take
from visavis.testing.livekit.watching import TakeInMaking, block_means

START = 1000.0


def sound_of(pcm: np.ndarray, *, jitter: float = 0.0, late: float = 0.0) -> Sound:
    """48 kHz sound as it would arrive: blocks of 10 ms, each up to ``jitter`` late."""
    blocks = len(pcm) // 480
    rng = np.random.default_rng(3)
    times = START + late + 0.01 * np.arange(blocks) + rng.uniform(0, 1, blocks) * jitter
    return Sound(times, np.full(blocks, 480, np.int64), pcm[: blocks * 480])


def pictures_of(flash_at: set[int], count: int, *, fps: float = 25, late: float = 0.0) -> Pictures:
    canvas = Canvas(128, 128)
    drawn = [canvas.draw(flash=n in flash_at, mouth=n in flash_at, number=n) for n in range(count)]
    blocks = np.array([block_means(data[:128]) for data in drawn])
    times = START + late + np.arange(count) / fps
    return Pictures(times, np.full((count, 2), 128, np.uint16), blocks, np.full((count, 2), 128, np.uint8))


@pytest.mark.parametrize("late", [-0.08, 0.0, 0.013, 0.1])
def test_an_offset_is_read_to_a_millisecond(late: float) -> None:
    sound = sound_of(reading.beeps(10, RATE), jitter=0.008)
    found = reading.offsets(pictures_of({25 * n for n in range(1, 10)}, 250, late=late), sound)
    assert len(found.ms) == 9
    assert found.median == pytest.approx(1000 * late, abs=1.0)
    assert found.unmatched == 1  # the first beep: no picture before it was dark


def test_the_sign_is_that_of_a_late_picture() -> None:
    found = reading.offsets(pictures_of({25, 50}, 100, late=0.2), sound_of(reading.beeps(4, RATE)))
    assert (found.ms > 150).all()


def test_a_pair_in_a_stall_of_the_viewer_is_left_out() -> None:
    stalls = np.array([[START + 1.98, START + 2.05]])
    found = reading.offsets(pictures_of({25, 50, 75}, 100), sound_of(reading.beeps(4, RATE)), stalls=stalls)
    assert len(found.ms) == 2


def test_drift_is_read_in_milliseconds_a_minute() -> None:
    when = START + np.arange(60.0)
    assert reading.drift(when, 5 + 3 * np.arange(60) / 60) == pytest.approx(3.0)
    assert np.isnan(reading.drift(when[:2], when[:2]))


def test_what_the_jitter_buffer_holds_can_be_taken_off_an_offset() -> None:
    sound = sound_of(reading.beeps(10, RATE))
    take = Take("r", "a", pictures_of({25 * n for n in range(1, 10)}, 250, late=-0.05), sound, 0)
    about = {"event": "receiver", "identity": "a"}
    waits = [0, 40, 60, 60, 60, 60, 60]  # ms, in the second that ends then; nothing is told of the last three
    events = [
        {
            **about,
            "t": START + n,
            "jitter_buffer_delay": 48 * sum(waits[: n + 1]),
            "jitter_buffer_emitted_count": RATE * n,
        }
        for n in range(len(waits))
    ]
    recording = Recording([take], events, np.zeros((0, 2)), 0.0)
    ends, found = reading.jitter_buffer(recording, "a", START)
    assert ends.tolist() == [START + n for n in range(1, 7)]
    assert found == pytest.approx(waits[1:])
    offsets = reading.as_sent(reading.offsets(take.pictures, sound), recording, "a")
    assert offsets.ms == pytest.approx([-10.0 if at <= START + 1 else 10.0 for at in offsets.at], abs=1.0)
    assert len(offsets.ms) == 6


def test_gaps_are_counted_and_the_viewers_own_are_not() -> None:
    pictures = pictures_of(set(), 100)
    keep = np.ones(100, bool)
    keep[[20, 21, 22]] = keep[[60, 61, 62, 63]] = False
    holed = Pictures(pictures.times[keep], pictures.sizes[keep], pictures.blocks[keep], pictures.chroma[keep])
    found = reading.gaps(holed)
    assert (found.over, found.excused) == (2, 0)
    assert found.largest == pytest.approx(0.2)
    excused = reading.gaps(holed, stalls=np.array([[START + 2.4, START + 2.5]]))
    assert (excused.over, excused.excused) == (1, 1)
    assert excused.largest == pytest.approx(0.16)
    assert reading.gaps(pictures).fps == pytest.approx(25)


def test_numbers_and_mouths_are_read_off_the_pictures() -> None:
    pictures = pictures_of({3, 4, 5}, 300)
    assert (reading.numbers(pictures) == np.arange(300) % 256).all()
    assert reading.mouth(pictures).nonzero()[0].tolist() == [3, 4, 5]
    assert reading.mouth_opens(pictures)[0] == pytest.approx(START + 3 / 25)
    assert reading.mouth_shuts(pictures)[0] == pytest.approx(START + 6 / 25)


def test_heard_length_is_that_of_the_samples() -> None:
    pcm = np.concatenate([np.zeros(RATE, np.int16), reading.steady(1.5, RATE), np.zeros(RATE, np.int16)])
    span = reading.heard(sound_of(pcm, jitter=0.005), START, START + 10)
    assert span is not None
    assert span.seconds == pytest.approx(1.5, abs=0.001)
    assert span.begin == pytest.approx(START + 1.0, abs=0.002)
    assert reading.heard(sound_of(pcm), START + 3.2, START + 10) is None


def test_an_utterance_holds_its_pauses() -> None:
    span = reading.heard(sound_of(reading.beeps(5, RATE)), START, START + 10)
    assert span is not None
    assert span.seconds == pytest.approx(4.1, abs=0.001)


def test_tones_and_colours() -> None:
    sound = sound_of(reading.steady(1, RATE, tone=650))
    assert reading.tone(sound, START + 0.1, START + 0.9) == pytest.approx(650, abs=2)
    assert reading.tone(sound_of(np.zeros(RATE, np.int16)), START, START + 1) == 0
    strengths = reading.strength(sound, START + 0.1, START + 0.9, [650, 800])
    assert strengths[0] == pytest.approx(0.4, abs=0.01)
    assert strengths[1] < 0.001
    assert reading.colour(pictures_of(set(), 5)) == (128, 128)


def test_silence_has_no_spans() -> None:
    assert reading.spans(sound_of(np.zeros(0, np.int16))) == []
    assert reading.spans(sound_of(np.zeros(RATE, np.int16))) == []
    assert reading.gaps(pictures_of(set(), 1)).fps == 0


def test_a_recording_survives_the_file(tmp_path: Path) -> None:
    take = Take("room", "avatar", pictures_of({1}, 5), sound_of(reading.steady(0.1, RATE)), 2)
    empty = TakeInMaking("room", "other").take()
    there = Recording([take, empty], [{"t": 1.5, "event": "left", "identity": "avatar"}], np.zeros((0, 2)), 0.25)
    there.save(tmp_path / "a.npz")
    back = Recording.load(tmp_path / "a.npz", {"said": 3.0})
    assert back.marks == {"said": 3.0}
    assert back.when("left", "avatar") == [1.5]
    assert back.cpu == 0.25
    assert back.of("avatar").placeholders == 2
    assert (back.of("avatar").pictures.blocks == take.pictures.blocks).all()
    assert (back.of("avatar").sound.pcm == take.sound.pcm).all()
    assert len(back.of("other").pictures) == 0
    with pytest.raises(KeyError, match="avatar in room, other in room"):
        back.of("nobody")
