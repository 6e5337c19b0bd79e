"""What the system says of itself: recipes, and the schema of our extension."""

from functools import cache
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.items.extension import MLOPS_SCHEMA_PATH
from mlops.recipes import RECIPES
from stac_api.routes import Routes

router = Routes("Catalogue")

_SCHEMA = Path(__file__).parent / "schemas" / "mlops-v1.0.0.json"


@router.get("/recipes", summary="List the built-in recipes")
async def list_recipes(_: Request) -> Response:
    """The recipes, each with the JSON Schema of its hyperparameters."""
    body = orjson.dumps({"recipes": [recipe.describe() for recipe in RECIPES.values()]})
    return Response(body, media_type="application/json")


@router.get(MLOPS_SCHEMA_PATH, summary="Read the schema of the mlops extension")
async def read_schema(_: Request) -> Response:
    """The JSON Schema of the ``mlops:`` fields."""
    return Response(_schema(), media_type="application/schema+json")


@cache
def _schema() -> bytes:
    return _SCHEMA.read_bytes()
