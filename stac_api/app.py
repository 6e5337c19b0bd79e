"""The STAC API: an app factory over stac-fastapi and pgstac.

The cloud's entry point, the local server and the tests call the same :func:`create_app`.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import attr
from fastapi import APIRouter, FastAPI, Request
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    EmptyRequest,
    ItemCollectionUri,
    JSONResponse,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions.transaction import TransactionConformanceClasses
from stac_fastapi.pgstac.config import Settings as PgstacSettings
from stac_fastapi.pgstac.db import translate_pgstac_errors
from stac_fastapi.pgstac.models.extensions import Extensions
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.types.extension import ApiExtension
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
    health,
    item_routes,
    landing,
    queryables,
    tracking,
    workspaces,
)
from stac_api.cross_origin import CrossOrigin
from stac_api.forwarded import Forwarded
from stac_api.methods import Methods
from stac_api.observing import RequestIds
from stac_api.pool import create_pool
from stac_api.problems import add_problem_handlers
from stac_api.reading import ReadClient
from stac_api.settings import Settings
from stac_api.unavailable import add_unavailable_handlers

logger = logging.getLogger(__name__)


@attr.s
class Transactions(ApiExtension):  # type: ignore[misc]  # the library has no types
    """The transaction extension, by our own routes."""

    conformance_classes: list[str] = attr.ib(
        factory=lambda: [
            TransactionConformanceClasses.ITEMS.value,
            TransactionConformanceClasses.COLLECTIONS.value,
        ]
    )

    def register(self, app: FastAPI) -> None:
        """Nothing: the routes are there before stac-fastapi's own."""


def create_app(settings: Settings) -> FastAPI:
    """The application; its database pool lives as long as its lifespan."""
    app = FastAPI(
        title=settings.title,
        description=settings.description,
        version=__version__,
        openapi_url="/api",
        docs_url="/api.html",
        redoc_url=None,
        lifespan=_lifespan(settings),
    )
    app.state.settings_mlops = settings
    # First come, first served: ours stand before those of stac-fastapi at the same paths.
    for module in (
        workspaces,
        tracking,
        assets,
        browsing,
        catalogue,
        health,
        landing,
        queryables,
        item_routes,
        collection_routes,
    ):
        app.include_router(module.router)
    _add_stac_api(app, settings)
    add_problem_handlers(app)
    add_unavailable_handlers(app)
    # Added last, so that it stands outside of every other.
    app.add_middleware(RequestIds)
    return app


def _add_stac_api(app: FastAPI, settings: Settings) -> None:
    pgstac_settings = PgstacSettings(
        stac_fastapi_title=settings.title,
        stac_fastapi_description=settings.description,
        stac_fastapi_landing_id="stac-mlops",
        stac_fastapi_version=__version__,
        openapi_url="/api",
        docs_url="/api.html",
        enable_direct_response=True,
        enabled_extensions=None,
    )
    extensions = Extensions(settings=pgstac_settings)
    post_search = create_post_request_model(extensions.search, base_model=PgstacSearch)
    collection_search = extensions.collection_search
    StacApi(
        app=app,
        router=APIRouter(),
        settings=pgstac_settings,
        extensions=[
            *extensions.search,
            *extensions.item_collection,
            *([collection_search] if collection_search else []),
            Transactions(),
        ],
        client=ReadClient(pgstac_search_model=post_search),
        response_class=JSONResponse,
        search_post_request_model=post_search,
        search_get_request_model=create_get_request_model(extensions.search),
        items_get_request_model=create_request_model(
            model_name="ItemCollectionUri",
            base_model=ItemCollectionUri,
            extensions=extensions.item_collection,
            request_type="GET",
        ),
        collections_get_request_model=collection_search.GET if collection_search else EmptyRequest,
        middlewares=_middlewares(settings),
    )


def _middlewares(settings: Settings) -> list[Middleware]:
    # The last stands outermost: what a proxy says decides which host is meant.
    return [
        Middleware(GZipMiddleware, minimum_size=1400, compresslevel=1),
        Middleware(Methods),
        Middleware(CrossOrigin, origins=settings.cors_origins),
        Middleware(TrustedHostMiddleware, allowed_hosts=settings.trusted_hosts),
        Middleware(Forwarded, trusted=settings.trusted_proxies, prefix=settings.root_path),
    ]


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.store = open_store(settings.storage)
        app.state.pool = await create_pool(settings)
        # Where stac-fastapi-pgstac looks for its connections.
        app.state.get_connection = _connection_of
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


def _connection_of(
    request: Request,
    readwrite: str = "r",  # noqa: ARG001 - the library's signature
) -> AbstractAsyncContextManager[asyncpg.Connection]:
    @asynccontextmanager
    async def connection() -> AsyncIterator[asyncpg.Connection]:
        with translate_pgstac_errors():
            async with request.app.state.pool.acquire() as acquired:
                yield acquired

    return connection()
