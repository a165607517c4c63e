"""What a LiveKit token says, read without its key: the server alone can say whether it holds."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from dataclasses import dataclass, field
from typing import Any, Final

_TOKEN: Final = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?")
_PARAMETER: Final = re.compile(r"(access_token=)[^&\s\"']+")


@dataclass(frozen=True, slots=True)
class Claims:
    """The parts of a token that are of use before and after joining."""

    identity: str = ""
    room: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


def read(token: str) -> Claims | None:
    """The claims of a token; None if it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        body: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    if not isinstance(body, dict):
        return None
    video, attributes = body.get("video"), body.get("attributes")
    room = video.get("room", "") if isinstance(video, dict) else ""
    facts = {str(k): str(v) for k, v in attributes.items()} if isinstance(attributes, dict) else {}
    return Claims(str(body.get("sub", "")), str(room), facts)


def redacted(text: str) -> str:
    """The same text without tokens. The SDK's errors and log lines hold the token that was refused."""
    return _PARAMETER.sub(r"\1...", _TOKEN.sub("<token>", text))


class _Redaction(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        clean = redacted(said)
        if clean != said:
            record.msg, record.args = clean, ()
        return True


_REDACTION: Final = _Redaction()


def keep_out_of_logs() -> None:
    """Take tokens out of what the SDK logs. May be called more than once."""
    logging.getLogger("livekit").addFilter(_REDACTION)
