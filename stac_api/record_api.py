"""The record as a stac-fastapi application.

stac-fastapi gives the registry of extensions and conformance classes, and FastAPI the description
of every route. The routes are the record's own, which read items as text and write them in one
transaction; the few that describe the API are answered here, the others before a request gets here.
"""

from collections.abc import Sequence
from typing import Any

import attr
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from stac_fastapi.api.app import StacApi
from stac_fastapi.pgstac.config import Settings as PgstacSettings
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.types.extension import ApiExtension
from starlette.datastructures import State
from starlette.types import ASGIApp

from mlops import __version__
from stac_api.conformance import CONFORMANCE_CLASSES
from stac_api.openapi import describe
from stac_api.routes import Route
from stac_api.settings import Settings


class _InnerApp(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        """What FastAPI's router needs, and no more: the application that passes requests on has
        the middlewares, and answers what is raised."""
        return AsyncExitStackMiddleware(self.router)


@attr.s
class RecordExtension(ApiExtension):  # type: ignore[misc]  # the library has no types
    """What the record does beyond the core, as stac-fastapi's registry wants it said."""

    conformance_classes: list[str] = attr.ib(factory=lambda: CONFORMANCE_CLASSES.copy())

    def register(self, app: FastAPI) -> None:
        """Nothing: its routes are registered with the core's."""


@attr.s
class RecordApi(StacApi):  # type: ignore[misc]  # the library has no types
    """stac-fastapi's application with ``routes`` of the record's."""

    # Without stac-fastapi's patch of the OpenAPI route: ours says its own media type.
    app: FastAPI = attr.ib(kw_only=True)
    routes: Sequence[Route] = attr.ib(kw_only=True)

    def register_core(self) -> None:
        """Register the record's routes in place of stac-fastapi's."""
        for route in self.routes:
            self.app.add_api_route(
                route.path,
                route.handler,
                methods=[route.method],
                summary=route.summary or None,
                status_code=route.status_code,
                tags=None if route.tag is None else [route.tag],
                include_in_schema=route.tag is not None,
            )

    def add_health_check(self) -> None:
        """Nothing: health is among the routes."""


def make_record_api(settings: Settings, state: State, routes: Sequence[Route]) -> FastAPI:
    """A stac-fastapi application of the record; its conformance classes are kept in ``state``."""
    app = _InnerApp(
        title=settings.title,
        description=settings.description,
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    parts: dict[str, Any] = {
        "app": app,
        "routes": routes,
        "settings": PgstacSettings(
            stac_fastapi_title=settings.title,
            stac_fastapi_description=settings.description,
            stac_fastapi_landing_id="stac-mlops",
            stac_fastapi_version=__version__,
        ),
        "client": CoreCrudClient(),
        "extensions": [RecordExtension()],
        "exceptions": {},
        "middlewares": [],
    }
    api = RecordApi(**parts)
    state.conformance = sorted(set(map(str, api.client.conformance_classes())))
    app.state = state
    describe(app)
    return app
