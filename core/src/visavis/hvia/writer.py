"""Making an avatar file: sizes and hashes are computed, equal input gives equal bytes, no half file is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from pydantic import ValidationError

from visavis.errors import AvatarError, AvatarInvalid
from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import ENGINE, FORMAT, MANIFEST, Manifest, first_problem, path_problem
from visavis.hvia.reader import open_hvia
from visavis.hvia.strict_json import parse_json

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_WORTH_IT: Final = 0.97
_TOO_TIGHT: Final = 100
_PACKED_ALREADY: Final = (".mp4", ".jpg", ".jpeg", ".png")

Content = bytes | bytearray | memoryview | os.PathLike[str]


def write_hvia(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    members: Mapping[str, Content],
    *,
    limits: Limits = LIMITS,
) -> Path:
    """Write an avatar file and return its path.

    ``manifest`` holds the manifest's fields; ``format``, ``engine`` and ``members`` are filled in. ``members`` maps
    paths inside the file to bytes, or to files to read. The file appears whole or not at all, and is opened once by
    the reader before it appears.

    Raises AvatarInvalid if the fields or members break a rule, AvatarError if the file cannot be written.
    """
    target = Path(path)
    contents = {name: _content(name, members[name], target.name) for name in sorted(members)}
    fields = dict(manifest)
    fields.setdefault("format", FORMAT)
    fields.setdefault("engine", ENGINE)
    fields["members"] = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
    ]
    text = json.dumps(fields, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        Manifest.model_validate_json(text)
    except ValidationError as error:
        raise AvatarInvalid(target.name, f"{MANIFEST}: {first_problem(error)}") from None
    _write(target, {MANIFEST: text.encode("utf-8"), **contents}, limits)
    return target


def _content(name: str, content: Content, where: str) -> bytes:
    if problem := path_problem(name):
        raise AvatarInvalid(where, f"the member name {name[:80]!a} is refused: {problem}")
    if isinstance(content, os.PathLike):
        try:
            return Path(content).read_bytes()
        except OSError as error:
            raise AvatarInvalid(where, f"{name!r} cannot be read: {error.strerror}") from error
    return bytes(content)


def _write(target: Path, contents: Mapping[str, bytes], limits: Limits) -> None:
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.stem}-", suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            try:
                with zipfile.ZipFile(file, "w", allowZip64=False) as archive:
                    for name, data in contents.items():
                        _add(archive, name, data)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                file.close()
                temporary.unlink()
                raise
        try:
            _proof(temporary, target, limits)
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AvatarError(f"{target} cannot be written: {error.strerror or error}") from error
    except zipfile.LargeZipFile as error:
        raise AvatarInvalid(target.name, "its members are too large for a plain zip") from error


def _proof(temporary: Path, target: Path, limits: Limits) -> None:
    """What we write, we read."""
    try:
        with open_hvia(temporary, limits=limits):
            pass
    except AvatarInvalid as error:
        raise AvatarInvalid(target.name, error.reason, hint=error.hint) from error


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Deflated where it helps; the date and the mode say nothing, so that equal input gives equal bytes."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED
    if not name.lower().endswith(_PACKED_ALREADY):
        packed = len(zlib.compress(data, 9))
        if packed < len(data) * _WORTH_IT and len(data) < packed * _TOO_TIGHT:
            entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data, compresslevel=9)


def pack_folder(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Path:
    """Pack a folder that holds ``manifest.json`` and the files it names into an avatar file; return its path.

    ``members`` of the manifest may be left out, or list only paths; sizes and hashes are computed anew. Files that
    the manifest does not name stay out. Raises AvatarInvalid, AvatarError.
    """
    root = Path(folder)
    where = f"{root.name}/{MANIFEST}"
    try:
        data = (root / MANIFEST).read_bytes()
    except OSError as error:
        raise AvatarInvalid(where, f"it cannot be read: {error.strerror}") from error
    try:
        fields = parse_json(data, max_bytes=limits.manifest, max_depth=limits.json_depth)
    except ValueError as error:
        raise AvatarInvalid(where, str(error)) from error
    if not isinstance(fields, dict):
        raise AvatarInvalid(where, "it is not a JSON object")
    named = _named(fields)
    for name in named:
        _inside(root, name, where)
    return write_hvia(path, fields, {name: root / name for name in named}, limits=limits)


def _named(fields: Mapping[str, Any]) -> list[str]:
    """Every path that a manifest, not yet checked, names."""
    found: list[Any] = [fields.get("preview")]
    for section in ("motion", "face"):
        part = fields.get(section)
        if isinstance(part, dict):
            variants = part.get("variants")
            found += [part.get("graph"), *(variants.values() if isinstance(variants, dict) else ())]
    for section, keys in (("clips", ("video", "placement", "matte")), ("members", ("path",))):
        parts = fields.get(section)
        for part in parts if isinstance(parts, list) else ():
            found += [part.get(key) for key in keys] if isinstance(part, dict) else []
    return sorted({path for path in found if isinstance(path, str)})


def _inside(root: Path, name: str, where: str) -> None:
    if problem := path_problem(name):
        raise AvatarInvalid(where, f"the path {name[:80]!a} is refused: {problem}")
    if not (root / name).resolve().is_relative_to(root.resolve()):
        raise AvatarInvalid(where, f"{name!r} leads out of the folder")
    if not (root / name).is_file():
        raise AvatarInvalid(where, f"it names {name!r}, which is not in the folder")
