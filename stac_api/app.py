"""The STAC API: an app factory over pgstac.

The cloud's entry point, the local server and the tests call the same :func:`create_app`.

What is asked for most is answered by functions that a table finds (:mod:`stac_api.dispatch`). What
describes the API and its contents is answered by stac-fastapi's application
(:mod:`stac_api.record_api`), inside of the same middlewares; it is imported when it is needed.
"""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mlops.storage import open_store
from stac_api import (
    assets,
    browsing,
    catalogue,
    collection_routes,
    collection_search,
    conformance,
    descriptions,
    health,
    item_routes,
    landing,
    queryables,
    tracking,
    workspaces,
)
from stac_api.access import token_keys
from stac_api.compression import Compression
from stac_api.cross_origin import CrossOrigin
from stac_api.dispatch import Dispatch
from stac_api.extension_schemas import load_schemas
from stac_api.forwarded import Forwarded
from stac_api.frame import Frame
from stac_api.gateway import Gateway
from stac_api.heads import Heads
from stac_api.observing import RequestIds
from stac_api.pool import create_pool
from stac_api.problems import Failures, add_problem_handlers
from stac_api.search import routes as search_routes
from stac_api.settings import Settings
from stac_api.tables import Tables
from stac_api.unavailable import add_unavailable_handlers

logger = logging.getLogger(__name__)


# In the order of the description.
_SERVED = (
    item_routes,
    search_routes,
    tracking,
    collection_routes,
    collection_search,
    workspaces,
    assets,
    landing,
    health,
)
_PASSED_ON = (browsing, queryables, catalogue, conformance, descriptions)


def create_app(settings: Settings, *, frame_at_start: bool = True) -> Starlette:
    """The application; its database pool lives as long as its lifespan.

    stac-fastapi's part of it is made when the lifespan begins, so that nobody waits for it later;
    without ``frame_at_start`` not before something is asked of it.
    """
    dispatch = Dispatch()
    app = Starlette(
        routes=[dispatch],
        middleware=_middlewares(settings, dispatch),
        lifespan=_lifespan(settings, frame_at_start=frame_at_start),
    )
    served = [route for module in _SERVED for route in module.router]
    passed_on = [route for module in _PASSED_ON for route in module.router]
    frame = Frame(settings, app.state, [*served, *passed_on])
    dispatch.serve(served)
    dispatch.pass_on(passed_on, frame)
    app.state.frame = frame
    app.state.settings_mlops = settings
    app.state.token_keys = token_keys(settings)
    if settings.extension_schemas is not None:
        load_schemas(settings.extension_schemas)
    add_problem_handlers(app)
    add_unavailable_handlers(app)
    return app


def _middlewares(settings: Settings, dispatch: Dispatch) -> list[Middleware]:
    # The first stands outermost: what a proxy says decides which host is meant.
    return [
        Middleware(RequestIds),
        *([Middleware(Gateway, settings.system_path)] if settings.system_path else []),
        Middleware(Forwarded, trusted=settings.trusted_proxies, prefix=settings.root_path),
        *(
            []
            if "*" in settings.trusted_hosts
            else [Middleware(TrustedHostMiddleware, allowed_hosts=settings.trusted_hosts)]
        ),
        Middleware(CrossOrigin, origins=settings.cors_origins),
        Middleware(Heads, dispatch),
        Middleware(Compression),
        Middleware(Failures),
    ]


def _lifespan(settings: Settings, *, frame_at_start: bool) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # Documents are trees of many small objects and never cycles: looking for garbage among
        # them at Python's default pace took a fifth of the time of a write.
        gc.set_threshold(20_000, 20, 100)
        app.state.store = open_store(settings.storage)
        app.state.pool = await create_pool(settings)
        app.state.tables = Tables(app.state.pool)
        if frame_at_start:
            app.state.frame.describe()
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
