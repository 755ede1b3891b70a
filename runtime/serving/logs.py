"""The log of a service: a line of JSON for each event, on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
import warnings
from typing import Any

LOG = logging.getLogger("backlit.serving")
"""Events of the service. ``extra={"fields": {...}}`` are values of the line."""

_OTHERS = ("uvicorn.error", "asyncio")
"""Loggers whose warnings become lines, too; what they say below is of no request."""


class JsonLines(logging.Formatter):
    """A record as one object: ``time``, ``level``, ``event``, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)


class _Stderr(logging.Handler):
    """Whatever stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


def begin() -> None:
    """Send what is logged to stderr, as lines of JSON, and Python's warnings with it."""
    # What they think of a stranger's bytes is no news: they read them or they do not.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.showwarning = _warn
    handler = _Stderr()
    handler.setFormatter(JsonLines())
    logging.lastResort = handler  # of loggers that nobody has thought of
    for name in (LOG.name, *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == LOG.name else logging.WARNING)


def _warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    LOG.warning("%s", message, extra={"fields": {"category": category.__name__}})
