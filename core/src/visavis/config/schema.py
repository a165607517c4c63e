"""The JSON Schema of a deployment file, for editors: made of the models of the plugins that are installed."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from visavis.config.checking import PART_KINDS
from visavis.config.deployment import DEFAULT_USE, SESSION_KINDS, Limits
from visavis.interfaces.session import SessionRequest
from visavis.plugins import Kind
from visavis.registry import Installed, Registry

Schema = dict[str, Any]

_REFERENCE: Final = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}
_SUMMARY: Final = {
    Kind.STORE: "Where avatars come from.",
    Kind.SOURCE: "Where speech comes from.",
    Kind.RENDERER: "What draws the avatar.",
    Kind.TRANSPORT: "Where pictures and sound go.",
    Kind.SERVER: "How clients ask for sessions.",
    Kind.LAUNCHER: "Where sessions run.",
}


def deployment_schema(registry: Registry) -> Schema:
    """The schema (2020-12). What an installed plugin knows completes and is checked; other plugins are refused."""
    definitions: Schema = {}
    properties: Schema = {}
    for kind in PART_KINDS:
        items = registry.all(kind)
        properties[kind.value] = _section(kind, items, definitions)
        if kind in SESSION_KINDS:
            for item in items:
                _define(definitions, f"session.{kind.value}.{item.name}", item.record.session)
    _define(definitions, "limits", Limits)
    properties["limits"] = {"$ref": "#/$defs/limits", "description": "How much this deployment takes on."}
    described = "Avatars that are loaded at the start and stay in memory, by their ids."
    properties["prewarm"] = {"type": "array", "items": {"type": "string", "minLength": 1}, "description": described}
    properties["session"] = _session(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "visavis deployment",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "allOf": [rule for kind in SESSION_KINDS for rule in _session_rules(kind, registry.all(kind))],
        "$defs": dict(sorted(definitions.items())),
    }


def _section(kind: Kind, items: list[Installed], definitions: Schema) -> Schema:
    rules = []
    for item in items:
        name = f"{kind.value}.{item.name}"
        use = {"const": item.name, "description": item.record.summary}
        _define(definitions, name, item.record.config, extra={"use": use})
        rules.append({"if": _uses(item.name), "then": {"$ref": f"#/$defs/{name}"}})
    listed = "; ".join(f"{item.name}: {item.record.summary}" for item in items)
    return {
        "description": _SUMMARY[kind],
        "type": "object",
        "required": ["use"],
        "properties": {"use": {"enum": [item.name for item in items], "description": listed or "none is installed"}},
        "allOf": rules,
    }


def _uses(name: str) -> Schema:
    return {"type": "object", "properties": {"use": {"const": name}}, "required": ["use"]}


def _session(definitions: Schema) -> Schema:
    _define(definitions, "session", SessionRequest)
    schema: Schema = definitions.pop("session")
    for kind in SESSION_KINDS:
        described = f"This session's options for the {kind.value}."
        schema["properties"][kind.value] = {"type": "object", "description": described}
    return schema


def _session_rules(kind: Kind, items: list[Installed]) -> list[Schema]:
    """The session's options for a part depend on which plugin the part's section (or its default) names."""
    rules = []
    for item in items:
        chosen: Schema = {"properties": {kind.value: _uses(item.name)}, "required": [kind.value]}
        if DEFAULT_USE.get(kind) == item.name:
            chosen = {"anyOf": [chosen, {"not": {"required": [kind.value]}}]}
        reference = {"$ref": f"#/$defs/session.{kind.value}.{item.name}"}
        then = {"properties": {"session": {"properties": {kind.value: reference}}}}
        rules.append({"if": chosen, "then": then})
    return rules


def _define(definitions: Schema, name: str, model: type[BaseModel], *, extra: Schema | None = None) -> None:
    """Put a model's schema, and those it refers to, under ``$defs``."""
    try:
        schema = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    except PydanticUserError:  # a type that JSON Schema cannot describe: the option exists, its values go unchecked
        schema = {"type": "object", "properties": {field: {} for field in model.model_fields}}
    for inner, body in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = _relaxed(body)
    schema = _relaxed(schema)
    if extra:
        schema["properties"] = {**extra, **schema.get("properties", {})}
    definitions[name] = schema


def _relaxed(schema: Any) -> Any:
    """Let ``${NAME}`` stand for every value that is not text."""
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in ("integer", "number", "boolean"):
        kept = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        rest = {key: value for key, value in schema.items() if key not in kept}
        return {**kept, "anyOf": [rest, dict(_REFERENCE)]}
    return {key: value if key in ("default", "const", "enum") else _relaxed(value) for key, value in schema.items()}
