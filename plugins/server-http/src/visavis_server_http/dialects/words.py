"""How dialects read: tolerantly, as the servers do whose clients they serve.

Fields that we do not know are passed over (clients grow), a number may stand for a string, and an empty string or null
for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr

from visavis_server_http.errors import missing


def nothing(value: Any) -> Any:
    """None for a text without a letter; anything else as it is."""
    return None if isinstance(value, str) and not value.strip() else value


Said = Annotated[str | None, BeforeValidator(nothing)]
"""A text, or None where nothing was said."""
Secret = Annotated[SecretStr | None, BeforeValidator(nothing)]
"""A token or a key, or None."""


class Words(BaseModel):
    """A request's body in a dialect."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        coerce_numbers_to_str=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,
    )


class Given(BaseModel):
    """A reply's body in a dialect."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def needed(name: str, *given: str | SecretStr | None) -> str:
    """The first of the spellings that says something. Raises ApiError 400 MISSING_PARAMETER naming ``name``."""
    for said in given:
        if said is not None:
            return said.get_secret_value() if isinstance(said, SecretStr) else said
    raise missing(name)
