"""503 with Retry-After: what may pass by itself, and is worth another try."""

import logging

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from mlops.aws_secrets import SecretError
from stac_api.problems import answer

logger = logging.getLogger(__name__)

_AWAY: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    # Starts, stops, or had a process killed.
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # A replica that was asked before it took over.
    asyncpg.ReadOnlySQLTransactionError,
    # Nobody gets in: while its password is changed, or kept where it cannot be read or is missing.
    asyncpg.InvalidAuthorizationSpecificationError,
    SecretError,
    # It is being made or restored.
    asyncpg.InvalidCatalogNameError,
)
_BUSY: tuple[type[Exception], ...] = (
    TimeoutError,
    # No memory, no disk, or no connection left.
    asyncpg.InsufficientResourcesError,
    # Lost against another transaction.
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
)


def add_unavailable_handlers(app: Starlette) -> None:
    """Answer 503 and when to come again, where the database is away, busy or too slow."""
    for kind in _AWAY:
        app.add_exception_handler(kind, _on_away)
    for kind in _BUSY:
        app.add_exception_handler(kind, _on_busy)
    app.add_exception_handler(asyncpg.QueryCanceledError, _on_canceled)


async def _on_away(request: Request, error: Exception) -> Response:
    logger.error("the database cannot be reached: %s: %s", type(error).__name__, error)
    return answer(
        request, 503, "The database cannot be reached now; try again.", headers={"Retry-After": "1"}
    )


async def _on_busy(request: Request, error: Exception) -> Response:
    logger.warning("the database is too busy: %s: %s", type(error).__name__, error)
    return answer(
        request, 503, "Too much is going on now; try again.", headers={"Retry-After": "2"}
    )


async def _on_canceled(request: Request, error: Exception) -> Response:
    logger.warning("a statement was cancelled: %s", error)
    return answer(
        request, 503, "The query took too long; ask for less.", headers={"Retry-After": "5"}
    )
