"""The kit itself: each check fails on its saboteurs, and no other check does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from visavis.testing.checks import Check, ConformanceFailure, Suite, conform
from visavis.testing.saboteurs import CORRECT, SUITES

PAIRS = [
    pytest.param(suite, check, saboteur, id=f"{suite.kind}-{check.name}-{saboteur.__name__}")
    for suite in SUITES.values()
    for check in suite
    for saboteur in check.saboteurs
]
CHECKS = [pytest.param(check, id=f"{suite.kind}-{check.name}") for suite in SUITES.values() for check in suite]
GOOD = [
    pytest.param(check, make, backend, id=f"{suite.kind}-{check.name}-{make.__name__}-{backend}")
    for suite in SUITES.values()
    for check in suite
    for make in CORRECT[suite.kind]
    for backend in (("trio", "asyncio") if check.is_async else ("trio",))
]


class Cases:
    """Makes cases. Distributions do not change when they are looked at, which takes a while: one case serves all."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}

    def of(self, kind: str, make: Any, folder: Path) -> Any:
        """A case in an empty folder."""
        if kind != "packaging":
            return make(folder)
        if make not in self.made:
            self.made[make] = make(folder)
        return self.made[make]


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases()


def run(check: Check[Any], case: Any, *, backend: str = "trio") -> ConformanceFailure | None:
    """Run one check; gives its failure. Whatever else it raises is a defect of the kit."""

    async def main() -> None:
        await conform(check, case, virtual=backend == "trio")

    options = {"clock": trio.testing.MockClock(autojump_threshold=0)} if backend == "trio" else {}
    try:
        anyio.run(main, backend=backend, backend_options=options)
    except ConformanceFailure as failure:
        return failure
    return None


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_saboteur_and_says_what_it_claims(check: Check[Any]) -> None:
    assert check.saboteurs
    assert len(check.claim) > 40
    assert check.claim.rstrip().endswith(".")
    assert all(inspect.getdoc(saboteur) for saboteur in check.saboteurs)


@pytest.mark.parametrize("check, make, backend", GOOD)
def test_a_correct_part_passes(check: Check[Any], make: Any, backend: str, cases: Cases, tmp_path: Path) -> None:
    case = cases.of(check.kind, make, tmp_path)
    assert check.lacks(case) is None
    failure = run(check, case, backend=backend)
    assert failure is None, failure


@pytest.mark.parametrize("suite, check, saboteur", PAIRS)
def test_only_its_own_check_fails_on_a_saboteur(
    suite: Suite[Any], check: Check[Any], saboteur: Any, cases: Cases, tmp_path: Path
) -> None:
    failed = {}
    for number, other in enumerate(suite):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = cases.of(suite.kind, saboteur, folder)
        if other.lacks(case) is None and (failure := run(other, case)) is not None:
            failed[other.name] = str(failure)
    assert list(failed) == [check.name], failed
