"""Recordings in, films out, through the whole pipeline: how long they last, that they repeat, what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from numpy.typing import NDArray
from visavis.cli import main
from visavis.component import ComponentConfig
from visavis.config import make_deployment
from visavis.hookspecs import hookimpl
from visavis.interfaces.session import SessionRequest
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.media import Pcm, frames_covering
from visavis.plugins import AudioSourcePlugin
from visavis.registry import Origin, Registry
from visavis.supervisor import run_session
from visavis.testing import tiny_avatar

ROOT = Path(__file__).resolve().parents[2]
FPS = Fraction(10)
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@pytest.fixture(scope="module")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avatars")
    tiny_avatar(folder / "tiny.hvia")
    return folder


class PiecesOptions(ComponentConfig):
    """What the test's own source says is in its class."""


class Pieces(AudioSource):
    """Says ``pcm`` in pieces of the sizes that ``sizes`` repeats; then calls ``afterwards``."""

    pcm: Pcm
    rate: int
    sizes: Sequence[int]
    afterwards: Callable[[], None] | None = None

    def __init__(self, *_: object) -> None: ...

    async def run(self, speech: SpeechWriter) -> None:
        stream = await speech.open(self.rate, self.pcm.shape[1])
        at = turn = 0
        while at < len(self.pcm):
            size = self.sizes[turn % len(self.sizes)]
            await stream.write(self.pcm[at : at + size])
            at, turn = at + size, turn + 1
        if self.afterwards is not None:
            self.afterwards()
        await stream.end()


class PiecesPlugin:
    """A plugin that brings the test's own source."""

    def __init__(self, source: type[Pieces]) -> None:
        self.source = source

    @hookimpl
    def visavis_audio_sources(self) -> Iterator[AudioSourcePlugin]:
        yield AudioSourcePlugin(name="pieces", summary="For a test.", session=PiecesOptions, factory=self.source)


def film(avatars: Path, out: Path, source: Path | type[Pieces], **transport: Any) -> Path:
    """Render with the tiny avatar, a recording or what a Pieces says."""
    registry = Registry.discover()
    sections: dict[str, Any] = {"store": {"use": "filesystem", "root": str(avatars)}}
    if not isinstance(source, Path):
        registry.add(PiecesPlugin(source), Origin("test", "0", "pieces"))
        sections["source"] = {"use": "pieces"}
    if transport:
        sections["transport"] = {"use": "file", **transport}
    options = {"path": str(source)} if isinstance(source, Path) else {}
    request = SessionRequest(avatar="tiny", source=options, transport={"path": str(out)})
    anyio.run(run_session, make_deployment(sections, registry), request)
    return out


def record(path: Path, pcm: NDArray[np.float32], rate: int, codec: str) -> Path:
    layout = LAYOUTS[pcm.shape[1]]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate)
        stream.codec_context.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def babble(seconds: float, rate: int, channels: int = 1) -> NDArray[np.float32]:
    """Noise with a syllable's rhythm: it moves a mouth."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.1, (len(t), channels))
    return (noise * np.maximum(0, np.sin(2 * np.pi * 2.5 * t))[:, None]).clip(-1, 1).astype(np.float32)


def pictures(path: Path) -> tuple[list[float], NDArray[np.uint8]]:
    with av.open(str(path)) as opened:
        shown = [(frame.time or 0.0, frame.to_ndarray()) for frame in opened.decode(video=0)]
    return [t for t, _ in shown], np.stack([p for _, p in shown])


def sound(path: Path) -> tuple[int, int, int | None, NDArray[np.float32]]:
    """Rate, channels, length in samples, and all of it."""
    with av.open(str(path)) as opened:
        stream = opened.streams.audio[0]
        pcm = np.concatenate([frame.to_ndarray() for frame in opened.decode(stream)], axis=1).T
        return stream.rate, stream.channels, stream.duration, pcm


# -- it lasts as long as the sound, and keeps it

FINE = [
    ("telephone.wav", "pcm_s16le", 8_000, 1, 1.27),
    ("music.wav", "pcm_s16le", 44_100, 2, 1.0),
    ("surround.wav", "pcm_s16le", 48_000, 6, 0.77),
    ("8bit.wav", "pcm_u8", 22_050, 1, 1.0),
    ("24bit.wav", "pcm_s24le", 48_000, 2, 1.0),
    ("float.wav", "pcm_f32le", 16_000, 1, 1.01),
    ("speech.flac", "flac", 44_100, 1, 1.3),
    ("speech.mp3", "libmp3lame", 44_100, 2, 1.3),
    ("speech.ogg", "libopus", 48_000, 1, 1.3),
    ("speech.m4a", "aac", 44_100, 1, 1.3),
    ("short.wav", "pcm_s16le", 16_000, 1, 0.02),
]


@pytest.mark.parametrize(("name", "codec", "rate", "channels", "seconds"), FINE)
def test_the_film_lasts_as_long_as_the_sound(
    tmp_path: Path, avatars: Path, name: str, codec: str, rate: int, channels: int, seconds: float
) -> None:
    pcm = babble(seconds, rate, channels)
    out = film(avatars, tmp_path / "out.mp4", record(tmp_path / name, pcm, rate, codec))
    times, _ = pictures(out)
    assert len(times) == frames_covering(len(pcm), rate, FPS)
    np.testing.assert_allclose(times, np.arange(len(times)) / 10, atol=1e-6)
    assert sound(out)[:3] == (rate, channels, len(pcm))


def test_silence_is_filmed_too(tmp_path: Path, avatars: Path) -> None:
    pcm = np.zeros((24_000, 1), np.float32)
    out = film(avatars, tmp_path / "out.mp4", record(tmp_path / "silence.wav", pcm, 24_000, "pcm_s16le"))
    assert len(pictures(out)[0]) == 10
    rate, channels, samples, heard = sound(out)
    assert (rate, channels, samples) == (24_000, 1, 24_000)
    assert np.abs(heard).max() < 1e-3


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_sweep_is_as_good_as_plain_aac(tmp_path: Path, avatars: Path, rate: int) -> None:
    """100 Hz to 15 kHz in stereo, within 1 dB of PyAV's own AAC of the same file, a tenth of a second at a time."""
    seconds = 5
    t = np.arange(rate * seconds) / rate
    phase = 2 * np.pi * 100 * seconds / np.log(150) * (150 ** (t / seconds) - 1)
    pcm = np.stack([0.5 * np.sin(phase), 0.25 * np.cos(phase)], axis=1).astype(np.float32)
    recording = record(tmp_path / "sweep.wav", pcm, rate, "pcm_s16le")
    out = film(avatars, tmp_path / "out.mp4", recording)
    assert sound(out)[:3] == (rate, 2, len(pcm))
    ours, plain = sound(out)[3], sound(record(tmp_path / "plain.m4a", pcm, rate, "aac"))[3]
    width = rate // 10
    level = [
        20 * np.log10(ours[at : at + width].std(axis=0) / plain[at : at + width].std(axis=0))
        for at in range(0, len(pcm) - width, width)
    ]
    assert np.abs(level).max() < 1


# -- it repeats


def test_the_same_input_gives_the_same_film(tmp_path: Path, avatars: Path) -> None:
    recording = record(tmp_path / "speech.wav", babble(2.3, 44_100, 2), 44_100, "pcm_s16le")
    one = film(avatars, tmp_path / "1.mp4", recording)
    two = film(avatars, tmp_path / "2.mp4", recording)
    assert one.read_bytes() == two.read_bytes()
    assert np.abs(np.diff(pictures(one)[1].astype(int), axis=0)).max() > 20  # and it is not a still


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_how_the_sound_is_cut_up_does_not_matter(tmp_path: Path, avatars: Path, rate: int) -> None:
    sound_said = babble(2.3, rate)

    def said(name: str, *lengths: int) -> bytes:
        class Said(Pieces):
            pcm, sizes = sound_said, lengths

        Said.rate = rate
        return film(avatars, tmp_path / name, Said).read_bytes()

    whole = said("whole.mp4", len(sound_said))
    assert said("10ms.mp4", rate // 100) == whole
    assert said("odd.mp4", 1, 777, 13, 4_999, 31) == whole
    recording = record(tmp_path / "speech.wav", sound_said, rate, "pcm_f32le")
    assert film(avatars, tmp_path / "file.mp4", recording).read_bytes() == whole


@pytest.mark.parametrize("name", ["out.webm", "out.mkv", "out.mov"])
def test_other_kinds_of_file(tmp_path: Path, avatars: Path, name: str) -> None:
    recording = record(tmp_path / "speech.wav", babble(1.5, 48_000, 2), 48_000, "pcm_s16le")
    out = film(avatars, tmp_path / name, recording)
    assert len(pictures(out)[0]) == 15
    assert sound(out)[:2] == (48_000, 2)


# -- what is refused, and what is left behind: nothing


Ran = Callable[..., int]


@pytest.fixture
def render(tmp_path: Path, avatars: Path) -> Ran:
    """``visavis render SPEECH -o OUT`` in this process; returns its exit status."""
    config = tmp_path / "deployment.yaml"
    config.write_text(f"store: {{use: filesystem, root: '{avatars}'}}\n")

    def run(speech: Path, out: Path, *more: str) -> int:
        return main(["render", str(speech), "-o", str(out), "--avatar", "tiny", "--config", str(config), *more])

    return run


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("This is a letter, whatever its name says.\n" * 100)


def zero_length(path: Path) -> None:
    record(path, babble(1, 16_000), 16_000, "pcm_s16le")
    data = path.read_bytes()
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + b"\0\0\0\0")


def nan(path: Path) -> None:
    pcm = babble(2, 16_000)
    pcm[24_000] = np.nan
    record(path, pcm, 16_000, "pcm_f32le")


def missing(path: Path) -> None: ...


HOPELESS = [
    (missing, "does not exist"),
    (empty, "is empty"),
    (text, "is not audio"),
    (zero_length, "holds no sound"),
    (nan, "at 1.500 s is not a number"),
]


def expect_refusal(said: str, words: str, path: Path) -> None:
    (line,) = [row for row in said.splitlines() if row.startswith("visavis: error:")]
    assert words in line
    assert str(path) in line
    assert "Traceback" not in said


@pytest.mark.parametrize(("make", "words"), HOPELESS)
def test_bad_recordings_are_refused(
    tmp_path: Path, render: Ran, capfd: pytest.CaptureFixture[str], make: Callable[[Path], None], words: str
) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "speech.wav")
    assert render(tmp_path / "speech.wav", tmp_path / "out" / "out.mp4") == 2
    expect_refusal(capfd.readouterr().err, words, tmp_path / "speech.wav")
    assert os.listdir(tmp_path / "out") == []


def test_bad_targets_are_refused(tmp_path: Path, render: Ran, capfd: pytest.CaptureFixture[str]) -> None:
    speech = record(tmp_path / "speech.wav", babble(1, 16_000), 16_000, "pcm_s16le")
    film_itself = record(tmp_path / "speech.mp4", babble(1, 16_000), 16_000, "aac")
    before = film_itself.read_bytes()
    (tmp_path / "folder.mp4").mkdir()
    for recording, out, words in [
        (speech, tmp_path / "none" / "out.mp4", "does not exist"),
        (speech, tmp_path / "folder.mp4", "is a folder"),
        (speech, tmp_path / "out.avi", "'.avi' is not known"),
        (film_itself, film_itself, "is the recording itself"),
    ]:
        names = sorted(os.listdir(tmp_path))
        assert render(recording, out) == 2
        expect_refusal(capfd.readouterr().err, words, out)
        assert sorted(os.listdir(tmp_path)) == names
    assert film_itself.read_bytes() == before


def test_a_cut_recording_is_filmed_with_a_warning_or_refused(
    tmp_path: Path, render: Ran, capfd: pytest.CaptureFixture[str]
) -> None:
    speech = record(tmp_path / "speech.mp3", babble(4, 44_100), 44_100, "libmp3lame")
    speech.write_bytes(speech.read_bytes()[: speech.stat().st_size // 2])
    out = tmp_path / "out.mp4"
    assert render(speech, out, "--strict") == 2
    expect_refusal(capfd.readouterr().err, "breaks off at ", speech)
    assert not out.exists()
    assert render(speech, out) == 0
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    samples = sound(out)[2]
    assert samples is not None
    assert f"breaks off at {samples / 44_100:.2f} s of the 4.00 s" in warning
    assert 15 <= len(pictures(out)[0]) <= 25


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk(tmp_path: Path, render: Ran, capfd: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        speech = record(tmp_path / "speech.wav", babble(20, 16_000), 16_000, "pcm_s16le")
        assert render(speech, disk / "out.mp4") == 1
        expect_refusal(capfd.readouterr().err, "disk full", disk / "out.mp4")
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_session_that_is_cancelled_leaves_the_old_film(tmp_path: Path, avatars: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    seen: list[str] = []

    class Stopped(Pieces):
        pcm, rate, sizes = babble(6, 16_000), 16_000, (16_000,)

    async def run() -> None:
        with anyio.CancelScope() as scope:

            def stop() -> None:
                seen.extend(name for name in os.listdir(tmp_path) if "partial" in name)
                scope.cancel()

            Stopped.afterwards = staticmethod(stop)
            registry = Registry.discover()
            registry.add(PiecesPlugin(Stopped), Origin("test", "0", "pieces"))
            sections = {"store": {"use": "filesystem", "root": str(avatars)}, "source": {"use": "pieces"}}
            request = SessionRequest(avatar="tiny", transport={"path": str(out)})
            await run_session(make_deployment(sections, registry), request)
        assert scope.cancelled_caught

    anyio.run(run)
    assert len(seen) == 1
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert out.read_bytes() == b"old"


# -- however long it is


def test_five_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, str(ROOT / "bench" / "flat_memory.py"), "--minutes", "5", "--limit", "20"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["frames"] == 3_000
