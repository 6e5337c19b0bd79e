"""What the system says of itself: recipes, the schema of our extension, and its health."""

import asyncio
from functools import cache
from pathlib import Path

import asyncpg
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from mlops.items.extension import MLOPS_SCHEMA_PATH
from mlops.recipes import RECIPES

router = APIRouter(tags=["Catalogue"])

_SCHEMA = Path(__file__).parent / "schemas" / "mlops-v1.0.0.json"


@router.get("/recipes", summary="List the built-in recipes")
async def list_recipes() -> Response:
    """The recipes, each with the JSON Schema of its hyperparameters."""
    body = orjson.dumps({"recipes": [recipe.describe() for recipe in RECIPES.values()]})
    return Response(body, media_type="application/json")


@router.get(MLOPS_SCHEMA_PATH, summary="Read the schema of the mlops extension")
async def read_schema() -> Response:
    """The JSON Schema of the ``mlops:`` fields."""
    return Response(_schema(), media_type="application/schema+json")


@router.get("/healthz", summary="Health")
async def health(request: Request) -> Response:
    """200 when the database answers, else 503: live either way."""
    try:
        async with asyncio.timeout(2):
            await request.app.state.pool.fetchval("SELECT pgstac.get_version()")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        detail = {"status": "unavailable", "database": type(error).__name__}
        return Response(orjson.dumps(detail), 503, media_type="application/json")
    return Response(b'{"status":"ok","database":"ok"}', media_type="application/json")


@cache
def _schema() -> bytes:
    return _SCHEMA.read_bytes()
