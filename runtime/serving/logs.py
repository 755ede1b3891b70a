"""The log of a service: a line of JSON for each event, on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
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


def begin() -> None:
    """Send what is logged to stderr, as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in (LOG.name, *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == LOG.name else logging.WARNING)
