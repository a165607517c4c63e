"""A deployment file as a tree in which every key and value knows its place.

The YAML is composed, never constructed: no tag makes an object, and what the reader understands is listed here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from visavis.config.problems import Mark, Problem

MAX_BYTES: Final = 256 * 1024
MAX_NODES: Final = 10_000
"""Values after aliases are followed: an alias bomb ends here."""
MAX_DEPTH: Final = 32

_CORE: Final = "tag:yaml.org,2002:"
_START: Final = Mark(1, 1, 1, 1)
_INT = re.compile(r"([-+]?)(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|[0-9]+)\Z")


@dataclass(slots=True)
class Scalar:
    """One value. ``expanded`` tells that it (or a part of it) came from the environment."""

    value: str | int | float | bool | None
    mark: Mark | None = None
    expanded: bool = False


@dataclass(slots=True)
class Items:
    """A list."""

    items: list[Value]
    mark: Mark | None = None


@dataclass(slots=True)
class Entry:
    """A key with its value."""

    key: str
    value: Value
    mark: Mark | None = None


@dataclass(slots=True)
class Table:
    """A mapping: its entries in the order of the file, each key once."""

    entries: dict[str, Entry] = field(default_factory=dict)
    mark: Mark | None = None

    def get(self, key: str) -> Value | None:
        """The value of a key, or None."""
        entry = self.entries.get(key)
        return entry.value if entry else None


Value = Scalar | Items | Table


def plain(value: Value) -> Any:
    """The tree as Python's own dictionaries, lists and values."""
    if isinstance(value, Table):
        return {key: plain(entry.value) for key, entry in value.entries.items()}
    if isinstance(value, Items):
        return [plain(item) for item in value.items]
    return value.value


def tree_of(value: Any) -> Value:
    """The tree of Python's own dictionaries, lists and values, without places."""
    if isinstance(value, Mapping):
        return Table({str(key): Entry(str(key), tree_of(item)) for key, item in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Items([tree_of(item) for item in value])
    return Scalar(value)


def scalars(value: Value, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Scalar]]:
    """Every scalar with its path."""
    if isinstance(value, Scalar):
        yield path, value
    elif isinstance(value, Items):
        for index, item in enumerate(value.items):
            yield from scalars(item, (*path, index))
    else:
        for key, entry in value.entries.items():
            yield from scalars(entry.value, (*path, key))


def path_text(path: Sequence[str | int]) -> str:
    """``("a", 0, "b")`` as ``a[0].b``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_tree(text: str) -> tuple[Table | None, list[Problem]]:
    """Read YAML. Returns the tree (None if the file cannot be read at all) and every problem found."""
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        return None, [_syntax_problem(error)]
    except YAMLError as error:
        return None, [_character_problem(text, error)]
    except (RecursionError, ValueError):
        # ruamel recurses for nesting, and lets int() raise for a directive such as "%YAML x".
        return None, [Problem("", "this cannot be read: it nests too deeply or is malformed", mark=_START)]
    if root is None:
        return None, [Problem("", "the file is empty", "see `visavis schema` for what it may hold", _START)]
    reader = _Reader()
    value = reader.value(root, (), 0, frozenset())
    if not isinstance(value, Table):
        if not reader.problems:
            reader.add((), "the file must hold sections, such as `renderer: {use: onnxruntime}`", node=root)
        return None, reader.problems
    return value, reader.problems


def _syntax_problem(error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Mark(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2) if mark else _START
    what = str(error.problem or error.context or "it cannot be read").strip()
    fix = ""
    if "\\t" in what:
        fix = "indent with spaces, not with tabs"
    elif what.startswith("mapping values are not allowed"):
        fix = "check the indentation, and quote a value that holds a colon"
    elif "another document" in what:
        what, fix = "a second document starts here", "a deployment is one document"
    return Problem("", f"this is not YAML: {what}", fix, place)


def _character_problem(text: str, error: YAMLError) -> Problem:
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return Problem("", "this is not YAML", mark=_START)
    before = text[:position]
    line, column = before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
    return Problem("", "a character here is not allowed in YAML", "", Mark(line, column, line, column + 1))


class _Reader:
    """Turns ruamel's nodes into the tree, and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._nodes = 0

    def add(self, path: Sequence[str | int], what: str, fix: str = "", *, node: Node) -> None:
        self.problems.append(Problem(path_text(path), what, fix, mark_of(node)))

    def value(self, node: Node, path: tuple[str | int, ...], depth: int, above: frozenset[int]) -> Value:
        """The value of a node; what cannot be read becomes null, with a problem."""
        mark = mark_of(node)
        self._nodes += 1
        if id(node) in above:
            self.add(path, "an alias refers to what it is a part of", node=node)
        elif depth > MAX_DEPTH:
            self.add(path, f"this is nested deeper than {MAX_DEPTH} levels", node=node)
        elif self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self.add(path, f"the file holds more than {MAX_NODES} values once its aliases are followed", node=node)
        elif not self._known_tag(node, path):
            pass
        elif isinstance(node, MappingNode):
            return self._table(node, path, depth, above | {id(node)})
        elif isinstance(node, SequenceNode):
            inner = above | {id(node)}
            return Items([self.value(item, (*path, i), depth + 1, inner) for i, item in enumerate(node.value)], mark)
        elif isinstance(node, ScalarNode):
            return Scalar(_scalar(node), mark)
        return Scalar(None, mark)

    def _known_tag(self, node: Node, path: tuple[str | int, ...]) -> bool:
        tag = str(node.tag)
        known = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map", "merge", "value")
        if tag.startswith(_CORE) and tag.removeprefix(_CORE) in known:
            return True
        # The tag itself is not repeated: a secret that starts with ! would be one.
        self.add(path, "a tag is not allowed here", "remove it, or quote a value that starts with !", node=node)
        return False

    def _table(self, node: MappingNode, path: tuple[str | int, ...], depth: int, above: frozenset[int]) -> Table:
        table = Table(mark=mark_of(node))
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.add(path, "a key must be a name, not a list or a mapping", node=key_node)
                continue
            key = str(key_node.value)
            if key_node.tag == f"{_CORE}merge":
                self.add(path, "merging with << is not supported", "write the options out", node=key_node)
                continue
            here = (*path, key)
            first = table.entries.get(key)
            if first is not None:
                where = f"it is also in line {first.mark.line}" if first.mark else ""
                self.add(here, "this key stands here twice", where, node=key_node)
                continue
            table.entries[key] = Entry(key, self.value(value_node, here, depth + 1, above), mark_of(key_node))
        return table


def mark_of(node: Node) -> Mark:
    """Where a node lies."""
    start, end = node.start_mark, node.end_mark
    return Mark(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _scalar(node: ScalarNode) -> str | int | float | bool | None:
    """A scalar by YAML 1.2's core schema; what does not convert stays text (dates too)."""
    text, kind = str(node.value), str(node.tag).removeprefix(_CORE)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            return _integer(text)
        if kind == "float":
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        pass
    return text


def _integer(text: str) -> int | str:
    found = _INT.match(text.replace("_", ""))
    if found is None:
        return text
    sign, digits = found.groups()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    number = int(digits[2:] if base != 10 else digits, base)
    return -number if sign == "-" else number
