"""Log records on stderr: a line of text or of JSON each, with what they are about, and never a secret."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, Final, Literal, TextIO

from visavis.redaction import redacted

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRET_FIELDS: Final = frozenset({"token", "livekit_token", "api_key", "secret", "authorization", "key"})


class Lines(logging.Formatter):
    """One line a record: time, level, logger, message, and then its fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows on lines of its own."""
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        text = f"{_time(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return redacted(text)


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and its fields beside them."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return redacted(json.dumps(said, default=str))


def _time(record: logging.LogRecord) -> str:
    """ISO 8601 in UTC, with milliseconds and a Z."""
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What ``extra`` brought, but for secrets."""
    fields = {name: value for name, value in vars(record).items() if name not in _OWN and not name.startswith("_")}
    return {name: "***" if name in _SECRET_FIELDS else value for name, value in fields.items()}


def _plain(value: Any) -> str:
    text = str(value)
    fine = text and all(c.isprintable() and c not in ' "=' for c in text)
    return text if fine else json.dumps(text)


def to_stderr(form: Literal["text", "json"], level: str, stream: TextIO | None = None) -> None:
    """Let all records of this process go there: ours from ``level`` on, others' from warnings on."""
    lines = logging.StreamHandler(stream or sys.stderr)
    lines.setFormatter(JsonLines() if form == "json" else Lines())
    root, ours = logging.getLogger(), logging.getLogger("visavis")
    for logger in (root, ours):
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
    root.addHandler(lines)
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    ours.propagate = True
    # What goes wrong there is told by our own records; the SDK tells each attempt of its own.
    # So does the listener with whatever is no HTTP; such clients must not fill the log.
    for other in ("livekit", "uvicorn"):
        logging.getLogger(other).setLevel(logging.WARNING if level == "debug" else logging.ERROR)
