"""The STAC API: an app factory over stac-fastapi and pgstac.

The cloud's entry point, the local server and the tests call the same :func:`create_app`.
"""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mlops import __version__
from mlops.storage import open_store
from stac_api import (
    assets,
    browsing,
    catalogue,
    collection_routes,
    collection_search,
    descriptions,
    health,
    item_routes,
    landing,
    queryables,
    tracking,
    workspaces,
)
from stac_api.access import token_keys
from stac_api.cross_origin import CrossOrigin
from stac_api.extension_schemas import load_schemas
from stac_api.forwarded import Forwarded
from stac_api.gateway import Gateway
from stac_api.methods import Methods
from stac_api.observing import RequestIds
from stac_api.openapi import describe
from stac_api.pool import create_pool
from stac_api.problems import add_problem_handlers
from stac_api.record_api import register
from stac_api.search import routes as search_routes
from stac_api.settings import Settings
from stac_api.unavailable import add_unavailable_handlers

logger = logging.getLogger(__name__)


# They are tried in this order: what is asked for most comes first.
_MODULES = (
    item_routes,
    search_routes,
    tracking,
    collection_routes,
    collection_search,
    workspaces,
    assets,
    landing,
    health,
    browsing,
    queryables,
    catalogue,
    descriptions,
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its database pool lives as long as its lifespan."""
    app = FastAPI(
        title=settings.title,
        description=settings.description,
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        middleware=_middlewares(settings),
        lifespan=_lifespan(settings),
    )
    app.state.settings_mlops = settings
    app.state.token_keys = token_keys(settings)
    if settings.extension_schemas is not None:
        load_schemas(settings.extension_schemas)
    register(app, settings, _MODULES)
    describe(app)
    add_problem_handlers(app)
    add_unavailable_handlers(app)
    return app


def _middlewares(settings: Settings) -> list[Middleware]:
    # The first stands outermost: what a proxy says decides which host is meant.
    return [
        Middleware(RequestIds),
        *([Middleware(Gateway, settings.system_path)] if settings.system_path else []),
        Middleware(Forwarded, trusted=settings.trusted_proxies, prefix=settings.root_path),
        Middleware(TrustedHostMiddleware, allowed_hosts=settings.trusted_hosts),
        Middleware(CrossOrigin, origins=settings.cors_origins),
        Middleware(Methods),
        Middleware(GZipMiddleware, minimum_size=1400, compresslevel=1),
    ]


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Documents are trees of many small objects and never cycles: looking for garbage among
        # them at Python's default pace took a fifth of the time of a write.
        gc.set_threshold(20_000, 20, 100)
        app.state.store = open_store(settings.storage)
        app.state.pool = await create_pool(settings)
        logger.info(
            "API is up: engines %s, object store %s",
            ", ".join(settings.engines),
            app.state.store.url,
        )
        try:
            yield
        finally:
            await app.state.pool.close()

    return lifespan
