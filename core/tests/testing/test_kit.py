"""How the kit behaves under pytest: what a plugin's author sees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import visavis.testing
from visavis.testing import SourceCase, SourceKit, xfail
from visavis.testing.fakes import TalkingSource
from visavis.testing.saboteurs import SUITES


class TestTalkingSource(SourceKit):
    @pytest.fixture
    def source(self) -> SourceCase:
        sound = np.full((4_000, 1), 0.1, np.float32)
        return SourceCase(make=lambda: TalkingSource([sound]), says=sound)


class TestAsyncioOnly(SourceKit):
    backends = ("asyncio",)
    test_says_the_whole_sound = xfail(reason="the expectation is wrong on purpose")

    @pytest.fixture
    async def source(self, anyio_backend_name: str) -> SourceCase:
        assert anyio_backend_name == "asyncio"
        sound = np.full((400, 1), 0.1, np.float32)
        return SourceCase(make=lambda: TalkingSource([sound]), says=sound * 2, patience=0.2)


def test_a_check_may_not_be_overridden() -> None:
    with pytest.raises(TypeError, match=r"test_closes_twice: a check may not be overridden.*xfail\(reason"):

        class TestCheats(SourceKit):
            def test_closes_twice(self) -> None:
                """Nothing is tested."""

    with pytest.raises(TypeError, match="may not be overridden"):

        class TestHides(SourceKit):
            test_closes_twice = None


def test_a_check_may_not_be_overridden_by_a_mixin() -> None:
    class Mixin:
        def test_closes_twice(self) -> None:
            """Nothing is tested."""

    with pytest.raises(TypeError, match="may not be overridden"):

        class TestCheats(Mixin, SourceKit):
            pass


def test_an_expected_failure_needs_a_reason_and_a_check() -> None:
    with pytest.raises(ValueError, match="reason"):
        xfail(reason=" ")
    with pytest.raises(TypeError, match="no such check of a source"):

        class TestMisspelt(SourceKit):
            test_closes_thrice = xfail(reason="no such thing")


def pytest_run(folder: Path, text: str) -> str:
    """A plugin's own test run, with warnings as errors."""
    (folder / "test_plugin.py").write_text(text)
    options = ["-p", "no:cacheprovider", "-Werror", "--strict-markers", "-rsxf", "-q"]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_an_author_sees_what_failed_and_what_was_not_checked(tmp_path: Path) -> None:
    said = pytest_run(
        tmp_path,
        """
import numpy as np, pytest
from visavis.testing import SourceCase, SourceKit
from visavis.testing.saboteurs.source import leaves_open

class TestMine(SourceKit):
    @pytest.fixture
    def source(self, tmp_path):
        case = leaves_open(tmp_path)
        case.says = None
        return case
""",
    )
    assert "2 failed" in said
    assert "segment 2 was opened and never ended" in said
    assert "the case does not give says" in said


def test_without_its_fixture_a_kit_says_which_is_missing(tmp_path: Path) -> None:
    text = "from visavis.testing import SourceKit\n\nclass TestMine(SourceKit):\n    pass\n"
    assert "a SourceKit needs a fixture named source that returns a SourceCase" in pytest_run(tmp_path, text)


DOCS = Path(__file__).parents[3] / "docs" / "conformance.md"


@pytest.mark.skipif(not DOCS.exists(), reason="the docs are not beside the core here")
def test_the_documented_example_passes(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    test = examples[0].partition("class TestBeep")[2]
    assert len(test.strip().splitlines()) + examples[0].count("import") <= 10
    said = pytest_run(tmp_path, examples[0])
    assert " passed" in said
    assert "failed" not in said, said


@pytest.mark.skipif(not DOCS.exists(), reason="the docs are not beside the core here")
def test_every_check_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for check in (check for suite in SUITES.values() for check in suite):
        claim = " ".join(check.claim.split()).replace("``", "`")
        assert f"- `{check.name}`: {claim}" in text, "docs/conformance.md is not up to date"


def test_all_public_names_are_there() -> None:
    for name in visavis.testing.__all__:
        assert getattr(visavis.testing, name).__doc__
    with pytest.raises(AttributeError):
        visavis.testing.nothing_of_that_name  # noqa: B018


def test_importing_the_kit_imports_no_pytest() -> None:
    code = "import sys, visavis.testing; print('pytest' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
