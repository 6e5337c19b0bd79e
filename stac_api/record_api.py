"""The record as a stac-fastapi application.

stac-fastapi gives the application its frame: the registry of extensions, the conformance classes
and the settings that its extensions look for. The routes that it would register are the record's
own, which read items as text and write them in one transaction.
"""

from types import ModuleType
from typing import Any

import attr
from fastapi import FastAPI
from stac_fastapi.api.app import StacApi
from stac_fastapi.pgstac.config import Settings as PgstacSettings
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.types.extension import ApiExtension

from mlops import __version__
from stac_api.conformance import CONFORMANCE_CLASSES
from stac_api.settings import Settings


@attr.s
class RecordExtension(ApiExtension):  # type: ignore[misc]  # the library has no types
    """What the record does beyond the core, as stac-fastapi's registry wants it said."""

    conformance_classes: list[str] = attr.ib(factory=lambda: list(CONFORMANCE_CLASSES))

    def register(self, app: FastAPI) -> None:
        """Nothing: its routes are registered with the core's."""


@attr.s
class RecordApi(StacApi):  # type: ignore[misc]  # the library has no types
    """stac-fastapi's application with the routers of ``modules``, tried in their order."""

    # Without stac-fastapi's patch of the OpenAPI route: ours says its own media type.
    app: FastAPI = attr.ib(kw_only=True)
    modules: tuple[ModuleType, ...] = attr.ib(kw_only=True)

    def register_core(self) -> None:
        """Register the record's routes in place of stac-fastapi's."""
        for module in self.modules:
            self.app.include_router(module.router)

    def add_health_check(self) -> None:
        """Nothing: health is one of the modules."""


def register(app: FastAPI, settings: Settings, modules: tuple[ModuleType, ...]) -> None:
    """Make ``app`` a stac-fastapi application of the record; its conformance classes are kept in
    ``app.state.conformance``."""
    parts: dict[str, Any] = {
        "app": app,
        "modules": modules,
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
    app.state.conformance = list(dict.fromkeys(map(str, api.client.conformance_classes())))
