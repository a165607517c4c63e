"""Rules about the tree: what every distribution has, what no file holds, how large it all is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ["core", *sorted(str(p.parent.relative_to(ROOT)) for p in ROOT.glob("plugins/*/pyproject.toml"))]
DISTS = [*PUBLISHED, *sorted(str(p.parent.relative_to(ROOT)) for p in ROOT.glob("examples/*/pyproject.toml"))]
MEGA = 1_000_000
LARGEST_FILE = 12 * MEGA
LARGEST_TREE = 100 * MEGA


def project(dist: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / dist / "pyproject.toml").read_text(encoding="utf-8"))


def tracked() -> list[Path]:
    """The files that are kept; all but the usual litter where there is no repository."""
    git = shutil.which("git")
    ask = [git or "git", "ls-files", "-z"]
    listed = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False) if git else None
    if listed is None or listed.returncode:
        pytest.skip("this is not a git repository")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


# -- distributions


@pytest.mark.parametrize("dist", DISTS)
def test_a_distribution_is_whole(dist: str) -> None:
    folder, said = ROOT / dist, project(dist)
    assert said["build-system"]["build-backend"] == "hatchling.build"
    about = said["project"]
    assert about["license"] == "Apache-2.0"
    assert about["requires-python"] == ">=3.11"
    assert (folder / about["readme"]).read_text(encoding="utf-8").strip()
    package, *shared = said["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(shared) <= {"src/livekit"}  # a namespace of others: nothing of ours may stand at its top
    assert not [file for name in shared for file in (folder / name).glob("*.py")]
    assert (folder / package / "__init__.py").is_file()
    assert (folder / package / "py.typed").is_file()
    assert list((folder / "tests").rglob("test_*.py"))


def test_names_follow_the_kinds() -> None:
    for dist in PUBLISHED[1:]:
        kind, _, name = dist.removeprefix("plugins/").partition("-")
        said = project(dist)
        assert said["project"]["name"] == f"visavis-{kind}-{name}"
        assert said["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"][0] == f"src/visavis_{kind}_{name}"
        assert "visavis" in said["project"]["entry-points"]


def test_all_are_of_one_version() -> None:
    versions = {project(dist)["project"]["version"] for dist in PUBLISHED}
    assert len(versions) == 1
    (version,) = versions
    extras = project("core")["project"]["optional-dependencies"]
    pulled = {*extras["standard"], *extras["livekit"], *extras["tensorrt"]}
    assert all(row.endswith(f"=={version}") for row in pulled)
    assert {row.partition("==")[0] for row in pulled} == {project(dist)["project"]["name"] for dist in PUBLISHED[1:]}


# -- imports


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    sources = ":".join(str(folder / dist / "src") for dist in PUBLISHED)
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": sources, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_imports_keep_their_contracts() -> None:
    ran = lint(ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


BREACHES = {
    "upwards in the core": ("core/src/visavis/media.py", "import visavis.session"),
    "a plugin in the core": ("core/src/visavis/cli/run.py", "def f(): import visavis_source_file"),
    "an engine in the core": ("core/src/visavis/session.py", "import onnxruntime"),
    "a network in the core": ("core/src/visavis/supervisor.py", "from livekit import rtc"),
    "one plugin in another": ("plugins/source-file/src/visavis_source_file/plugin.py", "import visavis_transport_file"),
    "the kit in the core": ("core/src/visavis/cli/doctor.py", "from visavis.testing import tiny_avatar"),
    "the kit in a plugin": ("plugins/transport-file/src/visavis_transport_file/plugin.py", "import visavis.testing"),
    "a module without a place": ("core/src/visavis/utilities.py", "'''New.'''"),
}


@pytest.mark.parametrize("where, line", BREACHES.values(), ids=BREACHES)
def test_the_contracts_catch_a_breach(tmp_path: Path, where: str, line: str) -> None:
    for dist in PUBLISHED:
        code = shutil.ignore_patterns("__pycache__", ".*", "*.hvia", "*.json")
        shutil.copytree(ROOT / dist / "src", tmp_path / dist / "src", ignore=code)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / where).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    ran = lint(tmp_path)
    assert ran.returncode != 0
    assert "BROKEN" in ran.stdout or "visavis.utilities" in ran.stdout + ran.stderr


HEAVY = {
    "onnxruntime",
    "onnx",
    "av",
    "cv2",
    "soxr",
    "livekit",
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt_rtx_bindings",
    "cuda",
    "pycuda",
    "PIL",
    "watchfiles",
    "cryptography",
}


def test_listing_plugins_loads_no_engine() -> None:
    code = (
        "import sys; from visavis.registry import Registry; assert not Registry.discover().broken; print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "visavis_renderer_onnxruntime" in loaded
    assert loaded & HEAVY == set()


# -- what files hold

REGISTRY = re.compile(
    r"py"
    r"pi\.(org|python\.org)|pythonhos"
    r"ted\.org|index-url\s*[=:]?\s*http|reg"
    r"istry\.npmjs|anaco"
    r"nda\.org/simple",
    re.I,
)
MACHINE = re.compile(
    r"(?<![\w.])/(wo" r"rk/(main|tmp|shared)|ro" r"ot/|ho" r"me/(?!user|you|visavis)\w+/|Us" r"ers/\w+/|opt/wh" r"eels)"
)
LOCKS = {
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pixi.lock",
    "Pipfile.lock",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
}


def texts(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            yield path, data.decode("utf-8", "replace")


def breaches(text: str, rule: re.Pattern[str]) -> list[str]:
    return [f"{number}: {line.strip()[:100]}" for number, line in enumerate(text.splitlines(), 1) if rule.search(line)]


@pytest.mark.parametrize("rule", [REGISTRY, MACHINE], ids=["registry hosts", "machine paths"])
def test_no_file_names_a_host_or_a_machine(rule: re.Pattern[str]) -> None:
    found = [f"{path.relative_to(ROOT)}:{row}" for path, text in texts(tracked()) for row in breaches(text, rule)]
    assert found == []


def test_hosts_and_machines_are_caught() -> None:
    planted = (
        "--index-"
        + "url=https://mirror.example/simple\nhttps://py"
        + "pi.org/simple\nhttps://files.pythonhos"
        + "ted.org"
    )
    assert len(breaches(planted, REGISTRY)) == 3
    assert len(breaches("cd /wo" + "rk/main\nopen('/ro" + "ot/x')\n/ho" + "me/alice/x", MACHINE)) == 3
    assert breaches("root/x homework/main network/shared a/root/ b", MACHINE) == []


def test_no_lock_file() -> None:
    assert [path.name for path in tracked() if path.name in LOCKS] == []


def test_sizes() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    assert {str(path.relative_to(ROOT)): size for path, size in sizes.items() if size > LARGEST_FILE} == {}
    assert sum(sizes.values()) < LARGEST_TREE


# -- what is pinned


def requirement(row: str) -> str:
    """The name of a requirement, normalised."""
    return re.split(r"[\s\[<>=!~;]", row.strip(), maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def test_pins_have_hashes_and_no_address() -> None:
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    rows = [row for row in re.sub(r"\\\n", "", text).splitlines() if row.strip() and not row.lstrip().startswith("#")]
    assert rows
    for row in rows:
        assert re.match(r"[\w.-]+==[\w.]+\s.*--hash=sha256:[0-9a-f]{64}", row), row
    assert "://" not in text
    assert "--index" not in text


WITH_A_GPU = {"cuda", "cuda-python", "rtx"}
"""Extras of the TensorRT renderer that install nowhere but beside a GPU: a vendor's index, a CUDA toolkit."""


def test_pins_cover_what_the_distributions_ask_for() -> None:
    wanted: set[str] = set()
    for dist in DISTS:
        said = project(dist)
        about = said["project"]
        rows = [
            *about.get("dependencies", []),
            *(
                row
                for name, extra in about.get("optional-dependencies", {}).items()
                if name not in WITH_A_GPU
                for row in extra
            ),
        ]
        wanted |= {requirement(row) for row in [*rows, *said["build-system"]["requires"]]}
    ours = {project(dist)["project"]["name"] for dist in DISTS}
    listed = (ROOT / "requirements-dev.in").read_text(encoding="utf-8").splitlines()
    pinned = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    named = {requirement(row) for row in listed if row.strip() and not row.startswith("#")}
    assert wanted - ours - named == set()
    assert named - {requirement(row) for row in pinned if "==" in row} == set()
    assert named & {"torch", "bpy", "tensorflow"} == set()  # the default environment stays lean


# -- what is written from the code


def test_the_page_of_options_is_up_to_date() -> None:
    ran = subprocess.run([sys.executable, ROOT / "docs" / "options.py", "--check"], check=False, timeout=60)
    assert ran.returncode == 0, "run `make docs`"
