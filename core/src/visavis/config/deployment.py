"""What a deployment file says, once it has been checked: the parts with their options, limits, and the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from visavis.component import ComponentConfig
from visavis.config.fitting import Place, fit
from visavis.config.problems import Problem, report_of
from visavis.config.secrecy import Secrets
from visavis.config.tree import Table, tree_of
from visavis.errors import PluginError
from visavis.interfaces.session import SessionRequest
from visavis.plugins import Kind
from visavis.registry import Origin

DEFAULT_USE: Final[Mapping[Kind, str]] = {
    Kind.STORE: "filesystem",
    Kind.SOURCE: "file",
    Kind.RENDERER: "onnxruntime",
    Kind.TRANSPORT: "file",
    Kind.LAUNCHER: "local",
}
"""Which plugin stands in for a section that the file leaves out."""
SERVING_USE: Final[Mapping[Kind, str]] = {
    **DEFAULT_USE,
    Kind.SOURCE: "datastream",
    Kind.TRANSPORT: "livekit",
    Kind.SERVER: "http",
}
"""The same where the file is to be served: rooms instead of files."""
SESSION_KINDS: Final = (Kind.SOURCE, Kind.TRANSPORT, Kind.RENDERER)
"""The parts that take options for one session."""


class Limits(ComponentConfig):
    """How much this deployment takes on."""

    max_sessions: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    """Sessions at once; auto sets no fixed number."""
    idle_timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = 600.0
    """Seconds without speech after which a session in real time is ended; null for never."""
    max_duration_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    """Seconds after which a session in real time is ended, once what is being said has been said; null for never."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a deployment: the plugin's record and its options, validated."""

    kind: Kind
    name: str
    record: Any
    config: ComponentConfig
    origin: Origin

    def make(self, *arguments: Any) -> Any:
        """Call the record's factory with the options and ``arguments``. Here the engine is imported.

        An ImportError becomes a PluginError that names the distribution.
        """
        try:
            return self.record.factory(self.config, *arguments)
        except ImportError as error:
            what = f"the {self.kind.value} {self.name!r} ({self.origin}) cannot be used here: {error}"
            raise PluginError(what, hint="run `visavis doctor`") from error

    def session_options(self, section: Mapping[str, Any]) -> ComponentConfig:
        """A session's options for this part. Raises ConfigError with every problem."""
        table = tree_of(section)
        assert isinstance(table, Table)
        place = Place(("session", self.kind.value), None, f"{self.kind.value} {self.name} ({self.origin})")
        options, problems = fit(table, self.record.session, place)
        if options is None:
            secrets = Secrets()
            secrets.note_tree(table)
            secrets.note_fields(table, self.record.session)
            told = [Problem(p.path, secrets.blot(p.what), secrets.blot(p.fix), p.mark) for p in problems]
            raise report_of(told, "", [], frozenset())
        checked: ComponentConfig = options
        return checked


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that is the same for all sessions; ``session`` is the one that ``visavis run`` starts."""

    store: Part
    source: Part
    renderer: Part
    transport: Part
    server: Part | None = None
    launcher: Part | None = None
    limits: Limits = field(default_factory=Limits)
    session: SessionRequest | None = None
    prewarm: tuple[str, ...] = ()
    """Ids of avatars that are loaded at the start and stay in memory."""
    path: Path | None = None

    def part(self, kind: Kind) -> Part:
        """The part of a kind. Raises PluginError if the deployment has none."""
        found: Part | None = getattr(self, kind.value, None)
        if found is None:
            raise PluginError(f"this deployment has no {kind.value}", hint=f"add a section `{kind.value}:`")
        return found

    def parts(self) -> list[Part]:
        """All parts, in the order of the kinds."""
        return [p for kind in Kind if (p := getattr(self, kind.value, None)) is not None]

    def with_session(self, request: SessionRequest) -> Deployment:
        """The same deployment with another session. Raises ConfigError if its options do not fit the parts."""
        for kind in SESSION_KINDS:
            self.part(kind).session_options(getattr(request, kind.value))
        return replace(self, session=request)
