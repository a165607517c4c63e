"""Five hundred damaged avatar files: each is refused with our own error or accepted, and nothing else happens.

``bench/hvia_fuzz.py`` runs as many more as one likes.
"""

from __future__ import annotations

import copy
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hvia_forge import Parts, take_apart
from hvia_mutations import MUTATIONS, WEIGHTS, Mutation, built, case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("resource", reason="each case needs a forked child under limits")
from hvia_warm import Verdict, WarmProcess

MUTATED = 250
SEARCHED = 250
SEED = 20_260

Judge = Callable[[str, bytes], Verdict]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """Judges a file; a verdict that is not fine fails the test and keeps the file."""
    kept = tmp_path_factory.mktemp("kept")
    with WarmProcess() as warm:

        def judged(name: str, data: bytes) -> Verdict:
            verdict = warm.judge(data)
            if not verdict.fine:
                path = kept / f"{name}.hvia"
                path.write_bytes(data)
                pytest.fail(f"{name}: {verdict.outcome}: {verdict.reason} {verdict.violations} (kept as {path})")
            return verdict

        yield judged


def test_the_undamaged_file_is_accepted(judge: Judge, tiny: Path, parts: Parts) -> None:
    assert judge("tiny", tiny.read_bytes()).outcome == "accepted"
    assert judge("built", built(parts)).outcome == "accepted"


def test_mutations(judge: Judge, parts: Parts) -> None:
    start, outcomes = time.monotonic(), Counter[str]()
    for number in range(MUTATED):
        name, data = case(parts, SEED, number)
        outcomes[judge(f"{name}-{SEED}-{number}", data).outcome] += 1
    assert outcomes["refused"] > MUTATED / 2
    assert outcomes["accepted"] > 0, "some damage does no harm; if all is refused, the check is not of the file"
    assert time.monotonic() - start < 120


def _weighted() -> list[Mutation]:
    return [mutation for mutation, weight in zip(MUTATIONS, WEIGHTS, strict=True) for _ in range(weight)]


@settings(
    max_examples=SEARCHED,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(mutation=st.sampled_from(_weighted()), chance=st.randoms(use_true_random=False))
def test_searched(judge: Judge, tiny: Path, mutation: Mutation, chance: random.Random) -> None:
    """The same mutations with hypothesis as the source of chance: it shrinks what it finds."""
    judge(mutation.__name__, mutation(copy.deepcopy(_parts(tiny)), chance))


_taken: dict[Path, Parts] = {}


def _parts(tiny: Path) -> Parts:
    return _taken.setdefault(tiny, take_apart(tiny))


WRONGS = {
    "nothing": ("pass", "accepted"),
    "crash": ("os.kill(os.getpid(), 11)", "SIGSEGV"),
    "hang": ("while True: pass", "SIGKILL|SIGXCPU"),
    "error": ("raise KeyError('x')", "KeyError"),
    "memory": ("bytearray(10**10)", "MemoryError"),
    "write": ("open('mark', 'w')", "open 'mark' 'w'"),
    "read": ("open('/etc/hostname')", "open '/etc/hostname'"),
    "delete": ("os.remove('none')", r"os\.remove|FileNotFoundError"),
    "run": ("subprocess.Popen(['true'])", r"subprocess\.Popen"),
    "code": ("eval('1')", "compile|exec"),
    "import": ("import antigravity_that_is_not_there", "import"),
    "native": ("os.write(os.open('mark', os.O_CREAT | os.O_RDWR), b'x')", "open 'mark'"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux keeps them")
@pytest.mark.parametrize("wrong", WRONGS)
def test_the_judge_notices(wrong: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that misbehaves, in each of the ways that count, is caught; the same reader without that is fine."""
    does, caught = WRONGS[wrong]
    (tmp_path / "sitecustomize.py").write_text(
        "import os, subprocess\n"
        "import visavis.hvia as hvia\n"
        "honest, calls = hvia.validate_hvia, []\n"
        "def dishonest(path, **kwargs):\n"
        "    calls.append(path)\n"
        "    if len(calls) > 2:\n"
        f"        {does}\n"
        "    return honest(path, **kwargs)\n"
        "hvia.validate_hvia = dishonest\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    with WarmProcess(cpu_s=2) as warm:
        verdict = warm.judge(tiny.read_bytes())
    assert verdict.fine == (wrong == "nothing"), verdict
    assert re.search(caught, f"{verdict.outcome} {verdict.reason} {verdict.violations}"), verdict
