"""From the tree of a file to a deployment: every section against its plugin, and all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from visavis.config.deployment import DEFAULT_USE, SESSION_KINDS, Deployment, Limits, Part
from visavis.config.fitting import Place, fit, misspelt_secret, resolve_paths
from visavis.config.problems import Mark, Problem
from visavis.config.secrecy import Secrets
from visavis.config.tree import Entry, Scalar, Table, Value, plain
from visavis.interfaces.session import SessionRequest
from visavis.plugins import Kind
from visavis.registry import Installed, Registry

PART_KINDS = (Kind.STORE, Kind.SOURCE, Kind.RENDERER, Kind.TRANSPORT, Kind.SERVER, Kind.LAUNCHER)
SECTIONS = (*(kind.value for kind in PART_KINDS), "limits", "prewarm", "session")
_START = Mark(1, 1, 1, 1)


class Checker:
    """Checks one tree. ``forced`` names the plugins of some kinds, whatever the file says; ``defaults`` those of
    sections that are missing.

    The session's options of a forced kind are left alone: whoever forces the part brings them.
    """

    def __init__(
        self,
        registry: Registry,
        folder: Path,
        forced: Mapping[Kind, str],
        secrets: Secrets,
        defaults: Mapping[Kind, str] = DEFAULT_USE,
    ) -> None:
        self.problems: list[Problem] = []
        self._registry = registry
        self._folder = folder
        self._forced = forced
        self._defaults = defaults
        self._secrets = secrets
        self._marks: dict[Kind, Mark | None] = {}

    def deployment(self, tree: Table, path: Path | None) -> Deployment | None:
        """The deployment, or None if there are problems."""
        self._sections(tree)
        installed = {kind: self._find(kind, tree) for kind in PART_KINDS}
        parts = {kind: self._part(item, tree) for kind, item in installed.items() if item is not None}
        limits, prewarm = self._limits(tree), self._prewarm(tree)
        session = self._session(tree, {k: item for k, item in installed.items() if item is not None})
        self._shared({kind: item for kind, item in installed.items() if item is not None})
        whole = {kind.value: part for kind, part in parts.items() if part is not None}
        if self.problems or limits is None or not {"store", "source", "renderer", "transport"} <= whole.keys():
            return None
        return Deployment(**whole, limits=limits, session=session, prewarm=prewarm, path=path)

    def _add(self, path: str, what: str, fix: str = "", mark: Mark | None = None) -> None:
        self.problems.append(Problem(path, what, fix, mark))

    def _sections(self, tree: Table) -> None:
        for key, entry in tree.entries.items():
            if key in SECTIONS:
                if isinstance(entry.value, Scalar) and entry.value.value is None and not entry.value.expanded:
                    self._add(key, "this section is empty", "fill it, or remove the line for its default", entry.mark)
                continue
            close = difflib.get_close_matches(key, SECTIONS, n=1, cutoff=0.6)
            owners = self._owners(key)
            if owners:
                fix = f"it is an option of {owners}: write it in that section"
            elif close:
                fix = f"did you mean {close[0]!r}?"
            else:
                fix = f"the sections are {', '.join(SECTIONS)}"
            self._add(key, f"unknown section {key!r}", fix, entry.mark)

    def _find(self, kind: Kind, tree: Table) -> Installed | None:
        """The plugin that a section wants, or its default; a problem if it is not there."""
        entry = tree.entries.get(kind.value)
        use, mark = self._use(kind, entry)
        self._marks[kind] = mark
        if use is None:
            return None
        item = self._registry.find(kind, use)
        if item is None and not (kind is Kind.LAUNCHER and entry is None):
            what = self._registry.missing(kind, use)
            if entry is None:
                what = f"there is no such section, and of its default: {what}"
            self._add(kind.value, what, self._registry.advice(kind, use), mark or _START)
        return item

    def _use(self, kind: Kind, entry: Entry | None) -> tuple[str | None, Mark | None]:
        """Which plugin to use (None if that cannot be told), and where the file says so."""
        default = self._forced.get(kind) or self._defaults.get(kind)
        if entry is None:
            return default, None
        table = entry.value
        if not isinstance(table, Table):
            if isinstance(table, Scalar) and table.value is None:
                return None, entry.mark
            text = table.value if isinstance(table, Scalar) and isinstance(table.value, str) else "NAME"
            fix = f"write `{kind.value}: {{use: {'NAME' if _expanded(table) else text}}}`"
            self._add(kind.value, "a section is a mapping that says which plugin to use", fix, table.mark or entry.mark)
            return None, entry.mark
        said = table.get("use")
        if said is None:
            have = ", ".join(self._registry.names(kind)) or "none"
            self._add(
                f"{kind.value}.use", "this section does not say which plugin to use", f"installed: {have}", entry.mark
            )
            return None, entry.mark
        if not isinstance(said, Scalar) or not isinstance(said.value, str):
            if not (isinstance(said, Scalar) and said.expanded and said.value is None):
                self._add(f"{kind.value}.use", "the name of a plugin is wanted", mark=said.mark)
            return None, said.mark
        return (self._forced.get(kind) or said.value), said.mark

    def _options(self, kind: Kind, name: str, tree: Table) -> Table:
        """A section's options without ``use``; nothing if the file's section is for another plugin."""
        section = tree.get(kind.value)
        if not isinstance(section, Table):
            return Table()
        said = section.get("use")
        if not isinstance(said, Scalar) or said.value != name:
            return Table()
        return Table({key: entry for key, entry in section.entries.items() if key != "use"}, section.mark)

    def _part(self, item: Installed, tree: Table) -> Part | None:
        options = self._options(item.kind, item.name, tree)
        entry = tree.entries.get(item.kind.value)
        place = Place((item.kind.value,), (entry.mark if entry else None) or self._marks[item.kind], _owner(item))
        config = self._fit(options, item.record.config, place, item)
        return Part(item.kind, item.name, item.record, config, item.origin) if config is not None else None

    def _fit(self, options: Table, model: type[BaseModel], place: Place, item: Installed | None) -> Any:
        self._guard(options, model)
        resolve_paths(options, model, self._folder)
        config, problems = fit(options, model, place)
        for problem in problems:
            self.problems.append(self._signposted(problem, item))
        return config

    def _guard(self, options: Table, model: type[BaseModel]) -> None:
        """Note secrets: those that the model calls so, and those whose key is a slip of the pen away from one."""
        self._secrets.note_fields(options, model)
        for key, entry in options.entries.items():
            if key not in model.model_fields and misspelt_secret(key, model):
                self._secrets.note(entry.value)

    def _signposted(self, problem: Problem, item: Installed | None) -> Problem:
        """An unknown option that another section knows is sent there."""
        if item is None or not problem.what.startswith("unknown option") or problem.fix.startswith("did you mean"):
            return problem
        key = problem.path.rpartition(".")[2]
        in_session = problem.path.startswith("session.")
        other = item.record.config if in_session else item.record.session
        if key in other.model_fields:
            section = item.kind.value if in_session else f"session.{item.kind.value}"
            return Problem(problem.path, problem.what, f"it belongs in the section `{section}`", problem.mark)
        owners = self._owners(key)
        return Problem(problem.path, problem.what, f"it is an option of {owners}", problem.mark) if owners else problem

    def _owners(self, option: str) -> str:
        """Which installed parts know an option, in words."""
        items = [item for kind in PART_KINDS for item in self._registry.all(kind)]
        return ", ".join(_owner(item) for item in items if option in item.record.config.model_fields)

    def _limits(self, tree: Table) -> Limits | None:
        entry = tree.entries.get("limits")
        if entry is None:
            return Limits()
        table = self._mapping(entry, "limits")
        if table is None:
            return None
        fitted: Limits | None = self._fit(table, Limits, Place(("limits",), entry.mark, "limits"), None)
        return fitted

    def _prewarm(self, tree: Table) -> tuple[str, ...]:
        value = tree.get("prewarm")
        if value is None or (isinstance(value, Scalar) and value.value is None):
            return ()
        said = plain(value)
        if isinstance(said, list) and all(isinstance(item, str) and item for item in said):
            return tuple(dict.fromkeys(said))
        self._add("prewarm", "a list of avatar ids is wanted", "write `prewarm: [mira]`", value.mark)
        return ()

    def _mapping(self, entry: Entry, path: str) -> Table | None:
        if isinstance(entry.value, Table):
            return entry.value
        if not (isinstance(entry.value, Scalar) and entry.value.value is None):
            self._add(path, "a mapping of options is wanted", mark=entry.value.mark)
        elif "." in path:
            self._add(path, "this section is empty", "fill it, or remove the line", entry.mark)
        return None

    def _session(self, tree: Table, installed: Mapping[Kind, Installed]) -> SessionRequest | None:
        entry = tree.entries.get("session")
        if entry is None:
            return None
        table = self._mapping(entry, "session")
        if table is None:
            return None
        own = Table({k: e for k, e in table.entries.items() if k not in SESSION_KINDS}, table.mark)
        sections: dict[str, dict[str, Any]] = {}
        for kind in SESSION_KINDS:
            if kind not in self._forced and kind in installed:
                sections[kind.value] = self._session_section(table, entry, installed[kind])
        request: SessionRequest | None = self._fit(
            own, SessionRequest, Place(("session",), entry.mark, "a session"), None
        )
        return request.model_copy(update=sections) if request is not None else None

    def _session_section(self, table: Table, session: Entry, item: Installed) -> dict[str, Any]:
        """Check one part's options in the session; returns them as they stand, with paths made absolute."""
        kind = item.kind
        entry = table.entries.get(kind.value)
        options = Table() if entry is None else self._mapping(entry, f"session.{kind.value}")
        if options is None:
            return {}
        mark = entry.mark if entry else session.mark
        self._fit(options, item.record.session, Place(("session", kind.value), mark, _owner(item)), item)
        said: dict[str, Any] = plain(options)
        return said

    def _shared(self, installed: Mapping[Kind, Installed]) -> None:
        """Whether every part finds what it requires of the others."""
        together = {kind: item for kind, item in installed.items() if kind not in (Kind.SERVER, Kind.LAUNCHER)}
        provided: set[str] = set().union(*(item.record.provides for item in together.values()))
        for kind, item in together.items():
            for need in sorted(item.record.requires - provided):
                self._add(
                    f"{kind.value}.use",
                    f"the {kind.value} {item.name!r} needs {need!r}, which none of "
                    f"{_names(other for other in together.values() if other is not item)} provides",
                    self._provider_of(need),
                    self._marks[kind] or _START,
                )

    def _provider_of(self, need: str) -> str:
        able = [i for kind in PART_KINDS for i in self._registry.all(kind) if need in i.record.provides]
        if not able:
            return "no installed plugin provides it"
        return "use " + " or ".join(f"`{item.kind.value}: {{use: {item.name}}}`" for item in able)


def _names(items: Iterable[Installed]) -> str:
    return ", ".join(f"{item.kind.value} {item.name!r}" for item in items)


def _owner(item: Installed) -> str:
    return f"{item.kind.value} {item.name!r} ({item.origin})"


def _expanded(value: Value) -> bool:
    return isinstance(value, Scalar) and value.expanded
