"""What a file that is no avatar of ours seems to be, in words that help."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

ENCRYPTED_HINT: Final = (
    "visavis reads the open format hvia/1: ask the avatar's maker for an export, "
    "or make one with `visavis avatars pack`"
)
ENCRYPTED_ZIP: Final = "looks like an encrypted avatar of another vendor: its zip members are encrypted"
ENCRYPTED: Final = "looks like an encrypted avatar of another vendor: no zip, and its bytes look random"
_NOT_ZIP_HINT: Final = "an .hvia is a zip archive with a manifest.json; see docs/hvia.md"

_MAGICS: Final = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x80\x02", "a Python pickle, which is never read"),
    (b"\x80\x03", "a Python pickle, which is never read"),
    (b"\x80\x04", "a Python pickle, which is never read"),
    (b"\x80\x05", "a Python pickle, which is never read"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
)


def what_it_is(head: bytes, size: int) -> tuple[str, str]:
    """A reason and a hint for a file that is not a zip, from its first bytes and its size."""
    if size == 0:
        return "it is empty", _NOT_ZIP_HINT
    if head.startswith(b"PK\x05\x06"):
        return "it is a zip archive without members", _NOT_ZIP_HINT
    if head[4:8] == b"ftyp":
        return "it is not a zip but an MP4 video", _NOT_ZIP_HINT
    if head[:4] == b"RIFF":
        return "it is not a zip but a RIFF file (a WAV, AVI or WebP)", _NOT_ZIP_HINT
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return f"it is not a zip but {kind}", _NOT_ZIP_HINT
    if looks_random(head):
        return ENCRYPTED, ENCRYPTED_HINT
    return "it is not a zip archive", _NOT_ZIP_HINT


def looks_random(data: bytes) -> bool:
    """Whether bytes use all 256 values about equally, as ciphertext does: entropy near what chance gives."""
    if len(data) < 512:
        return False
    total = len(data)
    entropy = -sum(n / total * math.log2(n / total) for n in Counter(data).values())
    # Random bytes fall short of 8 bits by about 255 / (2 ln 2 * total); allow three times that and a little.
    return entropy > 8 - 3 * 184 / total - 0.05
