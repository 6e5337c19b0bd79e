"""Logs as JSON lines, each with the id of the request that it belongs to."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from mlops import request_ids

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request_id"}


class JsonLines(logging.Formatter):
    """Log records as JSON, one a line, with the id of the request that they belong to."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", None) or request_ids.current()
        if request_id:
            line["request_id"] = request_id
        line.update({k: v for k, v in record.__dict__.items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class AddRequestId(logging.Filter):
    """Gives log records the id of their request, for formatters that print what a record has."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        request_id = request_ids.current()
        if request_id is not None and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True


def log_json(level: str) -> None:
    """Write the process's logs to standard error as JSON lines; for entry points."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
