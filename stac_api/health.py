"""Health: whether the process lives, and whether it can do its work."""

import asyncio

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.aws_secrets import SecretError
from stac_api.routes import Routes

router = Routes("Health")

_JSON = "application/json"
_PATIENCE = 2.0


@router.get("/healthz/live", summary="Live")
async def live(_: Request) -> Response:
    """200 while the process answers at all; restarting it mends nothing that 503 says."""
    return Response(b'{"status":"ok"}', media_type=_JSON)


@router.get("/healthz/ready", summary="Ready")
@router.get("/healthz", summary="Health: the same as ready")
async def ready(request: Request) -> Response:
    """200 when the database answers, else 503."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await request.app.state.pool.fetchval("SELECT pgstac.get_version()")
    except (OSError, SecretError, asyncpg.PostgresError, *_CLIENT_ERRORS) as error:
        detail = {"status": "unavailable", "database": type(error).__name__}
        headers = {"Retry-After": "1"}
        return Response(orjson.dumps(detail), 503, headers=headers, media_type=_JSON)
    return Response(b'{"status":"ok","database":"ok"}', media_type=_JSON)


_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
