"""What every plugin's distribution must be like, as checks. ``visavis.testing.PackagingKit`` runs them under pytest.

All that is looked at comes from one fresh process, as a user's would be: see ``visavis.testing.probe``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from visavis.testing.checks import Suite, expect

PACKAGING: Final[Suite[PackagingCase]] = Suite("packaging")

HEAVY: Final = ("onnxruntime", "onnx", "av", "cv2", "livekit", "tensorrt", "torch", "tensorflow", "jax", "scipy")
"""Engines: imported when a part is made, not when it is listed."""
SUMMARY: Final = 120
PROBE_SECONDS: Final = 60.0


@dataclass
class PackagingCase:
    """An installed distribution to be checked, by its name: ``visavis-source-tone``."""

    dist: str
    path: Sequence[Path] = field(default_factory=tuple)
    """Folders to look in before those that Python looks in: only for what is not installed."""

    @property
    def found(self) -> dict[str, Any]:
        """What a fresh process finds. Raises ConformanceFailure if the distribution is not installed."""
        return _look(self.dist, tuple(str(folder) for folder in self.path))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records that its hooks yield."""
        records: list[dict[str, Any]] = self.found["records"]
        return records


@cache
def _look(dist: str, folders: tuple[str, ...]) -> dict[str, Any]:
    """One process for all checks: it takes a while, and what is installed does not change meanwhile."""
    command = [sys.executable, "-m", "visavis.testing.probe", dist, *HEAVY]
    paths = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    expect(done.returncode == 0, f"looking at {dist} failed: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    expect(not found.get("missing"), f"{dist} is not installed")
    return found


@PACKAGING.check()
def has_an_entry_point(case: PackagingCase) -> None:
    """It has an entry point in the group ``visavis``, by which it is found."""
    expect(case.found["entry_points"], f"{case.dist} has no entry point in the group visavis")


@PACKAGING.check()
def yields_records(case: PackagingCase) -> None:
    """Its entry points import, and their hooks yield records of the right types with names in lower case."""
    broken = case.found["broken"]
    expect(not broken, f"it cannot be used: {'; '.join(broken)}")
    expect(case.records or not case.found["entry_points"], "its hooks yield nothing")


@PACKAGING.check()
def is_cheap_to_list(case: PackagingCase) -> None:
    """Importing what the entry point names imports no engine: ``visavis plugins`` lists it at once, or its reason."""
    heavy = case.found["heavy"]
    expect(not heavy, f"listing it imports {', '.join(heavy)}: import engines where a part is made")


@PACKAGING.check()
def summarises_each_part(case: PackagingCase) -> None:
    """Each record's summary is one line for a list."""
    for record in case.records:
        said = record["summary"]
        fits = re.search(r"\w+ \w+", said) and "\n" not in said and len(said) <= SUMMARY
        expect(fits, f"the summary of {record['name']} is no line of at most {SUMMARY} characters: {said!r}")


@PACKAGING.check()
def describes_every_option(case: PackagingCase) -> None:
    """Every option has a description, in the code: editors and ``visavis schema`` show it."""
    for record in case.records:
        bare = record["undescribed"]
        expect(not bare, f"options of {record['name']} without a description: {', '.join(bare)}")


@PACKAGING.check()
def refuses_unknown_options(case: PackagingCase) -> None:
    """Its options forbid names they do not know and do not change: a misspelt option is an error, not ignored."""
    for record in case.records:
        expect(not record["lenient"], f"{', '.join(record['lenient'])} take unknown options or can be changed")


@PACKAGING.check()
def is_typed(case: PackagingCase) -> None:
    """Its package holds ``py.typed``, so that type checkers use its annotations."""
    untyped = case.found["untyped"]
    expect(not untyped, f"py.typed is missing in {', '.join(untyped)}")


@PACKAGING.check()
def keeps_to_itself(case: PackagingCase) -> None:
    """Its code imports ``visavis`` and its engine: no other plugin, and no test kit."""
    strange = case.found["strange_imports"]
    expect(not strange, f"it imports {', '.join(strange)}")


@PACKAGING.check()
def says_its_licence(case: PackagingCase) -> None:
    """Its metadata names a licence and has a summary."""
    expect(case.found["licence"], "its metadata names no licence")
    expect(case.found["description"], "its metadata has no description (the line in pyproject.toml)")


@PACKAGING.check()
def says_what_it_needs(case: PackagingCase) -> None:
    """Its metadata asks for ``visavis`` and for Python 3.11 or newer."""
    expect("visavis" in case.found["requires"], "it does not depend on visavis")
    wanted = case.found["requires_python"] or "any Python"
    expect(not case.found["takes_3_10"], f"it says that it works with {wanted}; visavis needs 3.11")


@PACKAGING.check()
def has_a_readme(case: PackagingCase) -> None:
    """Its README is its long description, and shows the word that follows ``use:`` for each part."""
    readme = case.found["readme"]
    expect(len(readme.strip()) > 80, "it has no README, or hardly one")
    for record in case.records:
        if record["kind"] == "command":
            continue
        word = re.search(rf"use:\s*[\"']?{re.escape(record['name'])}\b", readme)
        expect(word, f"its README does not show `use: {record['name']}`")
