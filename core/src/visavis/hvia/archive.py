"""The zip underneath an avatar file, read strictly: one meaning only, every byte owned, nothing trusted.

``zipfile`` reads much more than an avatar file may hold (comments, prefixes, overlaps, ZIP64, encryption) and loads
the whole directory before it can be asked to stop; this reader refuses all of that first.
"""

from __future__ import annotations

import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from visavis.errors import AvatarInvalid
from visavis.hvia.foreign import ENCRYPTED_HINT, ENCRYPTED_ZIP, what_it_is
from visavis.hvia.limits import MEGA, Limits
from visavis.hvia.manifest import MANIFEST, path_problem

_END = struct.Struct("<4sHHHHIIH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_DESCRIPTOR = struct.Struct("<III")

_STORED: Final = 0
_DEFLATED: Final = 8
_AES: Final = 99
_ENCRYPTED_FLAGS: Final = 1 << 0 | 1 << 6 | 1 << 13
_DESCRIPTOR_FLAG: Final = 1 << 3
_KNOWN_FLAGS: Final = 1 << 1 | 1 << 2 | _DESCRIPTOR_FLAG | 1 << 11
_CHUNK: Final = 256 * 1024
_SMALL: Final = 1 * MEGA
"""Up to this size a member may be packed as tightly as it likes: a clip's placement can be one line, repeated."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the archive describes it; offsets and sizes in bytes."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    header: int
    start: int = 0


class Archive:
    """The members of an open zip file. Raises AvatarInvalid with one sentence whenever it finds a fault."""

    def __init__(self, file: BinaryIO, size: int, where: str, limits: Limits) -> None:
        self._file = file
        self._size = size
        self._where = where
        self._limits = limits
        self._lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        directory, count = self._find_directory()
        listed = self._read_directory(directory, count)
        self._check_sizes(listed)
        self._place(listed, directory)

    def fault(self, reason: str, *, hint: str = "") -> AvatarInvalid:
        """An error about this file."""
        return AvatarInvalid(self._where, reason, hint=hint)

    def _at(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) != count:
            raise self.fault("it is cut short")
        return data

    def _find_directory(self) -> tuple[int, int]:
        """Where the central directory starts and how many entries it has."""
        head = self._at(0, min(self._size, 64 * 1024))
        if not head.startswith(b"PK\x03\x04"):
            if self._size > 2 * _END.size and self._at(self._size - _END.size, 4) == b"PK\x05\x06":
                raise self.fault("its zip has bytes before its first member")
            reason, hint = what_it_is(head, self._size)
            raise self.fault(reason, hint=hint)
        if self._size < _END.size:
            raise self.fault("it is cut short")
        end = self._size - _END.size
        mark, disk, first_disk, here, count, length, offset, comment = _END.unpack(self._at(end, _END.size))
        if mark != b"PK\x05\x06" or comment:
            tail = self._at(max(0, self._size - 66_000), min(self._size, 66_000))
            if b"PK\x05\x06" in tail:
                raise self.fault("its zip has a comment or bytes after its end")
            raise self.fault("it is cut short: its zip has no end record")
        if 0xFFFF in (count, here) or 0xFFFFFFFF in (length, offset):
            raise self.fault("its zip uses ZIP64, which an avatar file never needs")
        if disk or first_disk or here != count:
            raise self.fault("its zip is split over several files")
        if count > self._limits.members:
            raise self.fault(f"it has {count} members; at most {self._limits.members} are read")
        if offset + length != end:
            raise self.fault("its zip directory does not end where the file says")
        return offset, count

    def _read_directory(self, offset: int, count: int) -> list[Entry]:
        data = self._at(offset, self._size - _END.size - offset)
        entries: list[Entry] = []
        seen: set[str] = set()
        at = 0
        for _ in range(count):
            if len(data) - at < _CENTRAL.size or data[at : at + 4] != b"PK\x01\x02":
                raise self.fault("its zip directory is broken")
            fields = _CENTRAL.unpack_from(data, at)
            at += _CENTRAL.size
            name_end = at + fields[10]
            entry = self._entry(data[at:name_end], fields)
            at = name_end + fields[11] + fields[12]
            if at > len(data):
                raise self.fault("its zip directory is broken")
            if entry.name.lower() in seen:
                raise self.fault(f"it holds {entry.name!r} twice")
            seen.add(entry.name.lower())
            entries.append(entry)
        if at != len(data):
            raise self.fault("its zip directory holds bytes that no member owns")
        return entries

    def _entry(self, raw_name: bytes, fields: tuple[int, ...]) -> Entry:
        made_by, flags, method = fields[1], fields[3], fields[4]
        crc, packed, size = fields[7:10]
        disk, attributes, header = fields[13], fields[15], fields[16]
        shown = ascii(raw_name[:80].decode("utf-8", "replace"))
        if flags & _ENCRYPTED_FLAGS or method == _AES:
            raise self.fault(ENCRYPTED_ZIP, hint=ENCRYPTED_HINT)
        try:
            name = raw_name.decode("ascii")
        except UnicodeDecodeError:
            raise self.fault(f"the member name {shown} is not plain ASCII") from None
        if problem := path_problem(name):
            raise self.fault(f"the member name {shown} is refused: {problem}")
        if flags & ~_KNOWN_FLAGS or method not in (_STORED, _DEFLATED):
            raise self.fault(f"{shown} is packed in a way that the format does not allow (method {method})")
        kind = stat.S_IFMT(attributes >> 16) if made_by >> 8 in (3, 19) else 0
        if kind not in (0, stat.S_IFREG) or attributes & 0x10:
            raise self.fault(f"{shown} is a link, a folder or a device, not a plain file")
        if disk:
            raise self.fault("its zip is split over several files")
        return Entry(name, method, flags, crc, packed, size, header)

    def _check_sizes(self, entries: list[Entry]) -> None:
        limits = self._limits
        for entry in entries:
            if entry.size > limits.member or entry.packed > limits.member:
                raise self.fault(f"{entry.name!r} says it has {entry.size} bytes; at most {limits.member} are read")
            if entry.method == _STORED and entry.packed != entry.size:
                raise self.fault(f"the sizes of {entry.name!r} contradict each other")
            if entry.size > max(_SMALL, limits.ratio * entry.packed):
                raise self.fault(f"{entry.name!r} unpacks to more than {limits.ratio} times its size: a zip bomb")
        total = sum(entry.size for entry in entries)
        if total > limits.unpacked:
            raise self.fault(f"its members say they have {total} bytes; at most {limits.unpacked} are read")
        if not entries or entries[0].name != MANIFEST:
            raise self.fault(
                f"its first member is not {MANIFEST}", hint="make the file with `visavis avatars pack FOLDER`"
            )

    def _place(self, entries: list[Entry], directory: int) -> None:
        """Check every local header, and that the members lie side by side from the first byte to the directory."""
        if entries[0].header != 0:
            raise self.fault(f"{MANIFEST} is not the first member of its zip")
        expected = 0
        placed: dict[str, Entry] = {}
        for entry in sorted(entries, key=lambda item: item.header):
            if entry.header < expected:
                raise self.fault(f"{entry.name!r} overlaps another member")
            if entry.header > expected:
                raise self.fault(f"its zip holds bytes before {entry.name!r} that no member owns")
            start = self._local_header(entry, directory)
            expected = start + entry.packed
            if expected > directory:
                raise self.fault(f"{entry.name!r} reaches into the zip directory")
            if entry.flags & _DESCRIPTOR_FLAG:
                expected = self._descriptor(entry, expected, directory)
            placed[entry.name] = Entry(
                entry.name, entry.method, entry.flags, entry.crc, entry.packed, entry.size, entry.header, start
            )
        if expected != directory:
            raise self.fault("its zip holds bytes before the directory that no member owns")
        self.entries = {entry.name: placed[entry.name] for entry in entries}

    def _local_header(self, entry: Entry, directory: int) -> int:
        """Where the member's bytes start, once its local header agrees with the directory."""
        end = entry.header + _LOCAL.size + len(entry.name)
        if end > directory:
            raise self.fault(f"{entry.name!r} reaches into the zip directory")
        raw = self._at(entry.header, _LOCAL.size + len(entry.name))
        mark, _, flags, method, _, _, crc, packed, size, name_length, extra = _LOCAL.unpack_from(raw)
        told = (entry.crc, entry.packed, entry.size)
        later = bool(flags & _DESCRIPTOR_FLAG)
        agrees = (
            mark == b"PK\x03\x04"
            and (flags, method) == (entry.flags, entry.method)
            and ((crc, packed, size) == told or (later and (crc, packed, size) == (0, 0, 0)))
            and name_length == len(entry.name)
            and raw[_LOCAL.size :] == entry.name.encode()
        )
        if not agrees:
            raise self.fault(f"the two zip headers of {entry.name!r} contradict each other")
        return end + int(extra)

    def _descriptor(self, entry: Entry, at: int, directory: int) -> int:
        """Where the data descriptor that starts at ``at`` ends."""
        raw = self._at(at, min(16, directory - at))
        body = raw[4:] if raw.startswith(b"PK\x07\x08") else raw[:12]
        if len(body) != _DESCRIPTOR.size or _DESCRIPTOR.unpack(body) != (entry.crc, entry.packed, entry.size):
            raise self.fault(f"the two zip headers of {entry.name!r} contradict each other")
        return at + (16 if raw.startswith(b"PK\x07\x08") else 12)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The unpacked bytes of a member, piece by piece, never more than the archive declared.

        Raises KeyError for an unknown name.
        """
        entry = self.entries[name]
        produced = crc = 0
        for piece in self._stored(entry) if entry.method == _STORED else self._inflated(entry):
            produced += len(piece)
            crc = zlib.crc32(piece, crc)
            yield piece
        if produced != entry.size:
            raise self.fault(f"{name!r} unpacks to {produced} bytes, not {entry.size}")
        if crc != entry.crc:
            raise self.fault(f"{name!r} is damaged: its checksum does not fit")

    def _stored(self, entry: Entry) -> Iterator[bytes]:
        for offset in range(0, entry.packed, _CHUNK):
            yield self._at(entry.start + offset, min(_CHUNK, entry.packed - offset))

    def _inflated(self, entry: Entry) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-15)
        offset = produced = 0
        pending = b""
        while not inflater.eof:
            if not pending and offset < entry.packed:
                pending = self._at(entry.start + offset, min(_CHUNK, entry.packed - offset))
                offset += len(pending)
            try:
                # One byte more than declared is enough to know that the declaration was a lie.
                piece = inflater.decompress(pending, min(_CHUNK, entry.size - produced + 1))
            except zlib.error as error:
                raise self.fault(f"{entry.name!r} is damaged: it does not unpack") from error
            pending = inflater.unconsumed_tail
            produced += len(piece)
            if produced > entry.size:
                raise self.fault(f"{entry.name!r} unpacks to more than the {entry.size} bytes it declares")
            if piece:
                yield piece
            elif not pending and offset == entry.packed and not inflater.eof:
                raise self.fault(f"{entry.name!r} is damaged: it is cut short")
        if inflater.unused_data or pending or offset != entry.packed:
            raise self.fault(f"{entry.name!r} holds bytes behind its end")
