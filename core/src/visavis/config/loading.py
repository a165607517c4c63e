"""Reading a deployment file, and making a deployment from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visavis.config.checking import Checker
from visavis.config.deployment import DEFAULT_USE, SERVING_USE, Deployment
from visavis.config.environment import expand
from visavis.config.problems import Mark, Problem, report_of
from visavis.config.secrecy import Secrets, guarded_line, suspicious
from visavis.config.tree import MAX_BYTES, Entry, Table, read_tree, tree_of
from visavis.errors import ConfigError
from visavis.plugins import Kind
from visavis.registry import Registry


def load_deployment(
    path: str | os.PathLike[str],
    registry: Registry,
    *,
    env: Mapping[str, str] = os.environ,
    forced: Mapping[Kind, str] | None = None,
    defaults: Mapping[Kind, str] = DEFAULT_USE,
) -> Deployment:
    """Read and check a deployment file; nothing is started and no engine is imported.

    ``forced`` names the plugins of some kinds whatever the file says (a section's options count only if the section
    is for that plugin), ``defaults`` those of sections that are missing. Relative paths are relative to the file.
    Raises ConfigError with every problem, each at its line.
    """
    where = Path(path)
    shown = str(where)
    text = _read(where)
    lines = text.splitlines()
    tree, problems = read_tree(text)
    if tree is None:
        hidden = {p.mark.line for p in problems if p.mark and guarded_line(lines, p.mark.line)}
        raise report_of([_discreet(p, hidden, lines) for p in problems], shown, lines, frozenset(hidden))
    problems += expand(tree, env)
    _supply_store(tree, where.absolute().parent, defaults)
    secrets = Secrets()
    secrets.note_tree(tree)
    checker = Checker(registry, where.absolute().parent, forced or {}, secrets, defaults)
    deployment = checker.deployment(tree, where)
    problems += checker.problems
    if problems or deployment is None:
        hidden = secrets.lines.union(number for number, line in enumerate(lines, 1) if suspicious(line))
        blotted = [Problem(p.path, secrets.blot(p.what), secrets.blot(p.fix), p.mark) for p in problems]
        raise report_of(_without_echoes(blotted), shown, lines, frozenset(hidden))
    return deployment


def make_deployment(
    sections: Mapping[str, Any],
    registry: Registry,
    *,
    folder: Path | None = None,
    forced: Mapping[Kind, str] | None = None,
    defaults: Mapping[Kind, str] = DEFAULT_USE,
) -> Deployment:
    """A deployment from Python's own dictionaries, by the same rules. Relative paths are relative to ``folder``.

    Raises ConfigError with every problem.
    """
    tree = tree_of(sections)
    assert isinstance(tree, Table)
    _supply_store(tree, (folder or Path()).absolute(), defaults)
    secrets = Secrets()
    secrets.note_tree(tree)
    checker = Checker(registry, (folder or Path()).absolute(), forced or {}, secrets, defaults)
    deployment = checker.deployment(tree, None)
    if deployment is None:
        blotted = [Problem(p.path, secrets.blot(p.what), secrets.blot(p.fix)) for p in checker.problems]
        raise report_of(blotted, "", [], frozenset())
    return deployment


def default_deployment(registry: Registry) -> Deployment:
    """What a missing file means: every section at its default. Raises ConfigError if a default is not installed."""
    return make_deployment({}, registry)


def serving_deployment(
    registry: Registry, path: str | os.PathLike[str] | None = None, *, env: Mapping[str, str] = os.environ
) -> Deployment:
    """What ``visavis serve`` runs: a file, or without one every section at its default for a server.

    Missing sections mean rooms (``livekit``, ``datastream``, ``http``) instead of files, and the avatars of
    ``assets/avatars`` beside the file (without one: in the working folder) if there is such a folder, else the sample
    avatars. Raises ConfigError with every problem.
    """
    if path is not None:
        return load_deployment(path, registry, env=env, defaults=SERVING_USE)
    return make_deployment({}, registry, defaults=SERVING_USE)


def _supply_store(tree: Table, folder: Path, defaults: Mapping[Kind, str]) -> None:
    """What is served without a word about the store: the folder of avatars that stands there, if one does."""
    root = folder / "assets" / "avatars"
    if defaults is SERVING_USE and Kind.STORE.value not in tree.entries and root.is_dir():
        section = tree_of({"use": defaults[Kind.STORE], "root": str(root)})
        tree.entries[Kind.STORE.value] = Entry(Kind.STORE.value, section)


def _read(where: Path) -> str:
    try:
        if where.is_dir():
            raise ConfigError(f"{where} is a folder, not a deployment file")
        with where.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {where}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where} has more than {MAX_BYTES // 1024} KiB: no deployment file is that large")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        mark = Mark(line, error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1, line, 1)
        raise report_of([Problem("", "the file is not UTF-8 text", mark=mark)], str(where), [], frozenset()) from error


def _discreet(problem: Problem, hidden: set[int], lines: list[str]) -> Problem:
    """A syntax problem on a line that is not shown does not repeat its words either."""
    if problem.mark is None or problem.mark.line not in hidden:
        return problem
    fix = "check the indentation, and quote what holds : * & # or @"
    if "${" in lines[problem.mark.line - 1]:
        fix = "between { } quote a reference to the environment: '${NAME}'"
    return Problem(problem.path, "this is not YAML", fix, problem.mark)


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """Of several problems with one value, those that come only of its variable being unset are left out."""
    unset = {p.path for p in problems if "environment" in p.what}
    return [p for p in problems if p.path not in unset or "environment" in p.what]
