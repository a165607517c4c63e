"""Takes an avatar file apart and forges another of its parts, rules or no rules."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx


@dataclass
class Parts:
    """A manifest as plain JSON values, and every other member's bytes."""

    manifest: dict[str, Any]
    members: dict[str, bytes]

    def rehash(self) -> Parts:
        """List the members anew, with their right sizes and hashes."""
        self.manifest["members"] = [
            {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in self.members.items()
        ]
        return self

    def edit_graph(self, which: str, edit: Callable[[onnx.ModelProto], object]) -> Parts:
        """Change one graph (``motion`` or ``face``) and list the members anew."""
        path = f"graphs/{which}.onnx"
        model = onnx.load_model_from_string(self.members[path])
        edit(model)
        self.members[path] = model.SerializeToString(deterministic=True)
        return self.rehash()

    def write(self, path: Path, *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
        """Forge the file; nothing is checked."""
        with zipfile.ZipFile(path, "w", compression) as archive:
            _add(archive, "manifest.json", json.dumps(self.manifest).encode(), compression)
            for name, data in self.members.items():
                _add(archive, name, data, compression)
        return path


def _add(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    entry.compress_type = compression
    archive.writestr(entry, data)


def take_apart(path: Path) -> Parts:
    """The parts of a valid avatar file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    return Parts(manifest, members)
