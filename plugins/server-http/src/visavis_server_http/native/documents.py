"""``/openapi.json``, and ``/docs``: the same as a page, with nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

import visavis
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from visavis_server_http.desk import Desk
from visavis_server_http.openapi import About, document, route
from visavis_server_http.requests import Json

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2024;background:#fff}
code,pre{font:13px/1.5 ui-monospace,monospace}pre{background:#f2f4f6;padding:.6rem;border-radius:6px;overflow:auto}
details{border:1px solid #dfe3e6;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}
b.m{display:inline-block;min-width:4.2rem;font-family:ui-monospace,monospace}h2{margin-top:2rem;text-transform:capitalize}
table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#15181b}pre{background:#1f2429}details{border-color:#333a40}}
"""


def routes(desk: Desk, described: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Its routes; the document holds those of ``described`` and itself."""
    made: list[BaseRoute] = []

    @cache
    def whole() -> dict[str, Any]:
        return document([*described, *made], version=visavis.__version__, guarded=not desk.settings.open)

    async def openapi(request: Request) -> Response:
        """This document."""
        return Json(whole())

    async def docs(request: Request) -> Response:
        """The document as a page."""
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(page(whole()), headers=headers)

    json_reply = ("application/json", {"type": "object"})
    html_reply = ("text/html", {"type": "string"})
    made += [
        route("GET", "/openapi.json", openapi, About("OpenAPI", "about", replies={200: json_reply}, security=())),
        route("GET", "/docs", docs, About("This page", "about", replies={200: html_reply}, security=())),
    ]
    return made


def page(about: dict[str, Any]) -> str:
    """The document as HTML that stands alone."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in about["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    parts = "".join(f"<h2>{escape(tag)}</h2>{''.join(rows)}" for tag, rows in by_tag.items())
    models = "".join(_model(name, schema) for name, schema in about["components"]["schemas"].items())
    info = about["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>Version {escape(info['version'])}. {escape(info['description'])} For programs: <a href=openapi.json>"
        f"openapi.json</a>.{parts}<h2>Models</h2>{models}"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(p.get('description', ''))}"
        for p in operation["parameters"]
    )
    bodies = operation.get("requestBody", {}).get("content", {})
    body = "".join(f"<p>Body: <code>{escape(kind)}</code> {_ref(what['schema'])}" for kind, what in bodies.items())
    replies = "".join(
        f"<tr><td><code>{status}</code><td>{escape(reply['description'])}"
        f"<td>{''.join(_ref(what['schema']) for what in reply.get('content', {}).values())}"
        for status, reply in sorted(operation["responses"].items())
    )
    told = escape(operation.get("description", ""))
    return (
        f"<details><summary><b class=m>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
        f"</summary><p>{told}<table>{rows}</table>{body}<table>{replies}</table></details>"
    )


def _ref(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f"<a href='#{escape(name)}'>{escape(name)}</a>" if name else escape(str(schema.get("type", "")))


def _model(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(key)}{'*' if key in needed else ''}</code><td>{escape(what.get('description', ''))}"
        for key, what in schema.get("properties", {}).items()
    )
    return f"<details id='{escape(name)}'><summary>{escape(name)}</summary><table>{rows}</table></details>"
