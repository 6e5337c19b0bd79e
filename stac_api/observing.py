"""What the API tells of its work: a request id in every answer, and a line of log for it."""

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops import request_ids

_access = logging.getLogger("stac_api.access")
_HEADER = request_ids.HEADER.lower().encode()
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


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
