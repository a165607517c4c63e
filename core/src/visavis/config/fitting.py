"""One section of a deployment against one pydantic model: what does not fit, in words, at its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from visavis.component import looks_secret
from visavis.config.problems import Mark, Problem
from visavis.config.secrecy import kinds_in
from visavis.config.tree import Items, Scalar, Table, Value, path_text, plain

M = TypeVar("M", bound=BaseModel)
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a section stands: its path, the mark to fall back on, and who owns its options (for the fix)."""

    path: Steps
    mark: Mark | None
    owner: str


def resolve_paths(table: Table, model: type[BaseModel], folder: Path) -> None:
    """Make relative paths absolute, in place: what a file says is relative to the file's folder."""
    for name, field in model.model_fields.items():
        for key in filter(None, (name, field.alias)):
            value = table.get(key)
            if value is None:
                continue
            kinds = list(kinds_in(field.annotation))
            if any(issubclass(kind, Path) for kind in kinds):
                _resolve(value, folder, _literals(field.annotation))
            for kind in kinds:
                if issubclass(kind, BaseModel) and isinstance(value, Table):
                    resolve_paths(value, kind, folder)


def _resolve(value: Value, folder: Path, spare: Sequence[Any]) -> None:
    if isinstance(value, Items):
        for item in value.items:
            _resolve(item, folder, spare)
    elif isinstance(value, Scalar) and isinstance(value.value, str) and value.value and value.value not in spare:
        try:
            value.value = str(folder / Path(value.value).expanduser())
        except RuntimeError:  # "~nobody/x": no such user, so the name is taken as it stands
            value.value = str(folder / value.value)


def _literals(annotation: Any) -> list[Any]:
    """The words that an annotation allows beside a path (``Path | Literal["-"]``)."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for inner in get_args(annotation) for word in _literals(inner)]


def fit(table: Table, model: type[M], place: Place) -> tuple[M | None, list[Problem]]:
    """Validate a section. Returns the options (None if they do not fit) and the problems."""
    try:
        return model.model_validate(plain(table)), []
    except ValidationError as error:
        return None, list(_problems(error, table, model, place))
    except Exception as error:  # noqa: BLE001 (a plugin's own validator may raise anything: its options do not fit)
        what = f"its options cannot be read: {type(error).__name__}: {error}"
        return None, [Problem(path_text(place.path), what, f"this is a fault of {place.owner}", place.mark)]


def _problems(error: ValidationError, table: Table, model: type[BaseModel], place: Place) -> Iterable[Problem]:
    """pydantic's findings, those of one place (the branches of a union) in one."""
    grouped: dict[Steps, list[Any]] = {}
    for found in error.errors(include_url=False, include_input=False):
        loc: Steps = found["loc"]
        if found["type"] in ("extra_forbidden", "missing"):
            depth = _depth(loc[:-1], table)
            key = (*loc[:depth], loc[-1])
        else:
            key = loc[: _depth(loc, table)]
        grouped.setdefault(key, []).append(found)
    for steps, findings in grouped.items():
        yield _problem(steps, findings, table, model, place)


def _depth(loc: Steps, value: Value) -> int:
    """How many steps of a location are keys and indices of the file; the rest names a union's branches."""
    depth = 0
    for step in loc:
        if isinstance(value, Table) and isinstance(step, str) and step in value.entries:
            value = value.entries[step].value
        elif isinstance(value, Items) and isinstance(step, int) and step < len(value.items):
            value = value.items[step]
        else:
            break
        depth += 1
    return depth


def _problem(steps: Steps, findings: list[Any], table: Table, model: type[BaseModel], place: Place) -> Problem:
    path = path_text((*place.path, *steps))
    kind = findings[0]["type"]
    if kind == "extra_forbidden":
        key_mark, parent = _key_mark(steps, table), _model_at(steps[:-1], model)
        return Problem(path, f"unknown option {str(steps[-1])!r}", _advice(str(steps[-1]), parent, place), key_mark)
    if kind == "missing":
        fix = _description(steps, model)
        return Problem(path, "this option is missing", fix, _parent_mark(steps, table) or place.mark)
    said = list(dict.fromkeys(_sentence(found) for found in findings))
    value = _value_at(steps, table)
    fix = "its value came from the environment" if isinstance(value, Scalar) and value.expanded else ""
    mark = value.mark if value is not None and steps else place.mark
    return Problem(path, ", or ".join(said), fix or _description(steps, model), mark or place.mark)


def _sentence(found: Mapping[str, Any]) -> str:
    text = str(found["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "should be", 1)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _advice(key: str, model: type[BaseModel] | None, place: Place) -> str:
    options = list(model.model_fields) if model is not None else []
    close = difflib.get_close_matches(key, options, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]!r}? " if close else ""
    known = ", ".join(sorted(options)) or "none"
    return f"{meant}{place.owner} has the options: {known}"


def misspelt_secret(key: str, model: type[BaseModel]) -> bool:
    """Whether an unknown key is close to one whose value would be a secret."""
    for name in difflib.get_close_matches(key, model.model_fields, n=3, cutoff=0.6):
        kinds = kinds_in(model.model_fields[name].annotation)
        if looks_secret(name) or any(issubclass(kind, SecretStr | SecretBytes) for kind in kinds):
            return True
    return False


def _model_at(steps: Steps, model: type[BaseModel]) -> type[BaseModel] | None:
    """The nested model that the options at ``steps`` belong to; None if it is not clear."""
    for step in steps:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = [k for k in kinds_in(field.annotation) if issubclass(k, BaseModel)] if field else []
        if len(inner) != 1:
            return None
        model = inner[0]
    return model


def _description(steps: Steps, model: type[BaseModel]) -> str:
    """The option's own description, one line of it."""
    parent = _model_at(steps[:-1], model) if steps else None
    field = parent.model_fields.get(str(steps[-1])) if parent is not None else None
    text = " ".join((field.description or "").split()) if field else ""
    return f"{steps[-1]}: {text}" if text else ""


def _value_at(steps: Steps, value: Value) -> Value | None:
    for step in steps:
        if isinstance(value, Table) and step in value.entries:
            value = value.entries[str(step)].value
        elif isinstance(value, Items) and isinstance(step, int) and step < len(value.items):
            value = value.items[step]
        else:
            return None
    return value


def _key_mark(steps: Steps, table: Table) -> Mark | None:
    parent = _value_at(steps[:-1], table)
    entry = parent.entries.get(str(steps[-1])) if isinstance(parent, Table) else None
    return entry.mark if entry else None


def _parent_mark(steps: Steps, table: Table) -> Mark | None:
    """The key under which something is missing; None at the top of the section."""
    return _key_mark(steps[:-1], table) if len(steps) > 1 else None
