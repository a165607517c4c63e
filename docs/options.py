"""Write docs/options.md: every option of every part that ships here, from the models that check them.

    python docs/options.py [--check]

``--check`` writes nothing and exits with 1 if the page is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from visavis.config import DEFAULT_USE, Limits
from visavis.interfaces.session import SessionRequest
from visavis.registry import Registry

PAGE = Path(__file__).with_name("options.md")
HEAD = """# Options

<!-- Written by docs/options.py (`make docs`). -->

What each section of a deployment may say; [configuration.md](configuration.md) tells how it is written.
`visavis schema` prints the same for all plugins that are installed, in a form that editors understand.
"""


def kind_of(said: dict[str, Any], definitions: dict[str, Any]) -> str:
    """An option's type and bounds in words."""
    if "$ref" in said:
        said = definitions[said["$ref"].rpartition("/")[2]]
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(kind_of(each, definitions) for each in said["anyOf"]))
    if "const" in said or "enum" in said:
        return " or ".join(f"`{word}`" for word in said.get("enum", [said.get("const")]))
    names = {
        "integer": "integer",
        "number": "number",
        "boolean": "true or false",
        "null": "nothing",
        "object": "mapping",
    }
    text = names.get(str(said.get("type")), "text")
    text = "path" if said.get("format") == "path" else text
    if said.get("type") == "array":
        return f"list of {kind_of(said.get('items', {}), definitions)}"
    low = [
        f"{sign} {said[key]}" for key, sign in (("minimum", "at least"), ("exclusiveMinimum", "over")) if key in said
    ]
    high = [
        f"{sign} {said[key]}" for key, sign in (("maximum", "at most"), ("exclusiveMaximum", "under")) if key in said
    ]
    return ", ".join([text, *low, *high])


def table(model: type[BaseModel], *, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
    """The options of a model as rows of a table."""
    schema = model.model_json_schema()
    rows = {name: said for name, said in schema.get("properties", {}).items() if name not in leave_out}
    if not rows:
        return
    yield "| option | what it is | default | |"
    yield "|---|---|---|---|"
    for name, said in rows.items():
        required = name in schema.get("required", [])
        default = said.get("default")
        shown = "required" if required else "" if default in (None, {}, []) else f"`{str(default).lower()}`"
        words = " ".join(str(said.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{name}` | {kind_of(said, schema.get('$defs', {}))} | {shown} | {words} |"
    yield ""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for item in Registry.discover().all():
        record = item.record
        if not item.origin.dist.startswith("visavis") or "example" in item.origin.dist or not hasattr(record, "config"):
            continue
        usual = ", the default" if DEFAULT_USE.get(item.kind) == item.name else ""
        lines += [
            f"## `{item.kind.value}: {{use: {item.name}}}`",
            "",
            f"{record.summary} ({item.origin.dist}{usual})",
            "",
        ]
        lines += list(table(record.config)) or ["It has no options.", ""]
        if rows := list(table(record.session)):
            lines += [f"In `session: {{{item.kind.value}: ...}}`:", "", *rows]
    lines += ["## `limits`", "", *table(Limits)]
    lines += ["## `session`", "", *table(SessionRequest, leave_out=("source", "transport", "renderer"))]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page, or compare it."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
