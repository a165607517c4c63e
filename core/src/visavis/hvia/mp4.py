"""What an MP4 file says of its video, read from its boxes; nothing is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from visavis.hvia.limits import LIMITS

_CONTAINERS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_MOST_BOXES: Final = 4096
_PROFILES: Final = {66: "Baseline", 77: "Main", 88: "Extended", 100: "High"}
"""H.264 profiles of 8 bits; all but High are 4:2:0 for certain, and High in practice."""


@dataclass(slots=True)
class Track:
    """One track: its kind (``vide``, ``soun``), codec, size in pixels, number of frames and rate."""

    kind: str = ""
    codec: str = ""
    profile: int = 0
    width: int = 0
    height: int = 0
    frames: int = 0
    rate: Fraction | None = None


def tracks(data: bytes) -> list[Track]:
    """The tracks of an MP4 file. Raises ValueError with a reason."""
    if data[4:8] != b"ftyp":
        raise ValueError("it is not an MP4 file")
    found: list[Track] = []
    scale = 0
    try:
        for kind, body in _boxes(data):
            if kind == b"trak":
                found.append(Track())
                scale = 0
            elif found and kind == b"mdhd":
                scale = _u32(body, 20 if body[:1] == b"\x01" else 12)
            elif found:
                _read(kind, body, found[-1], scale)
    except (struct.error, IndexError) as error:
        raise ValueError("its MP4 boxes are broken") from error
    if not found:
        raise ValueError("it holds no track")
    return found


def check_video(data: bytes, width: int, height: int, fps: int, frames: int) -> None:
    """Check that an MP4 holds one H.264 video of that shape and nothing else. Raises ValueError with a reason."""
    found = tracks(data)
    if [track.kind for track in found] != ["vide"]:
        raise ValueError("it must hold one video track and nothing else")
    track = found[0]
    if track.codec not in ("avc1", "avc3") or track.profile not in _PROFILES:
        raise ValueError("it must be H.264, 8 bits, 4:2:0")
    if (track.width, track.height) != (width, height):
        raise ValueError(f"its pictures have {track.width}x{track.height} pixels, not {width}x{height}")
    if track.frames != frames:
        raise ValueError(f"it has {track.frames} frames, not {frames}")
    if track.rate != fps:
        raise ValueError(f"it has {float(track.rate or 0):.6g} pictures a second, not {fps}")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All boxes, containers before what is in them; of the media itself only the name."""
    todo = [(0, len(data))]
    count = 0
    while todo:
        at, end = todo.pop()
        while at < end:
            count += 1
            if count > _MOST_BOXES:
                raise ValueError("it has too many MP4 boxes")
            size, kind = struct.unpack_from(">I4s", data, at)
            head = 8
            if size == 1:
                size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
            elif size == 0:
                size = end - at
            if size < head or at + size > end:
                raise ValueError("its MP4 boxes are broken or cut short")
            if kind in _CONTAINERS:
                yield kind, b""
                todo.append((at + size, end))
                at, end = at + head, at + size
                continue
            yield kind, b"" if kind == b"mdat" else data[at + head : at + size]
            at += size


def _read(kind: bytes, body: bytes, track: Track, scale: int) -> None:
    if kind == b"hdlr":
        track.kind = body[8:12].decode("latin-1")
    elif kind == b"stsd":
        _describe(body, track)
    elif kind == b"stsz":
        track.frames = _u32(body, 8)
    elif kind == b"stts":
        track.rate = _rate(body, scale)


def _describe(body: bytes, track: Track) -> None:
    if _u32(body, 4) != 1:
        raise ValueError("its track has more than one description")
    track.codec = body[12:16].decode("latin-1")
    if track.codec in ("avc1", "avc3"):
        track.width, track.height = struct.unpack_from(">HH", body, 40)
        at = body.find(b"avcC", 94)
        track.profile = body[at + 5] if at > 0 else 0


def _rate(body: bytes, scale: int) -> Fraction | None:
    """Pictures a second, or None where they do not come evenly."""
    count = _u32(body, 4)
    if count > LIMITS.clip_frames:
        raise ValueError(f"its frames come in more than {LIMITS.clip_frames} different paces")
    if 8 + 8 * count > len(body):
        raise ValueError("its MP4 boxes are broken or cut short")
    steps = {struct.unpack_from(">II", body, 8 + 8 * index) for index in range(count)}
    deltas = {delta for _, delta in steps}
    return Fraction(scale, deltas.pop()) if len(deltas) == 1 and scale and 0 not in deltas else None


def _u32(body: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", body, at)[0])
