"""Engines are built once, whoever asks; what is damaged or stale is built anew, with one line."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from visavis.errors import RendererError
from visavis_renderer_tensorrt.cache import HEADER, EngineCache, Recipe
from visavis_renderer_tensorrt.device import StalePlan

RECIPE = Recipe(
    what="mira/face",
    graph="ab" * 32,
    precision="fp16",
    engine="tensorrt",
    version="10.9",
    target="NVIDIA L4, sm89",
    profile=(1, 8, 32),
)
OTHERS = {
    "graph": "cd" * 32,
    "precision": "fp32",
    "engine": "tensorrt-rtx",
    "version": "10.10",
    "target": "NVIDIA T4, sm75",
    "profile": (1, 16, 64),
    "building": 2,
}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


class Builder:
    def __init__(self, plan: bytes = b"plan") -> None:
        self.plan, self.built = plan, 0

    def __call__(self) -> bytes:
        self.built += 1
        return self.plan


def test_it_is_built_once(cache: EngineCache) -> None:
    build = Builder()
    assert [cache.fetch(RECIPE, build, bytes) for _ in range(3)] == [b"plan"] * 3
    assert build.built == 1
    assert cache.has(RECIPE)


@pytest.mark.parametrize("field, value", OTHERS.items(), ids=OTHERS)
def test_whatever_it_depends_on_makes_another_one(cache: EngineCache, field: str, value: object) -> None:
    cache.fetch(RECIPE, Builder(b"one"), bytes)
    other = replace(RECIPE, **{field: value})
    assert not cache.has(other)
    assert cache.fetch(other, Builder(b"other"), bytes) == b"other"
    assert cache.fetch(RECIPE, Builder(b"never"), bytes) == b"one"


def test_the_avatars_name_is_for_people_alone(cache: EngineCache) -> None:
    cache.fetch(RECIPE, Builder(), bytes)
    assert cache.has(replace(RECIPE, what="copy-of-mira/face"))


DAMAGE = {
    "cut": lambda data: data[:-1],
    "a byte of the engine": lambda data: data[:HEADER] + b"\0" + data[HEADER + 1 :],
    "header": lambda data: b"?" * HEADER + data[HEADER:],
    "empty": lambda data: b"",
    "of another engine": lambda data: data.replace(RECIPE.key.encode(), b"0" * len(RECIPE.key)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_built_anew_with_one_line(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    cache.fetch(RECIPE, Builder(), bytes)
    path = cache.path(RECIPE)
    path.write_bytes(damage(path.read_bytes()))
    caplog.set_level(logging.WARNING)
    build = Builder()
    assert cache.fetch(RECIPE, build, bytes) == b"plan"
    assert build.built == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is damaged: building it anew" in line
    assert cache.has(RECIPE)


def test_what_the_gpu_refuses_is_built_anew_with_one_line(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    def load(plan: bytes) -> bytes:
        if plan == b"old":
            raise StalePlan("it was built by another driver")
        return plan

    cache.fetch(RECIPE, Builder(b"old"), bytes)
    caplog.set_level(logging.WARNING)
    assert cache.fetch(RECIPE, Builder(b"new"), load) == b"new"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is stale (it was built by another driver): building it anew" in line
    assert cache.fetch(RECIPE, Builder(b"never"), load) == b"new"


def test_a_build_that_fails_leaves_nothing(cache: EngineCache) -> None:
    def fail() -> bytes:
        raise RendererError("no")

    with pytest.raises(RendererError, match="no"):
        cache.fetch(RECIPE, fail, bytes)
    assert not [path for path in cache.folder.iterdir() if path.suffix != ".lock"]
    assert cache.fetch(RECIPE, Builder(), bytes) == b"plan"


def test_without_a_folder_it_is_built_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert EngineCache(tmp_path / "file" / "engines").fetch(RECIPE, Builder(), bytes) == b"plan"
    assert "cannot be used" in caplog.text


PROCESS = """
import os, sys
from pathlib import Path
from visavis_renderer_tensorrt.cache import EngineCache
sys.path.insert(0, sys.argv[2])
from test_engine_cache import RECIPE
folder = Path(sys.argv[1])
def build():
    (folder / f"built-{os.getpid()}").touch()
    sum(range(2_000_000))
    return b"plan" * 100_000
assert EngineCache(folder / "engines").fetch(RECIPE, build, bytes) == b"plan" * 100_000
"""


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path), str(Path(__file__).parent)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert len(list(tmp_path.glob("built-*"))) == 1


def test_they_are_listed_and_removed(cache: EngineCache) -> None:
    old = replace(RECIPE, version="8.0")
    for recipe in (RECIPE, old):
        cache.fetch(recipe, Builder(), bytes)
    assert {kept.recipe.version for kept in cache.kept()} == {"10.9", "8.0"}
    assert str(RECIPE) == "mira/face (fp16, tensorrt 10.9, NVIDIA L4, sm89, 1 to 32 rows)"
    gone, size = cache.clean(lambda kept: kept.recipe.version == "10.9")
    assert (gone, size) == (1, HEADER + 4)
    assert [kept.recipe for kept in cache.kept()] == [RECIPE]
    assert cache.clean()[0] == 1
    assert list(cache.kept()) == []
