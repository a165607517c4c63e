"""What is told of a whole avatar file: placements, videos, graphs, and what a maker should know."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hvia_forge import Parts
from visavis.errors import AvatarError, AvatarInvalid, AvatarNotFound
from visavis.hvia import Limits, check_hvia, open_hvia, validate_hvia
from visavis.hvia.mp4 import check_video, tracks
from visavis.hvia.placement import parse_placement
from visavis.testing.tiny import tiny_avatar


def row(**changes: Any) -> dict[str, Any]:
    return {
        "affine": [[1, 0, 4.5, 0, 1, 6], [1, 0, 4, 0, 1, 6]],
        "rect": [[4, 6, 32, 32], [4, 6, 32, 32]],
        "pose": [[0, 0, 0], [-3.5, 1, 2]],
        **changes,
    }


def parsed(said: object) -> Any:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    return parse_placement(data, 2, 64, 48)


def test_a_placement() -> None:
    placement = parsed(row())
    assert len(placement) == 2
    assert placement.affine[0].tolist() == [[1, 0, 4.5], [0, 1, 6]]
    assert placement.rect.dtype == np.int64
    assert placement.pose[1].tolist() == [-3.5, 1, 2]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "an object with the keys affine, rect, pose"),
        (row(extra=[]), "and no others"),
        (row(rect=[[4, 6, 32, 32]]), "one row for each of the 2 frames"),
        (row(rect="ab"), "rect must be a list"),
        (row(rect=[[4, 6, 32], [4, 6, 32, 32]]), "rect of frame 0 must be 4 numbers"),
        (row(rect=[[4, 6, 32, "32"], [4, 6, 32, 32]]), "rect of frame 0 must be 4 numbers"),
        (row(rect=[[4, 6, 32, True], [4, 6, 32, 32]]), "rect of frame 0 must be 4 numbers"),
        (row(rect=[[4, 6, 32, 32], [5, 6, 32, 32]]), "rect of frame 1 must be even whole numbers"),
        (row(rect=[[4, 6, 32, 32], [4.5, 6, 32, 32]]), "rect of frame 1 must be even whole numbers"),
        (row(rect=[[4, 6, 32, 32], [34, 6, 32, 32]]), "rect of frame 1 does not lie inside"),
        (row(rect=[[4, 18, 32, 32], [4, 6, 32, 32]]), "rect of frame 0 does not lie inside"),
        (row(rect=[[-2, 6, 32, 32], [4, 6, 32, 32]]), "rect of frame 0 does not lie inside"),
        (row(rect=[[4, 6, 0, 32], [4, 6, 32, 32]]), "rect of frame 0 does not lie inside"),
        (row(rect=[[4, 6, 1e300, 32], [4, 6, 32, 32]]), "rect of frame 0 does not lie inside"),
        (row(affine=[[1, 0, 0, 0, 1, 0], [0, 0, 4, 0, 0, 6]]), "affine of frame 1 squeezes the face"),
        (row(affine=[[1, 0, 0, 0, 1, 0], [99, 0, 4, 0, 1, 6]]), "affine of frame 1 is out of bounds"),
        (row(affine=[[1, 0, 1e6, 0, 1, 0], [1, 0, 4, 0, 1, 6]]), "affine of frame 0 is out of bounds"),
        (row(pose=[[0, 0, 181], [0, 0, 0]]), "pose of frame 0 is beyond 180 degrees"),
        (b'{"affine": [[NaN]]}', "NaN"),
        (b'{"affine": [[1e999]]}', "1e999"),
        (b"[" * 99, "nested"),
    ],
)
def test_placements_that_are_refused(said: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(said)


def video(
    frames: int = 4,
    width: int = 64,
    height: int = 48,
    fps: int = 10,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    sound: bool = False,
    skip: bool = False,
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        hear: Any = container.add_stream("aac", rate=16000) if sound else None
        for index in range(frames):
            frame = av.VideoFrame(width, height, pix_fmt)
            frame.pts = index + (3 if skip and index > 1 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if hear is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.rate = 16000
            container.mux(hear.encode(silence))
            container.mux(hear.encode(None))
    return file.getvalue()


def test_a_video() -> None:
    data = video()
    (track,) = tracks(data)
    assert (track.kind, track.codec, track.width, track.height, track.frames) == ("vide", "avc1", 64, 48, 4)
    check_video(data, 64, 48, 10, 4)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: b"", "not an MP4"),
        (lambda: b"\0\0\0\x08ftyp", "no track"),
        (lambda: b"\0\0\0\x01ftyp" + b"\xff" * 20, "broken"),
        (lambda: video()[:-40], "broken or cut short"),
        (lambda: video(frames=5), "it has 5 frames, not 4"),
        (lambda: video(width=32), "32x48 pixels, not 64x48"),
        (lambda: video(fps=25), "25 pictures a second, not 10"),
        (lambda: video(skip=True), "pictures a second"),
        (lambda: video(sound=True), "one video track and nothing else"),
        (lambda: video(pix_fmt="yuv444p"), "4:2:0"),
        (lambda: video(codec="mpeg4"), "must be H.264"),
        (lambda: b"\0\0\0\x08ftyp" + struct.pack(">I4s", 8, b"free") * 5000, "too many"),
    ],
)
def test_videos_that_are_refused(made: Callable[[], bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_video(made(), 64, 48, 10, 4)


def test_a_million_paces() -> None:
    data = video()
    at = data.index(b"stts") + 8
    with pytest.raises(ValueError, match="different paces"):
        check_video(data[:at] + struct.pack(">I", 10**6) + data[at + 4 :], 64, 48, 10, 4)


def test_every_byte_of_the_boxes_may_be_wrong() -> None:
    """Damage anywhere is refused by a sentence or is harmless; it is never another exception."""
    data = video()
    moov = data.index(b"moov")
    for at in range(moov, min(len(data), moov + 700)):
        for value in (0, 0x7F, 0xFF):
            broken = bytearray(data)
            broken[at] = value
            try:
                check_video(bytes(broken), 64, 48, 10, 4)
            except ValueError:
                continue


def test_tiny_is_fine(tiny: Path) -> None:
    (finding,) = validate_hvia(tiny)
    assert (finding.level, finding.where) == ("warning", "preview")
    with open_hvia(tiny) as avatar:
        check_hvia(avatar)


@pytest.mark.parametrize("inputs", [("expression", "pose"), ("expression", "base_y", "base_uv")])
def test_tinys_with_other_inputs_are_fine(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    assert [f.level for f in validate_hvia(tiny_avatar(tmp_path / "t.hvia", inputs=inputs))] == ["warning"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AvatarNotFound):
        validate_hvia(tmp_path / "none.hvia")


def test_a_broken_archive_is_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "made.hvia"
    path.write_bytes(b"")
    (finding,) = validate_hvia(path)
    assert (finding.level, finding.where) == ("error", "")
    assert finding.message.startswith("it is empty")


def test_all_errors_are_found(parts: Parts, tmp_path: Path) -> None:
    placement = json.loads(parts.members["clips/idle.json"])
    placement["affine"][3] = [1, 0, 4000, 0, 1, 4000]
    parts.members["clips/idle.json"] = json.dumps(placement).encode()
    parts.members["clips/idle.mp4"] = video(frames=20, width=128, height=64)
    parts.members["graphs/face.onnx"] = b""
    parts.manifest["motion"]["graph"] = {"sha256": "0" * 64}
    path = parts.rehash().write(tmp_path / "made.hvia")
    errors = {f.where: f.message for f in validate_hvia(path) if f.level == "error"}
    assert set(errors) == {"clips/idle.json", "clips/idle.mp4", "motion.graph", "face.graph"}
    assert "frame 3 lands outside" in errors["clips/idle.json"]
    assert "128x64 pixels, not 128x128" in errors["clips/idle.mp4"]
    with open_hvia(path) as avatar, pytest.raises(AvatarInvalid, match="lands outside"):
        check_hvia(avatar)


def test_a_missing_pack_is_an_error(parts: Parts, tmp_path: Path) -> None:
    parts.manifest["motion"]["graph"] = {"sha256": "0" * 64}
    path = parts.write(tmp_path / "made.hvia")
    with open_hvia(path) as avatar, pytest.raises(AvatarError, match="model pack"):
        check_hvia(avatar)


def test_a_placement_over_the_limit(tiny: Path) -> None:
    with open_hvia(tiny, limits=Limits(placement=100)) as avatar:
        with pytest.raises(AvatarInvalid, match="more than 100 bytes"):
            avatar.placement("idle")


def test_what_a_maker_should_know(parts: Parts, tmp_path: Path) -> None:
    parts.manifest["motion"].update(look_ahead=4800, profile=None)
    parts.manifest["preview"] = "preview.png"
    parts.members["preview.png"] = b"GIF89a"
    placement = json.loads(parts.members["clips/idle.json"])
    placement["rect"][0] = [48, 48, 32, 32]
    parts.members["clips/idle.json"] = json.dumps(placement).encode()
    path = parts.rehash().write(tmp_path / "made.hvia")
    warnings = {f.where: f.message for f in validate_hvia(path)}
    assert set(warnings) == {"motion.look_ahead", "motion.profile", "preview.png", "clips/idle.json"}
    assert "300 ms" in warnings["motion.look_ahead"]


def test_a_matte_is_checked_like_its_clip(parts: Parts, tmp_path: Path) -> None:
    parts.manifest["clips"][0]["matte"] = "clips/matte.mp4"
    parts.members["clips/matte.mp4"] = video(frames=3, width=128, height=128)
    path = parts.rehash().write(tmp_path / "made.hvia")
    (error,) = (f for f in validate_hvia(path) if f.level == "error")
    assert error.where == "clips/matte.mp4"
    assert "it has 3 frames, not 20" in error.message
