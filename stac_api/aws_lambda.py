"""AWS Lambda's entry point of the API: API Gateway events to the very same application.

Modules are imported while the function starts, where Lambda gives a whole core; settings are read
and the application is made at the first call. Its event loop and its pool then live as long as the
execution environment: opening them for every call would cost more than most answers.
"""

import asyncio
import time
from functools import cache
from typing import Any

from fastapi import FastAPI
from mangum import Mangum

from stac_api.app import create_app
from stac_api.observing import log_json
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
# An environment that slept longer than this may hold connections that the network has forgotten.
_STALE_SECONDS = 60.0


class LambdaApi:
    """The application in one execution environment, which serves one event at a time."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        # Where Mangum looks for the loop to run in.
        asyncio.set_event_loop(self._loop)
        self._app: FastAPI = create_app(settings)
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        self._mangum = Mangum(self._app, lifespan="off", text_mime_types=_TEXT)
        self._last = time.time()

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an event."""
        # The clock of the wall: others stand still while the environment sleeps.
        if time.time() - self._last > _STALE_SECONDS:
            self._loop.run_until_complete(self._app.state.pool.expire_connections())
        try:
            answer: dict[str, Any] = self._mangum(event, context)
            return answer
        finally:
            self._last = time.time()

    def close(self) -> None:
        """End the application; for tests, Lambda only ever ends the process."""
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.close()


@cache
def _from_environment() -> LambdaApi:
    # The environment gives what the signature demands.
    settings = Settings()  # type: ignore[call-arg]
    log_json(settings.log_level)
    return LambdaApi(settings)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
