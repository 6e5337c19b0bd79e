"""stac-fastapi's application, which describes the API: made when it is first needed.

Importing stac-fastapi and FastAPI takes as long as everything else together, and most processes
that Lambda starts are never asked for what they give.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from stac_api.routes import Route
from stac_api.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

# What Starlette's router and ours leave in a scope; FastAPI's finds the way by itself.
_OURS = frozenset({"router", "route"})


class Frame:
    """The stac-fastapi application of the record, with all of its ``routes``.

    It shares the ``state`` of the application that passes requests on to it.
    """

    def __init__(self, settings: Settings, state: State, routes: Sequence[Route]) -> None:
        self._settings = settings
        self._state = state
        self._routes = routes

    @cached_property
    def application(self) -> "FastAPI":
        """The application; imported and made by whoever needs it first."""
        from stac_api.record_api import make_record_api

        return make_record_api(self._settings, self._state, self._routes)

    def describe(self) -> dict[str, Any]:
        """The OpenAPI document of all routes."""
        return self.application.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        passed_on = {name: value for name, value in scope.items() if name not in _OURS}
        await self.application(passed_on, receive, send)
