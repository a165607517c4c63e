"""What the file source makes of recordings: whole, strange, cut, damaged and hopeless ones."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from visavis import workers
from visavis.errors import MediaError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.media import Pcm
from visavis.metrics import MemoryMetrics
from visavis_source_file import FileSourceOptions, probe
from visavis_source_file.source import CHUNK_SECONDS, FileSource

pytestmark = pytest.mark.anyio

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Heard:
    """A speech writer that keeps what it is given."""

    def __init__(self) -> None:
        self.segments: list[tuple[int, int, list[Pcm]]] = []
        self.ended = 0

    async def open(self, rate: int, channels: int = 1) -> Heard:
        self.segments.append((rate, channels, []))
        return self

    async def write(self, pcm: NDArray[np.generic]) -> None:
        assert pcm.dtype == np.float32
        assert pcm.shape[1] == self.segments[-1][1]
        self.segments[-1][2].append(pcm.astype(np.float32, copy=False))

    async def end(self) -> None:
        self.ended += 1

    @property
    def pcm(self) -> Pcm:
        (_, _, pieces) = self.segments[0]
        return np.concatenate(pieces)


async def hear(path: Path, *, strict: bool = False) -> Heard:
    heard = Heard()
    source = FileSource(FileSourceOptions(path=path, strict=strict))
    try:
        await source.prepare(SessionContext("s", SessionRequest()))
        await source.run(heard)  # type: ignore[arg-type]  # a writer as small as a test needs it
    finally:
        await source.aclose()
        await source.aclose()
    return heard


def record(path: Path, pcm: NDArray[np.float32], rate: int, codec: str, container: str | None = None) -> Path:
    """Encode ``[n, channels]`` with PyAV alone."""
    layout = LAYOUTS[pcm.shape[1]]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.codec_context.layout = layout
        for at in range(0, len(pcm), rate):
            piece = np.ascontiguousarray(pcm[at : at + rate]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def tone(seconds: float, rate: int, channels: int = 1) -> NDArray[np.float32]:
    """A sine on every channel, each at its own pitch and level."""
    t = np.arange(round(seconds * rate)) / rate
    rows = [0.5 / (c + 1) * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)]
    return np.stack(rows, axis=1).astype(np.float32)


LOSSLESS = [
    ("8bit.wav", "pcm_u8", 8_000, 1, 1 / 100),
    ("16bit.wav", "pcm_s16le", 44_100, 2, 1 / 30_000),
    ("24bit.wav", "pcm_s24le", 48_000, 1, 1e-6),
    ("32bit.wav", "pcm_s32le", 48_000, 2, 1e-6),
    ("float.wav", "pcm_f32le", 16_000, 1, 0),
    ("double.wav", "pcm_f64le", 16_000, 1, 0),
    ("surround.wav", "pcm_s16le", 48_000, 6, 1 / 30_000),
    ("seven.flac", "flac", 48_000, 8, 1 / 30_000),
    ("odd.wav", "pcm_s16le", 12_345, 1, 1 / 30_000),
    ("music.aiff", "pcm_s16be", 44_100, 2, 1 / 30_000),
    ("telephone.wav", "pcm_mulaw", 8_000, 1, 0.03),
]


@pytest.mark.parametrize(("name", "codec", "rate", "channels", "tolerance"), LOSSLESS)
async def test_sound_arrives_as_it_was_recorded(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int, tolerance: float
) -> None:
    sound = tone(1.3, rate, channels)
    heard = await hear(record(tmp_path / name, sound, rate, codec))
    assert [s[:2] for s in heard.segments] == [(rate, channels)]
    assert heard.ended == 1
    assert heard.pcm.shape == sound.shape
    np.testing.assert_allclose(heard.pcm, sound, atol=tolerance)


LOSSY = [
    ("speech.mp3", "libmp3lame", 44_100, 2),
    ("speech.ogg", "libopus", 48_000, 1),
    ("speech.opus", "libopus", 48_000, 2),
    ("speech.webm", "libopus", 48_000, 1),
    ("speech.m4a", "aac", 44_100, 1),
    ("film.mp4", "aac", 48_000, 6),
    ("film.mp4", "aac", 48_000, 8),
]


@pytest.mark.parametrize(("name", "codec", "rate", "channels"), LOSSY)
async def test_the_encoders_padding_is_not_heard(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    """As many samples as went in, and a click where it was: neither priming nor filling samples are left."""
    sound = tone(2.345, rate, channels)
    click = rate
    sound[click : click + 8] = 0.95
    heard = await hear(record(tmp_path / name, sound, rate, codec))
    assert heard.pcm.shape == sound.shape
    assert abs(int(np.argmax(np.abs(heard.pcm[:, 0]))) - click) <= rate // 1000
    quiet = slice(rate // 4, rate // 2)
    level = 20 * np.log10(heard.pcm[quiet].std(axis=0) / sound[quiet].std(axis=0))
    np.testing.assert_allclose(np.delete(level, 3) if channels > 3 else level, 0, atol=1)  # 3 is the low-frequency one


async def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as film:
        pictures = film.add_stream("libx264", rate=25)
        pictures.width = pictures.height = 64
        sound = film.add_stream("flac", rate=16_000)
        sound.codec_context.layout = "mono"
        for number in range(25):
            film.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
            piece = tone(1, 16_000)[number * 640 : (number + 1) * 640].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 640
            film.mux(sound.encode(frame))
        film.mux(pictures.encode(None))
        film.mux(sound.encode(None))
    heard = await hear(path)
    assert heard.pcm.shape == (16_000, 1)
    np.testing.assert_allclose(heard.pcm, tone(1, 16_000), atol=1e-4)


@pytest.mark.parametrize("samples", [1, 160, 320])
async def test_a_very_short_recording_is_fine(tmp_path: Path, samples: int) -> None:
    path = record(tmp_path / "short.wav", tone(1, 16_000)[:samples], 16_000, "pcm_s16le")
    assert len((await hear(path)).pcm) == samples


async def test_it_comes_in_chunks(tmp_path: Path) -> None:
    path = record(tmp_path / "long.wav", tone(20, 8_000), 8_000, "pcm_s16le")
    heard = await hear(path)
    sizes = [len(piece) for piece in heard.segments[0][2]]
    assert sum(sizes) == 160_000
    assert max(sizes) <= (CHUNK_SECONDS + 0.1) * 8_000


async def test_a_change_of_rate_begins_another_segment(tmp_path: Path) -> None:
    """Two ogg files, one after the other in one file, are a valid ogg file."""
    one = record(tmp_path / "1.ogg", tone(1, 48_000), 48_000, "flac")
    two = record(tmp_path / "2.ogg", tone(1, 16_000, 2), 16_000, "flac")
    both = tmp_path / "both.ogg"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    heard = await hear(both)
    assert [(rate, channels) for rate, channels, _ in heard.segments] == [(48_000, 1), (16_000, 2)]
    assert heard.ended == 2


async def test_it_says_how_long_it_is(tmp_path: Path) -> None:
    path = record(tmp_path / "speech.m4a", tone(2.5, 44_100), 44_100, "aac")
    found = probe(path)
    assert (found.format.rate, found.format.channels, found.codec) == (44_100, 1, "aac")
    assert found.samples == pytest.approx(110_250, abs=50)
    figures = MemoryMetrics()
    source = FileSource(FileSourceOptions(path=path))
    await source.prepare(SessionContext("s", SessionRequest(), metrics=figures))
    await source.aclose()
    assert figures.gauges[figures.key("visavis_source_seconds")] == pytest.approx(2.5, abs=0.01)


# -- cut and damaged

BROKEN = [
    ("speech.wav", "pcm_s16le"),
    ("speech.flac", "flac"),
    ("speech.mp3", "libmp3lame"),
    ("speech.ogg", "libopus"),
    ("speech.mkv", "aac"),
    ("speech.aiff", "pcm_s16be"),
]


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(("name", "codec"), BROKEN)
async def test_a_cut_recording_is_played_as_far_as_it_goes(
    tmp_path: Path, name: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cut(record(tmp_path / name, tone(6, 48_000), 48_000, codec))
    with caplog.at_level(logging.WARNING, "visavis.source.file"):
        heard = await hear(path)
    seconds = len(heard.pcm) / 48_000
    assert 2 < seconds < 4
    (line,) = caplog.messages
    assert f"{seconds:.2f} s" in line
    assert str(path) in line
    assert "\n" not in line


@pytest.mark.parametrize(("name", "codec"), BROKEN)
async def test_strict_refuses_a_cut_recording_before_anything_is_made(tmp_path: Path, name: str, codec: str) -> None:
    path = cut(record(tmp_path / name, tone(6, 48_000), 48_000, codec))
    source = FileSource(FileSourceOptions(path=path, strict=True))
    with pytest.raises(MediaError, match=r"breaks off at \d\.\d\d s"):
        await source.prepare(SessionContext("s", SessionRequest()))
    await source.aclose()


@pytest.mark.parametrize(("name", "codec"), [row for row in BROKEN if row[0].endswith(("flac", "mp3", "ogg", "mkv"))])
async def test_a_damaged_recording_is_named_with_the_second(
    tmp_path: Path, name: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = record(tmp_path / name, tone(6, 48_000), 48_000, codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6_000] = bytes((byte * 7 + 13) % 256 for byte in data[middle : middle + 6_000])
    path.write_bytes(data)
    await hear(path)
    (line,) = caplog.messages
    assert "damaged at" in line or "breaks off at" in line
    with pytest.raises(MediaError):
        await hear(path, strict=True)


@pytest.mark.parametrize(("name", "codec"), [*BROKEN, ("speech.m4a", "aac"), ("speech.aac", "aac")])
async def test_a_whole_recording_is_not_complained_of(
    tmp_path: Path, name: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    await hear(record(tmp_path / name, tone(6, 48_000), 48_000, codec), strict=True)
    assert caplog.messages == []


async def test_a_wav_from_a_pipe_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes to a pipe cannot go back to fill in the sizes."""
    path = record(tmp_path / "pipe.wav", tone(1, 16_000), 16_000, "pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len((await hear(path, strict=True)).pcm) == 16_000
    assert caplog.messages == []


# -- hopeless

TEXT = "This is no sound, whatever its name says.\n" * 300


def _missing(folder: Path) -> Path:
    return folder / "missing.wav"


def _folder(folder: Path) -> Path:
    return folder


def _empty(folder: Path) -> Path:
    (folder / "empty.wav").touch()
    return folder / "empty.wav"


def _text(folder: Path) -> Path:
    (folder / "text.wav").write_text(TEXT)
    return folder / "text.wav"


def _text_mp3(folder: Path) -> Path:
    (folder / "text.mp3").write_text(TEXT)
    return folder / "text.mp3"


def _no_samples(folder: Path) -> Path:
    path = record(folder / "none.wav", tone(1, 8_000), 8_000, "pcm_s16le")
    data = path.read_bytes()
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + b"\0\0\0\0")
    return path


def _no_sound(folder: Path) -> Path:
    with av.open(str(folder / "mute.mp4"), "w") as film:
        pictures = film.add_stream("libx264", rate=25)
        pictures.width = pictures.height = 64
        film.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        film.mux(pictures.encode(None))
    return folder / "mute.mp4"


def _playlist(folder: Path) -> Path:
    record(folder / "other.mp3", tone(1, 44_100), 44_100, "libmp3lame")
    (folder / "list.wav").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/other.mp3\n")
    return folder / "list.wav"


def _list(folder: Path) -> Path:
    record(folder / "other.wav", tone(1, 44_100), 44_100, "pcm_s16le")
    (folder / "list.wav").write_text("ffconcat version 1.0\nfile other.wav\n")
    return folder / "list.wav"


def _unknown_codec(folder: Path) -> Path:
    path = record(folder / "odd.wav", tone(1, 8_000), 8_000, "pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"fmt ") + 8
    data[at : at + 2] = b"\x34\x12"
    path.write_bytes(data)
    return path


def _absurd_rate(folder: Path) -> Path:
    return record(folder / "slow.wav", tone(1, 1_000), 1_000, "pcm_s16le")


HOPELESS = [
    (_missing, "does not exist"),
    (_folder, "is a folder"),
    (_empty, "is empty"),
    (_text, "is not audio"),
    (_text_mp3, "is not audio"),
    (_no_samples, "holds no sound"),
    (_no_sound, "holds no sound"),
    (_playlist, "is not audio|holds no sound"),
    (_list, "is a list of other files"),
    (_unknown_codec, "cannot be decoded"),
    (_absurd_rate, "1000 Hz"),
]


@pytest.mark.parametrize(("make", "words"), HOPELESS)
async def test_what_cannot_be_played_is_refused_in_one_line(tmp_path: Path, make, words: str) -> None:  # type: ignore[no-untyped-def]
    path = make(tmp_path)
    source = FileSource(FileSourceOptions(path=path))
    with pytest.raises(MediaError, match=words) as caught:
        await source.prepare(SessionContext("s", SessionRequest()))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    await source.aclose()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_samples_that_are_no_numbers_are_named_with_their_second(tmp_path: Path, value: float) -> None:
    sound = tone(3, 16_000)
    sound[40_000] = value
    path = record(tmp_path / "nan.wav", sound, 16_000, "pcm_f32le")
    with pytest.raises(MediaError, match=r"at 2\.500 s is not a number"):
        await hear(path)
    source = FileSource(FileSourceOptions(path=path, strict=True))
    with pytest.raises(MediaError, match=r"at 2\.500 s"):
        await source.prepare(SessionContext("s", SessionRequest()))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
async def test_a_recording_that_may_not_be_read(tmp_path: Path) -> None:
    path = record(tmp_path / "secret.wav", tone(1, 16_000), 16_000, "pcm_s16le")
    path.chmod(0)
    with pytest.raises(MediaError, match="permission denied"):
        await hear(path)


# -- in the framework


async def test_it_runs_without_threads(tmp_path: Path) -> None:
    path = record(tmp_path / "speech.wav", tone(2, 16_000), 16_000, "pcm_s16le")
    with workers.inline():
        assert len((await hear(path)).pcm) == 32_000


def test_listing_it_does_not_import_the_decoder() -> None:
    code = (
        "import sys, visavis_source_file.plugin as p; list(p.visavis_audio_sources()); assert 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
