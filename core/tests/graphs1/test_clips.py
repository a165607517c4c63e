"""Clips are decoded once, into files that survive crashes, damage and rivals."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from visavis.errors import MediaError, RendererError
from visavis.graphs1 import clips
from visavis.graphs1.caching import cache_folder
from visavis.graphs1.clips import ClipSource, open_clip

W, H, N = 64, 48, 6


def encoded(frames: int = N, width: int = W, height: int = H, codec: str = "libx264", pixels: str = "yuv420p") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for index in range(frames):
            plane = np.full((height, width, 3), 40 + 30 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


VIDEO = encoded()


class Source:
    """A clip that counts how often it is read."""

    def __init__(self, data: bytes = VIDEO, **changes: Any) -> None:
        self.reads = 0
        self.data = data
        plain = ClipSource(self.read, hashlib.sha256(data).hexdigest(), W, H, N)
        self.clip = replace(plain, **changes)

    def read(self) -> bytes:
        self.reads += 1
        return self.data


def kept(folder: Path) -> Path:
    (path,) = (folder / "clips").iterdir()
    return path


def test_decoded_once(tmp_path: Path) -> None:
    source = Source()
    first = open_clip(source.clip, tmp_path)
    again = open_clip(source.clip, tmp_path)
    assert source.reads == 1
    assert first.shape == (N, H * 3 // 2, W)
    assert (first == again).all()
    assert not first.flags.writeable
    levels = first[:, :H].mean(axis=(1, 2))
    assert (np.diff(levels) > 15).all()
    assert not list((tmp_path / "clips").glob("*.part"))


def test_a_matte_is_stretched_to_full_range(tmp_path: Path) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for luma in (16, 235, 125):
            frame = av.VideoFrame.from_ndarray(np.full((H * 3 // 2, W), luma, np.uint8), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    matte = open_clip(Source(file.getvalue(), frames=3, kind="matte").clip, tmp_path)
    assert matte.shape == (3, H, W)
    assert np.abs(matte.mean(axis=(1, 2)) - [0, 255, 127]).max() < 3


@pytest.mark.parametrize("harm", ["short", "header", "frame", "empty"])
def test_a_damaged_file_is_decoded_anew(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    good = open_clip(source.clip, tmp_path).copy()
    path = kept(tmp_path)
    data = bytearray(path.read_bytes())
    if harm == "header":
        data[10] ^= 1
    elif harm == "frame":
        data[clips.HEADER :] = bytes(len(data) - clips.HEADER)
    path.write_bytes({"short": data[:-100], "empty": b""}.get(harm, data))
    with caplog.at_level(logging.WARNING):
        mended = open_clip(source.clip, tmp_path)
    assert (mended == good).all()
    assert source.reads == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "damaged" in caplog.text
    open_clip(source.clip, tmp_path)
    assert source.reads == 2


def test_a_cache_that_cannot_be_written_costs_a_temporary_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        frames = open_clip(Source().clip, blocked)
    assert frames.shape == (N, H * 3 // 2, W)
    assert "cannot be written" in caplog.text


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("VISAVIS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clips.Path, "home", homeless)
    assert open_clip(Source().clip).shape == (N, H * 3 // 2, W)
    assert "no folder for decoded clips" in caplog.text


def test_no_room_anywhere_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clips.tempfile, "mkstemp", full)
    monkeypatch.setattr(clips.tempfile, "TemporaryFile", full)
    with pytest.raises(RendererError, match=r"no room.*VISAVIS_CACHE_DIR"):
        open_clip(Source().clip, tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(frames=N + 1), f"has {N} pictures, not {N + 1}"),
        (Source(frames=N - 1), f"has more than {N - 1} pictures"),
        (Source(width=W + 2), "is 64x48, not 66x48"),
        (Source(b"no video at all" * 100), "cannot be decoded"),
        (Source(VIDEO[: len(VIDEO) // 2]), "0 video streams|cannot be decoded"),
        (Source(encoded(codec="mpeg4")), "not H.264 yuv420p"),
        (Source(encoded(pixels="yuv444p")), "not H.264 yuv420p"),
    ],
    ids=["few", "many", "size", "noise", "truncated", "mpeg4", "yuv444p"],
)
def test_a_wrong_video_is_refused_and_leaves_nothing(tmp_path: Path, source: Source, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        open_clip(source.clip, tmp_path)
    assert not list((tmp_path / "clips").iterdir())


def test_many_threads_get_the_same_frames(tmp_path: Path) -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(open_clip(Source().clip, tmp_path))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all((frames == results[0]).all() for frames in results)
    assert kept(tmp_path).suffix == ".frames"


CHILD = """
import hashlib, sys
from pathlib import Path
from visavis.graphs1.clips import ClipSource, open_clip
data = Path(sys.argv[1]).read_bytes()
frames = open_clip(ClipSource(lambda: data, hashlib.sha256(data).hexdigest(), 64, 48, 6), Path(sys.argv[2]))
print(hashlib.sha256(frames.tobytes()).hexdigest())
"""


def test_several_processes_at_once(tmp_path: Path) -> None:
    video = tmp_path / "idle.mp4"
    video.write_bytes(VIDEO)
    command = [sys.executable, "-c", CHILD, str(video), str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {child.communicate(timeout=60)[0] for child in children}
    assert len(said) == 1
    assert all(child.returncode == 0 for child in children)
    assert len(list((tmp_path / "clips").iterdir())) == 1


def test_what_nobody_opens_for_a_month_is_swept(tmp_path: Path) -> None:
    open_clip(Source().clip, tmp_path)
    old = kept(tmp_path)
    left = tmp_path / "clips" / ".crashed.part"
    left.write_bytes(b"half")
    for path in (old, left):
        os.utime(path, (0, 0))
    other = encoded(frames=3)
    open_clip(Source(other, frames=3).clip, tmp_path)
    assert not old.exists()
    assert not left.exists()


def test_opening_counts_as_use(tmp_path: Path) -> None:
    open_clip(Source().clip, tmp_path)
    os.utime(kept(tmp_path), (0, 0))
    open_clip(Source().clip, tmp_path)
    assert kept(tmp_path).stat().st_mtime > 1e9


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISAVIS_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("VISAVIS_CACHE_DIR")
    assert cache_folder().name in ("visavis", "Cache")
