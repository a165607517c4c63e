"""Blotting out what must not be told: room tokens, keys, passwords in addresses."""

from __future__ import annotations

import re
from typing import Final

_SECRET: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?"  # a JWT
    r"|\bvv_[A-Za-z0-9_-]{16,}"  # a key of ours
    r"|(?<=access_token=)[^\s&\"']+"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
    r"|(?i:(?<=bearer )[^\s\"']+)"
)


def redacted(text: str) -> str:
    """The text with *** in place of each secret that it holds."""
    return _SECRET.sub("***", text)
