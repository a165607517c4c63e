"""Routes that describe themselves, and the OpenAPI document made of them: what is served and what is said agree."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

Endpoint = Callable[[Request], Awaitable[Response]]
REF: Final = "#/components/schemas/{model}"


class Problem(BaseModel):
    """How every error is told."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    error: str
    """One sentence for people."""
    code: str
    """One word for programs, such as AT_CAPACITY."""
    details: dict[str, Any]
    """What else there is to know."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header; ``schema`` is JSON Schema."""

    name: str
    where: str = "query"
    about: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What the document says of a route.

    ``body`` maps media types to models or JSON schemas; ``replies`` statuses to a model, a (media type, schema) pair or
    None for a reply without a body. ``errors`` are statuses whose body is :class:`Problem`; those that any route may
    give are added. ``security`` names schemes of :data:`SCHEMES`, any one of which will do.
    """

    summary: str
    tag: str
    body: Mapping[str, type[BaseModel] | Mapping[str, Any]] = field(default_factory=dict)
    body_required: bool = True
    replies: Mapping[int, type[BaseModel] | tuple[str, Mapping[str, Any]] | None] = field(default_factory=dict)
    errors: Sequence[int] = ()
    parameters: Sequence[Parameter] = ()
    security: Sequence[str] = ("bearer",)


SCHEMES: Final[dict[str, dict[str, str]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of this server."},
    "apiSecret": {"type": "apiKey", "in": "header", "name": "api-secret", "description": "An API key of this server."},
    "livekitToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token that is signed with the server's LiveKit key.",
    },
}

PHRASES: Final = {
    200: "Done", 201: "Made", 202: "Accepted", 204: "Done", 400: "Malformed", 401: "No valid credential",
    403: "Not allowed", 404: "Not found", 405: "Another method is served", 408: "The body took too long",
    409: "It does not fit the state of things", 413: "Too long", 415: "Another type of body is taken",
    422: "A value does not fit", 429: "Too many requests", 431: "The headers are too long",
    500: "A defect of the server", 502: "The room or the renderer refused", 503: "Not now: see Retry-After",
}  # fmt: skip


class Described(Route):
    """A route of one method with what the document says of it."""

    def __init__(self, method: str, path: str, endpoint: Endpoint, about: About) -> None:
        super().__init__(path, endpoint, methods=[method], include_in_schema=False)
        self.method, self.about = method, about


def route(method: str, path: str, endpoint: Endpoint, about: About) -> Described:
    """A route that is described: ``route("POST", "/v1/things", make_thing, About("Make a thing", "things", ...))``."""
    return Described(method, path, endpoint, about)


def document(routes: Iterable[BaseRoute], *, version: str, guarded: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of the described ones among ``routes``; ``guarded``: the server wants credentials."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for item in routes:
        if isinstance(item, Described):
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", item.path)
            paths.setdefault(path, {})[item.method.lower()] = _operation(item, schemas, guarded)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "visavis Avatar Server",
            "version": version,
            "description": "Avatars that join LiveKit rooms and speak. Every error is `{error, code, details}`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": SCHEMES},
    }


def _operation(item: Described, schemas: dict[str, Any], guarded: bool) -> dict[str, Any]:
    about = item.about
    inside = [Parameter(name, "path", required=True) for name in item.param_convertors]
    named = {p.name for p in about.parameters if p.where == "path"}
    parameters = [*(p for p in inside if p.name not in named), *about.parameters]
    replies = {str(status): _reply(status, what, schemas) for status, what in about.replies.items()}
    always = (400, 413, 500) if not about.body else (400, 408, 413, 415, 422, 500)
    secured = (401, 429) if about.security else ()
    for status in sorted({*about.errors, *always, *secured} - set(about.replies)):
        replies[str(status)] = _reply(status, Problem, schemas)
    made: dict[str, Any] = {
        "summary": about.summary,
        "tags": [about.tag],
        "operationId": f"{item.name}_{item.method.lower()}" if item.name else item.path,
        "parameters": [_parameter(p) for p in parameters],
        "responses": replies,
    }
    if item.endpoint.__doc__:
        made["description"] = " ".join(item.endpoint.__doc__.split())
    if about.body:
        content = {kind: {"schema": _schema(model, schemas)} for kind, model in about.body.items()}
        made["requestBody"] = {"required": about.body_required, "content": content}
    if about.security:
        options: list[dict[str, list[str]]] = [{name: []} for name in about.security]
        made["security"] = options if guarded else [{}, *options]
    return made


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {"name": parameter.name, "in": parameter.where, "schema": dict(parameter.schema)}
    if parameter.about:
        made["description"] = parameter.about
    if parameter.required or parameter.where == "path":
        made["required"] = True
    return made


def _reply(status: int, what: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": PHRASES.get(status, "See the body")}
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    if isinstance(what, tuple):
        made["content"] = {what[0]: {"schema": dict(what[1])}}
    elif what is not None:
        made["content"] = {"application/json": {"schema": _schema(what, schemas, reply=True)}}
    return made


def _schema(
    model: type[BaseModel] | Mapping[str, Any], schemas: dict[str, Any], *, reply: bool = False
) -> dict[str, Any]:
    """A reference to a model's schema, which is put among ``schemas``; other schemas stay as they are."""
    if not isinstance(model, type):
        return dict(model)
    made = model.model_json_schema(ref_template=REF, mode="serialization" if reply else "validation")
    schemas |= made.pop("$defs", {})
    schemas[model.__name__] = made
    return {"$ref": REF.format(model=model.__name__)}
