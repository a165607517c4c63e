"""What must not be shown: the lines of a file that hold secrets, and the secrets themselves in messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from visavis.component import looks_secret, password_in
from visavis.config.tree import Items, Scalar, Table, Value, scalars

_SHORTEST: Final = 4
"""Shorter values are not blotted out of messages: every 1 in them would become stars."""


class Secrets:
    """The secrets of one file: on which lines they stand, and what they are."""

    def __init__(self) -> None:
        self.lines: set[int] = set()
        self._values: set[str] = set()

    def note(self, value: Value) -> None:
        """Everything in this value is secret."""
        for _, scalar in scalars(value):
            if scalar.value is not None and not isinstance(scalar.value, bool):
                self._values.add(str(scalar.value))
            if scalar.mark is not None:
                self.lines.update(range(scalar.mark.line, scalar.mark.end_line + 1))

    def note_tree(self, value: Value) -> None:
        """Note what looks like a secret: by its key, by a password inside an address, by where it came from."""
        if isinstance(value, Scalar):
            if value.expanded or (isinstance(value.value, str) and password_in(value.value)):
                self.note(value)
        elif isinstance(value, Items):
            for item in value.items:
                self.note_tree(item)
        else:
            for key, entry in value.entries.items():
                if looks_secret(key):
                    self.note(entry.value)
                else:
                    self.note_tree(entry.value)

    def note_fields(self, value: Value, model: type[BaseModel]) -> None:
        """Note the values of fields that the model itself calls secret."""
        if not isinstance(value, Table):
            return
        for name, field in model.model_fields.items():
            for key in filter(None, (name, field.alias)):
                if (found := value.get(key)) is None:
                    continue
                for kind in kinds_in(field.annotation):
                    if issubclass(kind, SecretStr | SecretBytes):
                        self.note(found)
                    elif issubclass(kind, BaseModel):
                        self.note_fields(found, kind)

    def blot(self, text: str) -> str:
        """The text without the secrets that it quotes."""
        for secret in sorted(self._values, key=len, reverse=True):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, "***")
        return text


def suspicious(text: str) -> bool:
    """Whether a line of the file may hold a secret, comments included."""
    return looks_secret(text) or "${" in text or password_in(text)


def kinds_in(annotation: Any) -> Iterator[type[Any]]:
    """Every class that an annotation mentions, however deep in unions and containers."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from kinds_in(inner)


def guarded_line(lines: list[str], number: int) -> bool:
    """Whether line ``number`` (from 1) of a broken file may hold a secret, by its text and what it is under."""
    indent: float = float("inf")
    for text in reversed(lines[:number]):
        depth = len(text) - len(text.lstrip())
        if text.strip() and depth < indent:
            if suspicious(text):
                return True
            indent = depth
    return False
