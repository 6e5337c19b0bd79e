"""AWS Lambda's entry point of the API: API Gateway events to the very same application.

Modules are imported while the function starts, where Lambda gives a whole core; settings are read
and the application is made at the first call, or before the snapshot that SnapStart takes. Its
event loop and its pool then live as long as the execution environment: opening them for every call
would cost more than most answers.
"""

import asyncio
import random
import time
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mangum import Mangum
from starlette.applications import Starlette

from stac_api.app import create_app
from stac_api.logs import log_json
from stac_api.nudge import Nudge
from stac_api.settings import Settings

# Bodies that API Gateway may pass on as they are; others travel as base64, a third larger.
_TEXT = [
    "text/",
    "application/json",
    "application/geo+json",
    "application/problem+json",
    "application/schema+json",
    "application/vnd.oai.openapi",
]
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# An environment that slept longer than this may hold connections that the network has forgotten.
_STALE_SECONDS = 60.0


class LambdaApi:
    """The application in one execution environment, which serves one event at a time."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        # Where Mangum looks for the loop to run in.
        asyncio.set_event_loop(self._loop)
        self._app: Starlette = create_app(settings, frame_at_start=False)
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        self._mangum = Mangum(self._app, lifespan="off", text_mime_types=_TEXT)
        url = settings.relay_queue_url
        self._nudge = None if url is None else Nudge(url)
        self._last = time.time()

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an event."""
        # The clock of the wall: others stand still while the environment sleeps.
        if time.time() - self._last > _STALE_SECONDS:
            self.distrust_connections()
        try:
            answer: dict[str, Any] = self._mangum(event, context)
            if self._nudge is not None and _has_written(event, answer):
                self._loop.run_until_complete(self._nudge.after_write(self._app.state.pool))
            return answer
        finally:
            self._last = time.time()

    def warm_up(self) -> None:
        """Answer a request that needs nothing from outside, so that what is made once is made."""
        self._app.state.frame.describe()
        self._mangum(_warming_event(), None)

    def distrust_connections(self) -> None:
        """Open connections anew: those of before may be forgotten at the other end."""
        self._loop.run_until_complete(self._app.state.pool.expire_connections())

    def close(self) -> None:
        """End the application; for tests, Lambda only ever ends the process."""
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


def _has_written(event: dict[str, Any], answer: dict[str, Any]) -> bool:
    context = event.get("requestContext") or {}
    method = (context.get("http") or {}).get("method") or event.get("httpMethod")
    return method not in _READS and answer["statusCode"] < 400


def _warming_event() -> dict[str, Any]:
    path = "/healthz/live"
    http = {"method": "GET", "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "localhost"},
        "requestContext": {"http": http, "stage": "$default"},
        "isBase64Encoded": False,
    }


@cache
def _from_environment() -> LambdaApi:
    # The environment gives what the signature demands.
    settings = Settings()  # type: ignore[call-arg]
    log_json(settings.log_level)
    return LambdaApi(settings)


def before_snapshot() -> None:
    """SnapStart's hook: make the application, so that it is part of the snapshot.

    It opens no connection and asks for no secret: neither may be shared by what is restored.
    """
    _from_environment().warm_up()


def after_restore() -> None:
    """SnapStart's hook: an execution environment goes on from the snapshot, perhaps days later."""
    # What jitter is drawn from must differ between environments that began as one.
    random.seed()
    _from_environment().distrust_connections()


def _register_hooks() -> None:
    # Lambda's runtimes that have SnapStart bring the package; elsewhere nobody would call hooks.
    if find_spec("snapshot_restore_py") is not None:
        hooks = import_module("snapshot_restore_py")
        hooks.register_before_snapshot(before_snapshot)
        hooks.register_after_restore(after_restore)


_register_hooks()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
