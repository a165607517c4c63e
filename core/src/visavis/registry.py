"""What is installed: plugins found through entry points, checked record by record.

A plugin that fails to import is kept with its cause and hurts nobody else. pluggy does not check what a hook
returns, so every record is checked here.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy

from visavis import hookspecs
from visavis.component import ComponentConfig
from visavis.errors import PluginError
from visavis.plugins import RECORD_OF_KIND, CommandPlugin, Kind, PluginRecord

R = TypeVar("R", bound=PluginRecord)

OURS = {
    Kind.STORE: ("filesystem",),
    Kind.SOURCE: ("agentsession", "datastream", "file"),
    Kind.RENDERER: ("onnxruntime", "tensorrt"),
    Kind.TRANSPORT: ("file", "livekit"),
    Kind.SERVER: ("http",),
    Kind.LAUNCHER: ("livekit-dispatch",),
}
"""The parts that this project publishes."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from: its distribution, that one's version, and the entry point."""

    dist: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        return f"{self.dist} {self.version}"


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be used: why in one line, and the traceback for ``--verbose``."""

    origin: Origin
    reason: str
    details: str


@dataclass(frozen=True, slots=True)
class Installed:
    """One record and where it comes from."""

    kind: Kind
    record: Any
    origin: Origin

    @property
    def name(self) -> str:
        """The record's name."""
        name: str = self.record.name
        return name


class Registry:
    """The parts that are installed, by kind and name."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._found: dict[tuple[Kind, str], Installed] = {}
        self.broken: list[BrokenPlugin] = []

    @classmethod
    def discover(cls) -> Registry:
        """Load every entry point of group ``visavis``."""
        registry = cls()
        for point in sorted(entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=lambda p: (_dist(p)[0], p.name)):
            registry.load(point)
        return registry

    def load(self, point: EntryPoint) -> None:
        """Import one entry point and take its records; a failure is kept in ``broken``."""
        origin = Origin(*_dist(point), entry_point=f"{point.name} = {point.value}")
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # A plugin's import may raise anything: its engine's own errors, a SyntaxError, even an exit.
            self._break(origin, f"import failed: {_sentence(error)}", error)
            return
        self.add(plugin, origin)

    def add(self, plugin: object, origin: Origin) -> None:
        """Take the records of an imported plugin. None is taken if one breaks the rules."""
        name = f"{origin.dist}:{origin.entry_point}"
        try:
            self._manager.register(plugin, name)
            records = list(self._records_of(plugin, origin))
            for item in records:
                self._check_free(item)
        except PluginError as error:
            self._break(origin, error.message, error)
            return
        except Exception as error:  # noqa: BLE001 - a hook is the plugin's code: what it raises is kept as its defect
            self._break(origin, f"its hooks failed: {_sentence(error)}", error)
            return
        for item in records:
            self._found[item.kind, item.name] = item

    def _records_of(self, plugin: object, origin: Origin) -> Iterable[Installed]:
        seen: set[tuple[Kind, str]] = set()
        for kind, hook_name in hookspecs.HOOK_OF_KIND.items():
            hook = getattr(self._manager.hook, hook_name)
            for impl in hook.get_hookimpls():
                if impl.plugin is not plugin:
                    continue
                yielded = impl.function()
                if not isinstance(yielded, Iterable):
                    raise PluginError(f"{hook_name} must return records, not {type(yielded).__name__}")
                for record in yielded:
                    check_record(kind, record, hook_name)
                    if (kind, record.name) in seen:
                        raise PluginError(f"it brings two {kind.value}s named {record.name!r}")
                    seen.add((kind, record.name))
                    yield Installed(kind, record, origin)

    def _check_free(self, item: Installed) -> None:
        taken = self._found.get((item.kind, item.name))
        if taken is not None:
            raise PluginError(
                f"two plugins bring the {item.kind.value} {item.name!r}: {taken.origin.dist} and {item.origin.dist}",
                hint="uninstall one of them",
            )

    def _break(self, origin: Origin, reason: str, error: BaseException) -> None:
        details = "".join(traceback.format_exception(error))
        self.broken.append(BrokenPlugin(origin, reason, details))

    def all(self, kind: Kind | None = None) -> list[Installed]:
        """All records, of one kind or of all, by kind and name."""
        order = list(Kind)
        rows = [item for item in self._found.values() if kind in (None, item.kind)]
        return sorted(rows, key=lambda item: (order.index(item.kind), item.name))

    def names(self, kind: Kind) -> list[str]:
        """The names of one kind."""
        return [item.name for item in self.all(kind)]

    def find(self, kind: Kind, name: str) -> Installed | None:
        """The record of that kind and name, or None."""
        return self._found.get((kind, name))

    def get(self, kind: Kind, name: str) -> Any:
        """The record of that kind and name. Raises PluginError that says what is installed."""
        item = self.find(kind, name)
        if item is None:
            raise PluginError(self.missing(kind, name), hint=self.advice(kind, name))
        return item.record

    def missing(self, kind: Kind, name: str) -> str:
        """One sentence on why there is no such part."""
        wanted = _published(kind, name)
        for broken in self.broken:
            if broken.origin.dist == wanted:
                return f"the {kind.value} {name!r} is installed but broken: {broken.reason}"
        have = ", ".join(self.names(kind)) or "none"
        return f"no {kind.value} named {name!r} is installed (installed: {have})"

    def advice(self, kind: Kind, name: str) -> str:
        """What to do about a missing part."""
        close = difflib.get_close_matches(name, self.names(kind), n=1, cutoff=0.6)
        if close:
            return f"did you mean {close[0]!r}?"
        for broken in self.broken:
            if broken.origin.dist == _published(kind, name):
                return "run `visavis doctor`"
        # Only names that are ours: to advise installing whatever is asked for would invite impostors.
        ours = name in OURS.get(kind, ())
        return f"pip install {_published(kind, name)}" if ours else "run `visavis plugins` to see what is there"


def _published(kind: Kind, name: str) -> str:
    """The distribution that would bring one of our parts."""
    return f"visavis-{kind.value}-{'livekit' if name == 'livekit-dispatch' else name}"


def check_record(kind: Kind, record: object, hook_name: str) -> None:
    """Raise PluginError if a record is not what its hook promises."""
    wanted = RECORD_OF_KIND[kind]
    if not isinstance(record, wanted):
        raise PluginError(f"{hook_name} yielded {type(record).__name__}, not {wanted.__name__}")
    name = getattr(record, "name", None)
    if not isinstance(name, str) or not NAME.match(name):
        raise PluginError(f"{hook_name} yielded the name {name!r}: lower case letters, digits and hyphens are allowed")
    if isinstance(record, CommandPlugin):
        if record.target.count(":") != 1:
            raise PluginError(f"the command {name!r} has the target {record.target!r}, not package.module:attribute")
        return
    for field in ("config", "session"):
        model = getattr(record, field)
        if not (isinstance(model, type) and issubclass(model, ComponentConfig)):
            raise PluginError(f"the {kind.value} {name!r}: its {field} is not a ComponentConfig")
    if not callable(getattr(record, "factory", None)):
        raise PluginError(f"the {kind.value} {name!r}: its factory cannot be called")


def _dist(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "0")


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:300]}"
