"""Built engines, kept in files: a build takes seconds to minutes, a load takes milliseconds.

An engine lies under a key made of everything that it depends on, so whatever is found under a key fits. Several
processes may share the folder: one builds while the others wait, and a file appears as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

from filelock import FileLock
from visavis.graphs1.caching import cache_folder, replaced, sweep

from visavis_renderer_tensorrt.device import StalePlan

log = logging.getLogger(__name__)

BUILDING: Final = 1
"""Raised whenever engines are built otherwise than before: old ones are then not used."""
SUFFIX: Final = ".engine"
HEADER: Final = 4096

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an engine depends on. ``what`` says which graph of which avatar it is, for people; it is not in the key.

    ``graph`` is the SHA-256 of the ONNX file that is built, ``target`` the GPU's name and compute capability,
    ``profile`` the smallest, the best and the largest batch.
    """

    what: str
    graph: str
    precision: str
    engine: str
    version: str
    target: str
    profile: tuple[int, int, int]
    building: int = BUILDING

    @property
    def key(self) -> str:
        """The name of its file."""
        said = {name: value for name, value in asdict(self).items() if name != "what"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:40]

    def __str__(self) -> str:
        return (
            f"{self.what} ({self.precision}, {self.engine} {self.version}, {self.target}, 1 to {self.profile[2]} rows)"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """An engine in the cache: its file, what it is of, its bytes, and when it was last used (seconds since 1970)."""

    path: Path
    recipe: Recipe
    size: int
    used: float


class EngineCache:
    """The engines in one folder; None is ``engines`` in the user's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder() / "engines"

    def path(self, recipe: Recipe) -> Path:
        """Where the engine of a recipe lies, or would."""
        return self.folder / f"{recipe.key}{SUFFIX}"

    def has(self, recipe: Recipe) -> bool:
        """Whether a whole engine of that recipe is there."""
        return self._plan(self.path(recipe), recipe) is not None

    def fetch(self, recipe: Recipe, build: Callable[[], bytes], load: Callable[[bytes], Loaded]) -> Loaded:
        """What ``load`` makes of the engine, which is built first where it is missing, damaged or refused as stale.

        Raises what ``build`` and ``load`` raise; StalePlan if even a new engine is refused.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.path(recipe).with_suffix(".lock"))
            if (plan := self._plan(self.path(recipe), recipe)) is None:
                with lock:  # whoever waited here finds what another process has built meanwhile
                    plan = self._plan(self.path(recipe), recipe, tell=log.debug) or self._built(recipe, build)
        except OSError as error:
            log.warning("the engine cache %s cannot be used (%s): building without it", self.folder, error.strerror)
            return load(build())
        try:
            return load(plan)
        except StalePlan as error:
            log.warning("the engine of %s is stale (%s): building it anew", recipe, error)
        with lock:
            plan = self._built(recipe, build)
        return load(plan)

    def _built(self, recipe: Recipe, build: Callable[[], bytes]) -> bytes:
        log.info("building the engine of %s: once, this takes a while", recipe)
        plan = build()
        sweep(self.folder, SUFFIX)
        with replaced(self.path(recipe)) as file:
            file.write(_header(recipe, plan))
            file.write(plan)
        return plan

    def _plan(self, path: Path, recipe: Recipe, tell: Callable[..., None] = log.warning) -> bytes | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            tell("the engine %s cannot be read (%s): building it anew", path, error.strerror)
            return None
        plan = data[HEADER:]
        if _read(data) != (recipe.key, len(plan), hashlib.sha256(plan).hexdigest()):
            tell("the engine %s is damaged: building it anew", path)
            return None
        try:
            os.utime(path)
        except OSError as error:
            # It can still be used; it merely looks unused to the next sweep.
            log.debug("%s: %s", path, error)
        return plan

    def kept(self) -> Iterator[Kept]:
        """All engines, the one used last first."""
        found = []
        if self.folder.is_dir():
            for path in self.folder.glob(f"*{SUFFIX}"):
                stat = path.stat()
                with path.open("rb") as file:
                    recipe = _recipe(file.read(HEADER))
                if recipe is not None:
                    found.append(Kept(path, recipe, stat.st_size, stat.st_mtime))
        yield from sorted(found, key=lambda kept: -kept.used)

    def clean(self, wanted: Callable[[Kept], bool] = lambda _: False) -> tuple[int, int]:
        """Remove all engines but the ``wanted``, and what is none; gives how many went, and their bytes."""
        keep = {kept.path for kept in self.kept() if wanted(kept)}
        gone = size = 0
        for path in self.folder.glob(f"*{SUFFIX}") if self.folder.is_dir() else ():
            if path not in keep:
                size += path.stat().st_size
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
                gone += 1
        return gone, size


def _header(recipe: Recipe, plan: bytes) -> bytes:
    said = {"visavis": "engine", "key": recipe.key, "size": len(plan), "sha256": hashlib.sha256(plan).hexdigest()}
    return json.dumps({**said, "recipe": asdict(recipe)}).encode().ljust(HEADER, b"\n")


def _read(data: bytes) -> tuple[object, object, object] | None:
    try:
        said = json.loads(data[:HEADER])
        return said["key"], said["size"], said["sha256"]
    except (ValueError, KeyError, TypeError):
        return None


def _recipe(header: bytes) -> Recipe | None:
    try:
        said = json.loads(header)["recipe"]
        return Recipe(**{**said, "profile": tuple(said["profile"])})
    except (ValueError, KeyError, TypeError):
        return None
