"""Files that the transport writes, read back with PyAV; and everything that may go wrong with a path or a disk."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from visavis import workers
from visavis.errors import BadInput, ConfigError, TransportError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.interfaces.transport import Pacing, TransportSession
from visavis.media import AudioFormat, PairedFrame, Pcm, VideoFormat, VideoFrame, frames_covering, samples_before
from visavis_transport_file import FileSessionOptions, FileTransportOptions
from visavis_transport_file.transport import FileTransport

pytestmark = pytest.mark.anyio

SIZE = 64
CLICK_FRAME = 10


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def context(**source: Any) -> SessionContext:
    return SessionContext("s", SessionRequest(source=source))


async def prepared(path: Path, source: dict[str, Any] | None = None, **options: Any) -> TransportSession:
    transport = FileTransport(FileTransportOptions(**options))
    return await transport.prepare(context(**(source or {})), FileSessionOptions(path=path))


def picture(luma: int) -> VideoFrame:
    data = np.full((SIZE * 3 // 2, SIZE), 128, np.uint8)
    data[:SIZE] = luma
    return VideoFrame(SIZE, SIZE, data)


def frames(pcm: Pcm, rate: int, fps: Fraction = Fraction(25)) -> Iterator[PairedFrame]:
    """Dark frames with the sound in their slots; frame CLICK_FRAME is bright."""
    for n in range(frames_covering(len(pcm), rate, fps)):
        start, end = samples_before(n, rate, fps), samples_before(n + 1, rate, fps)
        luma = 235 if n == CLICK_FRAME else 16
        yield PairedFrame(n, pcm[start:end], picture(luma), short=end > len(pcm))


async def write(path: Path, pcm: Pcm, rate: int, fps: Fraction = Fraction(25), **options: Any) -> Path:
    session = await prepared(path, **options)
    await session.open(context())
    await session.publish(VideoFormat(SIZE, SIZE, fps), AudioFormat(rate, pcm.shape[1]))
    for frame in frames(pcm, rate, fps):
        await session.present(frame)
    await session.drain()
    assert session.held() == 0
    await session.aclose()
    await session.aclose()
    return path


@dataclass
class Seen:
    """A video file, decoded."""

    pcm: NDArray[np.float32]
    rate: int
    layout: str
    sound_from: float
    samples: int | None
    times: list[float]
    luma: list[float]
    colours: tuple[int, int, int, int]


def look(path: Path) -> Seen:
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        shown = [(frame.time or 0.0, float(frame.to_ndarray()[:SIZE].mean())) for frame in film.decode(video)]
        codec = video.codec_context
        colours = (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range)
    with av.open(str(path)) as film:
        sound = film.streams.audio[0]
        packed = av.AudioResampler("flt")
        rows: list[NDArray[np.float32]] = []
        start = None
        for frame in film.decode(sound):
            start = frame.time if start is None else start
            rows += [part.to_ndarray().reshape(frame.samples, -1) for part in packed.resample(frame)]
        samples = sound.duration
        return Seen(
            np.concatenate(rows), sound.rate, sound.layout.name, start or 0.0, samples,
            [t for t, _ in shown], [y for _, y in shown], colours,
        )  # fmt: skip


def clicking(seconds: float, rate: int, channels: int, fps: Fraction = Fraction(25)) -> Pcm:
    """Silence with a click on every channel, on the first sample of frame CLICK_FRAME."""
    pcm = np.zeros((round(seconds * rate), channels), np.float32)
    start = samples_before(CLICK_FRAME, rate, fps)
    pcm[start : start + max(4, rate // 1000)] = 0.9
    return pcm


KINDS = [
    ("a.mp4", 48_000, 2, "stereo", 48_000),
    ("a.mp4", 44_100, 1, "mono", 44_100),
    ("a.mp4", 8_000, 1, "mono", 8_000),
    ("a.mp4", 22_050, 1, "mono", 22_050),
    ("a.mp4", 11_025, 3, "3.0", 11_025),
    ("a.mp4", 96_000, 2, "stereo", 96_000),
    ("a.mp4", 48_000, 6, "5.1", 48_000),
    ("a.mp4", 48_000, 8, "7.1", 48_000),
    ("a.mp4", 12_345, 1, "mono", 16_000),
    ("a.mp4", 192_000, 2, "stereo", 96_000),
    ("a.mp4", 48_000, 12, "mono", 48_000),
    ("A.MP4", 24_000, 1, "mono", 24_000),
    ("a.mov", 44_100, 2, "stereo", 44_100),
    ("a.mkv", 44_100, 2, "stereo", 44_100),
    ("a.webm", 48_000, 1, "mono", 48_000),
    ("a.webm", 44_100, 2, "stereo", 48_000),
]


@pytest.mark.parametrize(("name", "rate", "channels", "layout", "kept"), KINDS)
async def test_sound_and_picture_start_together_and_last_alike(
    tmp_path: Path, name: str, rate: int, channels: int, layout: str, kept: int
) -> None:
    pcm = clicking(1.513, rate, channels)
    seen = look(await write(tmp_path / name, pcm, rate))
    assert (seen.rate, seen.layout) == (kept, layout)
    assert len(seen.times) == frames_covering(len(pcm), rate, Fraction(25))
    np.testing.assert_allclose(seen.times, np.arange(len(seen.times)) / 25, atol=0.0006)
    bright = [t for t, y in zip(seen.times, seen.luma, strict=True) if y > 120]
    assert bright == [pytest.approx(0.4, abs=0.0006)]
    click = seen.sound_from + int(np.argmax(np.abs(seen.pcm[:, 0]) > 0.4)) / kept
    assert click == pytest.approx(bright[0], abs=0.001)
    assert seen.colours == (6, 6, 6, 1)
    if name.lower().endswith(("mp4", "mov")):
        assert seen.samples == pytest.approx(len(pcm) * kept / rate, abs=0 if kept == rate else 1)


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(30_000, 1_001), Fraction(50)])
async def test_any_frame_rate(tmp_path: Path, fps: Fraction) -> None:
    pcm = clicking(2, 44_100, 1, fps)
    seen = look(await write(tmp_path / "a.mp4", pcm, 44_100, fps))
    np.testing.assert_allclose(seen.times, [float(n / fps) for n in range(len(seen.times))], atol=1e-6)
    assert len(seen.times) == frames_covering(len(pcm), 44_100, fps)
    assert seen.samples == len(pcm)


@pytest.mark.parametrize("samples", [1, 320, 640, 641, 1024])
async def test_hardly_any_sound(tmp_path: Path, samples: int) -> None:
    pcm = np.full((samples, 1), 0.5, np.float32)
    seen = look(await write(tmp_path / "a.mp4", pcm, 16_000))
    assert seen.samples == samples
    assert len(seen.times) == frames_covering(samples, 16_000, Fraction(25))


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.mov"])
async def test_the_same_input_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    pcm = clicking(1.2, 48_000, 2)
    first = (await write(tmp_path / name, pcm, 48_000)).read_bytes()
    second = (await write(tmp_path / name, pcm, 48_000)).read_bytes()
    assert first == second


async def test_an_mp4_begins_with_its_index(tmp_path: Path) -> None:
    data = (await write(tmp_path / "a.mp4", clicking(1, 48_000, 2), 48_000)).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def sweep(rate: int, seconds: float = 6.0) -> Pcm:
    """100 Hz to 15 kHz, left and right at different levels."""
    t = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * 100 * seconds / np.log(150) * (150 ** (t / seconds) - 1)
    return np.stack([0.5 * np.sin(phase), 0.25 * np.cos(phase)], axis=1).astype(np.float32)


def plain_aac(path: Path, pcm: Pcm, rate: int) -> NDArray[np.float32]:
    """PyAV's own AAC of the same sound, decoded."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=rate)
        stream.codec_context.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(str(path)) as film:
        return np.concatenate([frame.to_ndarray() for frame in film.decode(audio=0)], axis=1).T


@pytest.mark.parametrize("rate", [44_100, 48_000])
async def test_a_sweep_is_as_good_as_plain_aac(tmp_path: Path, rate: int) -> None:
    pcm = sweep(rate)
    ours = look(await write(tmp_path / "a.mp4", pcm, rate)).pcm
    plain = plain_aac(tmp_path / "plain.m4a", pcm, rate)
    width = rate // 10
    for at in range(0, len(pcm) - width, width):
        part = slice(at, at + width)
        level = 20 * np.log10(ours[part].std(axis=0) / plain[part].std(axis=0))
        assert np.abs(level).max() < 1, f"{at / rate:.1f} s: {level} dB"


async def test_a_picture_that_was_dropped_shows_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    session = await prepared(path)
    await session.publish(VideoFormat(SIZE, SIZE, Fraction(25)), AudioFormat(16_000))
    lumas = [None, None, 60, None, 200, None, None]
    for n, luma in enumerate(lumas):
        video = None if luma is None else picture(luma)
        await session.present(PairedFrame(n, np.zeros((640, 1), np.float32), video))
    await session.aclose()
    seen = look(path)
    np.testing.assert_allclose(seen.luma, [60, 60, 60, 60, 200, 200, 200], atol=3)
    assert seen.samples == 640 * len(lumas)


async def test_sound_alone_is_shown_in_black(tmp_path: Path) -> None:
    session = await prepared(tmp_path / "a.mp4")
    await session.publish(VideoFormat(SIZE, SIZE, Fraction(25)), AudioFormat(16_000))
    for n in range(5):
        await session.present(PairedFrame(n, np.zeros((640, 1), np.float32), None))
    await session.aclose()
    np.testing.assert_allclose(look(tmp_path / "a.mp4").luma, [16] * 5, atol=1)


async def test_sound_that_is_much_too_loud_is_written(tmp_path: Path) -> None:
    pcm = clicking(1, 48_000, 1) * np.float32(1e30)
    assert look(await write(tmp_path / "a.mp4", pcm, 48_000)).samples == 48_000


@pytest.mark.parametrize("pacing", list(Pacing))
async def test_pacing_is_an_option(tmp_path: Path, pacing: Pacing) -> None:
    session = await prepared(tmp_path / "a.mp4", pacing=pacing)
    assert session.pacing is pacing
    assert (await prepared(tmp_path / "a.mp4")).pacing is Pacing.ASAP
    pcm = clicking(0.5, 16_000, 1)
    assert look(await write(tmp_path / "a.mp4", pcm, 16_000, pacing=pacing)).samples == len(pcm)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"preset": "ultrafast", "crf": 30}),
        ("a.webm", {"encoder": "libvpx"}),
        ("a.mp4", {"audio_bit_rate": 64_000}),
    ],
)
async def test_options_reach_the_encoder(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    pcm = clicking(1, 48_000, 2)
    plain = (await write(tmp_path / name, pcm, 48_000)).read_bytes()
    assert (await write(tmp_path / name, pcm, 48_000, **options)).read_bytes() != plain


async def test_it_runs_without_threads(tmp_path: Path) -> None:
    with workers.inline():
        pcm = clicking(1, 48_000, 2)
        assert look(await write(tmp_path / "a.mp4", pcm, 48_000)).samples == len(pcm)


# -- all or nothing


def leftovers(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if "partial" in name)


@asynccontextmanager
async def half_written(path: Path) -> AsyncIterator[TransportSession]:
    session = await prepared(path)
    pcm = clicking(2, 16_000, 1)
    await session.publish(VideoFormat(SIZE, SIZE, Fraction(25)), AudioFormat(16_000))
    for frame in frames(pcm, 16_000):
        await session.present(frame)
    assert len(leftovers(path.parent)) == 1
    yield session
    assert leftovers(path.parent) == []


async def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    async with half_written(path) as session:
        assert path.read_bytes() == b"old"
        await session.aclose()
        assert look(path).samples == 32_000


@pytest.mark.parametrize("error", [RuntimeError("something else failed"), KeyboardInterrupt()])
async def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    async with half_written(path) as session:
        await session.aclose(error)
        await session.aclose()
    assert path.read_bytes() == b"old"


async def test_cancellation_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    async with half_written(path) as session:
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            except BaseException as error:
                await session.aclose(error)
                raise
    assert os.listdir(tmp_path) == []


async def test_nothing_said_is_no_file(tmp_path: Path) -> None:
    session = await prepared(tmp_path / "a.mp4")
    await session.publish(VideoFormat(SIZE, SIZE, Fraction(25)), AudioFormat(16_000))
    await session.aclose()
    assert os.listdir(tmp_path) == []


async def test_preparing_leaves_nothing(tmp_path: Path) -> None:
    session = await prepared(tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []
    await session.aclose(RuntimeError("the avatar could not be loaded"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
async def test_an_existing_file_keeps_its_mode_and_a_link_its_aim(tmp_path: Path) -> None:
    real = tmp_path / "real.mp4"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link = tmp_path / "link.mp4"
    link.symlink_to(real)
    await write(link, clicking(1, 16_000, 1), 16_000)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert look(real).samples == 16_000


async def test_a_picture_of_another_size_is_an_error(tmp_path: Path) -> None:
    session = await prepared(tmp_path / "a.mp4")
    await session.publish(VideoFormat(128, 128, Fraction(25)), AudioFormat(16_000))
    await session.present(PairedFrame(0, np.zeros((640, 1), np.float32), picture(16)))
    with pytest.raises(TransportError, match="64x64"):
        await session.drain()
    await session.aclose(TransportError("as above"))
    assert os.listdir(tmp_path) == []


# -- paths that cannot be


async def refused(path: Path, words: str, source: str | None = None) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        await prepared(path, {} if source is None else {"path": source})
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


async def test_paths_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    await refused(tmp_path / "a.avi", r"'\.avi' is not known.*\.mkv, \.mov, \.mp4, \.webm")
    await refused(tmp_path / "video", "has no extension")
    await refused(tmp_path / "none" / "a.mp4", "the folder .*none does not exist")
    await refused(tmp_path / "file" / "a.mp4", "the folder .*file does not exist")
    await refused(tmp_path / "folder.mp4", "is a folder")
    await refused(tmp_path / ("x" * 300 + ".mp4"), "the name is too long")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody may write to")
async def test_a_folder_that_nobody_may_write_to() -> None:
    await refused(Path("/proc/self/a.mp4"), "cannot be written")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
async def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    await refused(tmp_path / "pipe.mp4", "not a regular file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
async def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    await refused(tmp_path / "locked" / "a.mp4", "permission denied")


async def test_the_recording_itself_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speech.mp4"
    path.write_bytes(b"precious")
    (tmp_path / "link.mp4").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    await refused(path, "the recording itself", "speech.mp4")
    await refused(tmp_path / "link.mp4", "the recording itself", str(path))
    assert path.read_bytes() == b"precious"


async def test_encoders_that_do_not_fit(tmp_path: Path) -> None:
    for name, encoder, words in [
        ("a.mp4", "nosuch", "no video encoder 'nosuch'"),
        ("a.mp4", "aac", "encodes audio"),
        ("a.webm", "libx264", "does not take h264"),
    ]:
        with pytest.raises(ConfigError, match=words):
            await prepared(tmp_path / name, encoder=encoder)
    with pytest.raises(ValidationError):
        FileTransportOptions(crf=99)


# -- disks that fill up

FILL = """
    import anyio, sys
    import numpy as np
    from fractions import Fraction
    from pathlib import Path
    from visavis.errors import TransportError
    from visavis.interfaces.session import SessionContext, SessionRequest
    from visavis.media import AudioFormat, PairedFrame, VideoFormat, VideoFrame
    from visavis_transport_file import FileSessionOptions, FileTransportOptions
    from visavis_transport_file.transport import FileTransport

    async def main(path, count):
        context = SessionContext("s", SessionRequest())
        transport = FileTransport(FileTransportOptions(crf=0))
        session = await transport.prepare(context, FileSessionOptions(path=path))
        noise = np.random.default_rng(0)
        try:
            await session.publish(VideoFormat(128, 128, Fraction(25)), AudioFormat(48_000, 2))
            for n in range(count):
                data = noise.integers(0, 256, (192, 128), np.uint8)
                sound = noise.uniform(-0.5, 0.5, (1920, 2)).astype(np.float32)
                await session.present(PairedFrame(n, sound, VideoFrame(128, 128, data)))
            await session.drain()
            await session.aclose()
        except TransportError as error:
            await session.aclose(error)
            print(error)
            return
        print("written")

    {before}
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
"""


def fill(path: Path, count: int, before: str = "") -> str:
    code = textwrap.dedent(FILL).format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(count)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where one may be mounted."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("count", [4, 12, 18, 60])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_full_disk(small_disk: Path, name: str, count: int) -> None:
    """Early, late, or only when the index is moved to the front: the end is the same."""
    path = small_disk / name
    said = fill(path, count)
    if said == "written":
        assert count < 60
        assert os.listdir(small_disk) == [name]
    else:
        assert count > 4
        assert said == f"disk full: {path} could not be completed"
        assert os.listdir(small_disk) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_a_file_size_limit(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    said = fill(tmp_path / "a.mp4", 60, limit)
    assert said == f"{tmp_path / 'a.mp4'} could not be written: the file is larger than is allowed here"
    assert os.listdir(tmp_path) == []


def test_listing_it_does_not_import_the_encoder() -> None:
    code = (
        "import sys, visavis_transport_file.plugin as p; list(p.visavis_transports()); assert 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
