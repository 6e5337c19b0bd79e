"""What the API tells of its work: a request id in every answer, and logs as JSON lines."""

import json
import logging
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops import request_ids

_access = logging.getLogger("stac_api.access")
_HEADER = request_ids.HEADER.lower().encode()
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request_id"}


class RequestIds:
    """Middleware, outermost: gives every request its id, and logs how it was answered.

    The id is the caller's ``X-Request-Id`` where that is sane. Writes are logged at INFO, failures
    at WARNING; reads at DEBUG only, where they do not bury the rest.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_ids.accepted(_given(scope))
        # Also where the handler of unexpected errors finds it, which stands outside of this.
        scope.setdefault("state", {})["request_id"] = request_id
        header = (_HEADER, request_id.encode())
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                if not any(name.lower() == _HEADER for name, _ in headers):
                    headers.append(header)
            await send(message)

        begin = time.perf_counter()
        with request_ids.bound(request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log_access(scope, status, time.perf_counter() - begin)


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


def request_id_of(scope: MutableMapping[str, Any]) -> str | None:
    """The id of a request, also where its context is left already."""
    found = scope.get("state", {}).get("request_id")
    return None if found is None else str(found)


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            return str(value, "latin-1")
    return None


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    if status >= 500:
        level = logging.WARNING
    else:
        level = logging.DEBUG if scope["method"] in _READS else logging.INFO
    if _access.isEnabledFor(level):
        facts = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
        }
        caller = scope.get("state", {}).get("caller")
        if caller is not None:
            facts["caller"] = caller
        _access.log(level, "%s %s: %d", scope["method"], scope["path"], status, extra=facts)
