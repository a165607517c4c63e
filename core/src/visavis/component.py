"""What every plugin's options derive from, and which of them are secrets that must not be shown."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

_KEY: Final = re.compile(
    r"(api|access|private|signing|encryption)[-_]?key|secret|token|passw(or)?d|passphrase|credential|\bauth|bearer",
    re.IGNORECASE,
)
_IN_URL: Final = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
HIDDEN: Final = "***"


class ComponentConfig(BaseModel):
    """Options of a component: unknown names are refused, values do not change once read.

    What was refused is not quoted in the error, for it may be a secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class NoOptions(ComponentConfig):
    """For a component that takes no options."""


def looks_secret(key: str) -> bool:
    """Whether an option's name says that its value is a secret."""
    return _KEY.search(key) is not None


def password_in(text: str) -> bool:
    """Whether a text holds an address with a password in it."""
    return _IN_URL.search(text) is not None


def discreet(value: Any) -> Any:
    """A copy of plain data (dictionaries, lists, text, numbers) for people to see, without its secrets."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if looks_secret(str(key)) and inner is not None else discreet(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [discreet(item) for item in value]
    if isinstance(value, str):
        return _IN_URL.sub(rf"\1{HIDDEN}@", value)
    return value
