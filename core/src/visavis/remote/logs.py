"""Log records of a worker on their way to the log of whoever started it, each with the session it is about."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from visavis.session import current

MOST_WAITING: Final = 1_000
"""Records that may wait to be sent; beyond these the oldest are dropped, and their number is told."""
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = (str, int, float, bool, type(None))


class LogsOut(logging.Handler):
    """Collects the records of this process as plain data. Never blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._dropped = 0
        self._lines = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        if len(self._waiting) == MOST_WAITING:
            self._dropped += 1
        fields = {
            name: value if isinstance(value, _PLAIN) else str(value)
            for name, value in vars(record).items()
            if name not in _OWN and not name.startswith("_")
        }
        if (mark := current.get()) is not None:
            fields.setdefault("session", mark.session_id)
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # a record whose arguments do not fit its words
            said = str(record.msg)
        told = {"name": record.name, "level": record.levelno, "said": said, "fields": fields}
        if record.exc_info:
            told["trace"] = self._lines.formatException(record.exc_info)
        self._waiting.append(told)

    def take(self) -> list[dict[str, Any]]:
        """What was logged since the last time."""
        records = list(self._waiting)
        self._waiting.clear()
        if self._dropped:
            said = f"{self._dropped} log records of a worker were dropped"
            records.append({"name": "visavis.worker", "level": logging.WARNING, "said": said, "fields": {}})
            self._dropped = 0
        return records


def collect(levels: dict[str, int]) -> LogsOut:
    """Send all records of this process there and nowhere else, each logger from its level on. ``""`` is the root."""
    out = LogsOut()
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(out)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return out


def levels() -> dict[str, int]:
    """The levels of this process's loggers, for a worker to keep to."""
    known = [name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
    said = {name: logging.getLogger(name).level for name in known}
    return {"": logging.root.level, **{name: level for name, level in said.items() if level}}


def log_again(records: list[dict[str, Any]], **about: Any) -> None:
    """Log a worker's records here, ``about`` among their fields."""
    for told in records:
        logger = logging.getLogger(str(told["name"]))
        if not logger.isEnabledFor(int(told["level"])):
            continue
        said = str(told["said"]) + (f"\n{told['trace']}" if told.get("trace") else "")
        record = logger.makeRecord(logger.name, int(told["level"]), "", 0, said, (), None)
        record.__dict__.update({**about, **{k: v for k, v in told.get("fields", {}).items() if k not in _OWN}})
        logger.handle(record)
