"""The log: a line of JSON for each record, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

LOGGER = "e2vpt.serving"


class JsonLines(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr() -> None:
    """Lines of JSON on stderr: from this package's server, uvicorn, and whatever warns."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    # Of a malformed form the client is told; python-multipart would warn for each.
    levels = {LOGGER: logging.INFO, "python_multipart": logging.ERROR}
    logging.captureWarnings(True)
    for name in (LOGGER, "uvicorn", "python_multipart", "py.warnings"):
        logger, level = logging.getLogger(name), levels.get(name, logging.WARNING)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
