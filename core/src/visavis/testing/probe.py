"""Looks at one installed distribution in a process of its own and prints what it finds as JSON.

``python -m visavis.testing.probe DIST [HEAVY MODULE...]``
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel

from visavis import hookspecs
from visavis.registry import Installed, Registry


def look(name: str, heavy: Sequence[str]) -> dict[str, Any]:
    """All that the packaging checks want to know of a distribution."""
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        return {"missing": True}
    points = [point for point in dist.entry_points if point.group == hookspecs.ENTRY_POINT_GROUP]
    before = set(sys.modules)
    registry = Registry()
    for point in points:
        registry.load(point)
    imported = sorted({module.partition(".")[0] for module in set(sys.modules) - before} & set(heavy))
    packages = {package: _folder(package) for package in sorted({_package(point) for point in points})}
    return {
        "entry_points": [point.name for point in points],
        "broken": [broken.reason for broken in registry.broken],
        "heavy": imported,
        "records": [_record(item) for item in registry.all()],
        "untyped": [package for package, folder in packages.items() if not (folder / "py.typed").is_file()],
        "strange_imports": sorted({found for each in packages.items() for found in _strange_imports(*each)}),
        **_metadata(dist),
    }


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0]


def _folder(package: str) -> Path:
    """Where a package lies, without importing it; a folder that is not there for what cannot be found."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    return Path(spec.origin).parent if spec is not None and spec.origin else Path(f"{package} is not to be found")


def _record(item: Installed) -> dict[str, Any]:
    record = item.record
    models = [model for model in (getattr(record, "config", None), getattr(record, "session", None)) if model]
    return {
        "kind": item.kind.value,
        "name": item.name,
        "summary": record.summary,
        "undescribed": [field for model in models for field in _undescribed(model)],
        "lenient": [
            model.__name__
            for model in models
            if model.model_config.get("extra") != "forbid" or not model.model_config.get("frozen")
        ],
    }


def _undescribed(model: type[BaseModel], *seen: type[BaseModel]) -> Iterator[str]:
    """Options without a description, those of options within options included."""
    for name, field in model.model_fields.items():
        if not field.description:
            yield f"{model.__name__}.{name}"
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in (model, *seen):
                yield from _undescribed(inner, model, *seen)


def _strange_imports(package: str, folder: Path) -> Iterator[str]:
    """Other plugins and test kits that a package's code imports, wherever in the code."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                top = name.partition(".")[0]
                if (top.startswith("visavis_") and top != package) or f"{name}.".startswith("visavis.testing."):
                    yield f"{name} ({path.name})"


def _metadata(dist: Distribution) -> dict[str, Any]:
    said: dict[str, Any] = dist.metadata.json  # the body, too, is its description there
    wanted = said.get("requires_python", "")
    licensed = [line for line in said.get("classifier", []) if line.startswith("License ::")]
    return {
        "licence": said.get("license_expression") or said.get("license") or "".join(licensed),
        "description": said.get("summary", ""),
        "readme": said.get("description", ""),
        "requires": [Requirement(line).name.lower() for line in dist.requires or []],
        "requires_python": wanted,
        "takes_3_10": "3.10" in SpecifierSet(wanted),
    }


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1], sys.argv[2:])))  # noqa: T201 - this is how it answers
