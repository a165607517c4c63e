"""What a file's container says about its own length, compared with the bytes that are there.

Decoders are silent about a wav whose header promises more than the file holds, or an ogg without its last page.
Nothing here raises for a malformed file: it answers None, and the decoder judges.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

UNKNOWN_SIZES: Final = {0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF}
"""What a program that writes to a pipe puts where it does not know the size yet."""
OGG_TAIL: Final = 128 * 1024
"""An ogg page has at most 65,307 bytes, so the last one begins within this many."""


def shortfall(path: Path) -> str | None:
    """Why the file must have been cut, in a few words, or None if nothing shows that. Blocking, reads little."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            return _wav(file, size)
        if head[:4] == b"OggS":
            return _ogg(file, size)
        if head[:4] == b"\x1aE\xdf\xa3":
            return _matroska(file, size)
        if head[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"free"):
            return _boxes(file, size)
    return None


def declares_length(path: Path) -> bool:
    """Whether an mp3 states its number of frames (otherwise its length is only guessed from its bit rate)."""
    with path.open("rb") as file:
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            # Four bytes of seven bits each.
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        first = file.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _wav(file: BinaryIO, size: int) -> str | None:
    bytes_a_second = 0
    wide = 0
    for name, at, length in _riff_chunks(file, size):
        file.seek(at)
        if name == b"ds64":
            _, wide = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
        elif name == b"fmt ":
            (bytes_a_second,) = struct.unpack("<8xI", file.read(12).ljust(12, b"\0"))
        elif name == b"data":
            promised = wide if length == 0xFFFFFFFF and wide else length
            if promised in UNKNOWN_SIZES or at + promised <= size:
                return None
            seconds = f" {promised / bytes_a_second:.2f} s" if bytes_a_second else f" {promised} bytes"
            return f"its header announces{seconds}"
    return None


def _riff_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and length of each chunk of a RIFF file."""
    at = 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        yield name, at + 8, length
        at += 8 + length + length % 2


def _ogg(file: BinaryIO, size: int) -> str | None:
    base = max(0, size - OGG_TAIL)
    file.seek(base)
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return "its last page is missing"
    segments = tail[at + 26]
    table = tail[at + 27 : at + 27 + segments]
    if len(table) < segments or at + 27 + segments + sum(table) > len(tail):
        return "its last page is cut"
    return None if tail[at + 5] & 4 else "its last page is missing"


def _matroska(file: BinaryIO, size: int) -> str | None:
    at = 0
    for wanted in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
        file.seek(at)
        if file.read(4) != wanted:
            return None
        first = file.read(1)
        if not first or not first[0]:
            return None
        # The leading zeros of the first byte say how many bytes follow; all ones mean "not known".
        extra = 8 - first[0].bit_length()
        bits = 7 * (extra + 1)
        length = int.from_bytes(first + file.read(extra), "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return None
        at = file.tell() + length
    return "its container announces more" if at > size else None


def _boxes(file: BinaryIO, size: int) -> str | None:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length = int.from_bytes(file.read(4), "big")
        file.seek(4, os.SEEK_CUR)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length == 0:
            return None
        if length < 8:
            return None
        at += length
    return "its container announces more" if at > size else None
