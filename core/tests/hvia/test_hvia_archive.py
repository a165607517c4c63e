"""What the zip underneath may be, and the sentence each fault gets."""

from __future__ import annotations

import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hvia_forge import Parts, take_apart
from visavis.errors import AvatarInvalid, AvatarNotFound
from visavis.hvia import Limits, open_hvia

CENTRAL = b"PK\x01\x02"
END = b"PK\x05\x06"


def refused(path: Path, *words: str) -> AvatarInvalid:
    with pytest.raises(AvatarInvalid) as caught:
        open_hvia(path)
    message = str(caught.value)
    assert message.startswith(path.name)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return caught.value


def made(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "made.hvia"
    path.write_bytes(data)
    return path


def central(data: bytes, member: str) -> int:
    """Where the directory entry of a member starts."""
    at = data.index(CENTRAL)
    while True:
        length = struct.unpack_from("<H", data, at + 28)[0]
        if data[at + 46 : at + 46 + length] == member.encode():
            return at
        at = data.index(CENTRAL, at + 1)


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(form, out, at, value)
    return bytes(out)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(AvatarNotFound):
        open_hvia(tmp_path / "nobody.hvia")


def test_a_folder_and_a_pipe(tmp_path: Path) -> None:
    refused(tmp_path, "it is a folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.hvia")
        refused(tmp_path / "pipe.hvia", "not a file")


def test_a_name_with_nul() -> None:
    with pytest.raises(AvatarInvalid, match="cannot be opened"):
        open_hvia("a\0b.hvia")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"PK\x05\x06" + bytes(18), "without members"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture"),
        (b"\0\0\0\x20ftypisom", "an MP4 video"),
        (b"RIFF\0\0\0\0WAVE", "a RIFF file"),
        (b"\x80\x04\x95", "pickle, which is never read"),
        (b"{}\n" * 400, "not a zip archive"),
        (b"PK\x03\x04", "cut short"),
        (b"PK\x03\x04" + bytes(400), "cut short"),
    ],
)
def test_not_a_zip(tmp_path: Path, data: bytes, words: str) -> None:
    refused(made(tmp_path, data), words)


@pytest.mark.parametrize("size", [512, 4096, 300_000])
@pytest.mark.parametrize("head", [b"", b"AVX1\0\0\0\x01"])
def test_another_vendors_encrypted_file(tmp_path: Path, size: int, head: bytes) -> None:
    noise = random.Random(size).randbytes(size)
    error = refused(made(tmp_path, head + noise), "looks like an encrypted avatar of another vendor")
    assert "visavis reads the open format hvia/1" in error.hint
    assert "visavis avatars pack" in error.hint


def test_another_vendors_encrypted_zip(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    at = central(data, "manifest.json")
    for flag in (1, 1 << 6, 1 << 13):
        error = refused(made(tmp_path, patched(data, at + 8, "<H", flag)), "encrypted avatar of another vendor")
        assert "ask the avatar's maker" in error.hint
    refused(made(tmp_path, patched(data, at + 10, "<H", 99)), "encrypted avatar of another vendor")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "graphs\\face.onnx",
        "C:/evil",
        "C:evil",
        "a/../../b",
        "./a",
        "a//b",
        "a/",
        "a\0b",
        "con",
        "graphs/NUL.onnx",
        "dot.",
        ".hidden",
        "-rf",
        "spa ce",
        "ümlaut",
        "x" * 129,
    ],
)
def test_names(parts: Parts, tmp_path: Path, name: str) -> None:
    placeholder = "p" * len(name.encode())
    parts.members[placeholder] = b"x"
    path = parts.rehash().write(tmp_path / "made.hvia")
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), name.encode()))
    refused(path, "member")


def test_a_name_twice(parts: Parts, tmp_path: Path) -> None:
    for twin in ("graphs/face.onnx", "graphs/FACE.onnx"):
        parts.members["graphs/fooo.onnx"] = b"x"
        path = parts.write(tmp_path / "made.hvia")
        path.write_bytes(path.read_bytes().replace(b"graphs/fooo.onnx", twin.encode()))
        refused(path, "twice")


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o020644, 0o010644, 0o140644])
def test_links_and_other_kinds(tiny: Path, tmp_path: Path, mode: int) -> None:
    data = tiny.read_bytes()
    at = central(data, "graphs/face.onnx")
    refused(made(tmp_path, patched(data, at + 38, "<I", mode << 16)), "a link, a folder or a device")


def test_a_bomb_that_says_so(parts: Parts, tmp_path: Path) -> None:
    parts.members["bomb.bin"] = bytes(20_000_000)
    refused(parts.rehash().write(tmp_path / "made.hvia"), "zip bomb")


def test_a_bomb_that_lies(parts: Parts, tmp_path: Path) -> None:
    """Both headers claim 1000 bytes; the reader must stop right there, not after 100 MB."""
    parts.members["bomb.bin"] = bytes(100_000_000)
    data = parts.rehash().write(tmp_path / "made.hvia").read_bytes()
    parts.members["bomb.bin"] = bytes(1000)
    at = central(data, "bomb.bin")
    header = struct.unpack_from("<I", data, at + 42)[0]
    data = patched(patched(data, at + 24, "<I", 1000), header + 22, "<I", 1000)
    manifest_says_100_mb = made(tmp_path, data)
    refused(manifest_says_100_mb, "'bomb.bin' has 1000 bytes, not 100000000")
    # A manifest that tells the same lie: only unpacking finds out.
    lie = parts.rehash().manifest
    inner = Parts(lie, {**parts.members, "bomb.bin": bytes(100_000_000)})
    data = inner.write(tmp_path / "made.hvia").read_bytes()
    at = central(data, "bomb.bin")
    header = struct.unpack_from("<I", data, at + 42)[0]
    data = patched(patched(data, at + 24, "<I", 1000), header + 22, "<I", 1000)
    refused(made(tmp_path, data), "unpacks to more than the 1000 bytes")


def test_declared_sizes(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    at = central(data, "graphs/face.onnx")
    refused(made(tmp_path, patched(data, at + 24, "<I", 0x7FFFFFFF)), "at most")
    refused(made(tmp_path, patched(data, at + 24, "<I", 0xFFFFFFFF)), "at most")
    refused(made(tmp_path, patched(data, at + 20, "<I", 3)), "face.onnx")


def test_too_many_members(parts: Parts, tmp_path: Path) -> None:
    parts.members.update({f"m{index}": b"" for index in range(260)})
    refused(parts.write(tmp_path / "made.hvia"), "at most 256")


def test_too_large_a_file(tiny: Path) -> None:
    with pytest.raises(AvatarInvalid, match="at most 1000 are read"):
        open_hvia(tiny, limits=Limits(file=1000))


def test_too_large_together(tiny: Path) -> None:
    with pytest.raises(AvatarInvalid, match="at most 50000 are read"):
        open_hvia(tiny, limits=Limits(unpacked=50_000))


def test_a_comment_a_prefix_a_suffix(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    refused(made(tmp_path, data + b"x"), "bytes after its end")
    refused(made(tmp_path, patched(data, len(data) - 2, "<H", 4) + b"note"), "comment")
    refused(made(tmp_path, b"#!/bin/sh\n" + data), "bytes before its first member")


def test_zip64_and_split(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    end = len(data) - 22
    refused(made(tmp_path, patched(data, end + 10, "<H", 0xFFFF)), "ZIP64")
    refused(made(tmp_path, patched(data, end + 4, "<H", 1)), "split")
    refused(made(tmp_path, patched(data, end + 16, "<I", 5)), "directory")


def test_overlap(tiny: Path, tmp_path: Path) -> None:
    """Two members that share their bytes: a small file that unpacks without end."""
    data = tiny.read_bytes()
    face = central(data, "graphs/face.onnx")
    motion = struct.unpack_from("<I", data, central(data, "graphs/motion.onnx") + 42)[0]
    refused(made(tmp_path, patched(data, face + 42, "<I", motion)), "no member owns")
    refused(made(tmp_path, patched(data, face + 42, "<I", 3)), "overlaps")


def test_headers_that_disagree(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    header = struct.unpack_from("<I", data, central(data, "graphs/face.onnx") + 42)[0]
    for offset, form, value in ((8, "<H", 0), (14, "<I", 1), (18, "<I", 5), (22, "<I", 5), (6, "<H", 2)):
        changed = patched(data, header + offset, form, value)
        if changed != data:
            refused(made(tmp_path, changed), "contradict each other")
    renamed = data.replace(b"graphs/face.onnx", b"graphs/fake.onnx", 1)
    refused(made(tmp_path, renamed), "contradict each other")


def test_unknown_methods(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    at = central(data, "graphs/face.onnx")
    refused(made(tmp_path, patched(data, at + 10, "<H", 12)), "method 12")
    refused(made(tmp_path, patched(data, at + 8, "<H", 1 << 5)), "packed in a way")


def test_damaged_bytes(tiny: Path, tmp_path: Path) -> None:
    data = bytearray(tiny.read_bytes())
    header = struct.unpack_from("<I", data, central(bytes(data), "clips/idle.mp4") + 42)[0]
    data[header + 200] ^= 0x40
    refused(made(tmp_path, bytes(data)), "'clips/idle.mp4' is damaged")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(tiny: Path, tmp_path: Path, share: float) -> None:
    data = tiny.read_bytes()
    refused(made(tmp_path, data[: int(len(data) * share)]), "cut short")


def test_the_manifest_comes_first(tiny: Path, tmp_path: Path) -> None:
    parts = take_apart(tiny)
    path = tmp_path / "made.hvia"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("graphs/face.onnx", parts.members["graphs/face.onnx"])
        archive.writestr("manifest.json", "{}")
    refused(path, "first member is not manifest.json", "visavis avatars pack")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-3],
        lambda raw: raw + b"tail",
        lambda raw: b"\xff" * len(raw),
        lambda raw: zlib.compress(b"other")[2:-4],
    ],
)
def test_deflated_streams_that_end_wrongly(parts: Parts, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """The archive is forged by hand around a damaged deflate stream."""
    plain = parts.members["graphs/motion.onnx"]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = change(packer.compress(plain) + packer.flush())
    parts.members["graphs/motion.onnx"] = raw
    data = parts.write(tmp_path / "made.hvia", compression=zipfile.ZIP_STORED).read_bytes()
    at = central(data, "graphs/motion.onnx")
    header = struct.unpack_from("<I", data, at + 42)[0]
    for start, shift in ((at, 2), (header, 0)):
        data = patched(data, start + 8 + shift, "<H", 8)
        data = patched(data, start + 14 + shift, "<I", zlib.crc32(plain))
        data = patched(data, start + 22 + shift, "<I", len(plain))
    path = made(tmp_path, data)
    parts.members["graphs/motion.onnx"] = plain
    with pytest.raises(AvatarInvalid, match=r"damaged|behind its end|unpacks"):
        _read_all(path)


def _read_all(path: Path) -> None:
    """The archive alone, so that a wrong hash in the manifest does not come first."""
    from visavis.hvia import LIMITS
    from visavis.hvia.archive import Archive

    with path.open("rb") as file:
        archive = Archive(file, path.stat().st_size, path.name, LIMITS)
        for name in archive.entries:
            for _ in archive.chunks(name):
                pass


def test_streamed_zips_are_read(tiny: Path, tmp_path: Path) -> None:
    """Tools that write to a pipe put sizes behind the data; that is a plain zip too."""

    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data)
            return len(data)

        def flush(self) -> None:
            pass

    parts = take_apart(tiny)
    pipe = Pipe()
    with zipfile.ZipFile(tiny) as source, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name in ("manifest.json", *parts.members):
            archive.writestr(zipfile.ZipInfo(name), source.read(name))
    with open_hvia(made(tmp_path, pipe.data)) as avatar:
        assert avatar.read("graphs/face.onnx") == parts.members["graphs/face.onnx"]
    at = pipe.data.index(b"PK\x07\x08")
    refused(made(tmp_path, patched(pipe.data, at + 8, "<I", 1)), "contradict each other")
