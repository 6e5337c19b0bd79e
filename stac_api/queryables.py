"""Queryables: what a filter or a sort key may name, as JSON Schema (OGC API - Features, part 3).

Made from the models that check what is written, so both say the same. Other properties of items
may be named as well; here stand those that the record knows the type of.
"""

from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from mlops.items.kinds import Kind
from mlops.items.model import ModelVersion
from mlops.items.training_data import DatasetVersion
from mlops.items.training_run import RunRecord, RunRequest
from stac_api.access import base_url_of
from stac_api.hrefs import SCHEMA_JSON, collection_url
from stac_api.records import place_of
from stac_api.routes import Routes

router = Routes("Search")

Schema = dict[str, Any]

_TIME = {"type": "string", "format": "date-time"}
_EVERY_ITEM: dict[str, Schema] = {
    "id": {"type": "string", "title": "Item id"},
    "collection": {"type": "string", "title": "Collection id"},
    "geometry": {"title": "Footprint", "format": "geometry-any"},
    "datetime": {**_TIME, "title": "Time, or the range from start_datetime to end_datetime"},
    "start_datetime": {**_TIME, "title": "Start of the time"},
    "end_datetime": {**_TIME, "title": "End of the time"},
    "created": {**_TIME, "title": "When the item was made"},
    "updated": {**_TIME, "title": "When the item was last changed"},
    "title": {"type": "string", "title": "Title"},
    "description": {"type": "string", "title": "Description"},
}
_METRICS: dict[str, Schema] = {"mlops:metrics": {"additionalProperties": {"type": "number"}}}
_MODELS: dict[Kind, tuple[type[BaseModel], ...]] = {
    Kind.TRAINING_RUN: (RunRequest, RunRecord),
    Kind.TRAINING_DATA: (DatasetVersion,),
    Kind.MODEL: (ModelVersion,),
}
_VERSIONS: dict[str, Schema] = {
    "version": {"type": "string"},
    "mlops:published": {"type": "boolean"},
}
_MORE: dict[Kind, dict[str, Schema]] = {
    Kind.TRAINING_RUN: {},
    Kind.TRAINING_DATA: {
        **_VERSIONS,
        "mlops:size": {"type": "integer", "minimum": 0},
        "mlops:synthetic": {"type": "boolean"},
    },
    Kind.MODEL: {**_VERSIONS, "mlops:run": {"type": "string"}, **_METRICS},
}
_TAGS: Schema = {"type": "array", "items": {"type": "string"}, "title": "mlops:tags"}


@router.get("/queryables", summary="Queryables of every item")
async def read_queryables(request: Request) -> Response:
    """What a search over all collections may name."""
    url = f"{base_url_of(request)}queryables"
    return _answer(url, "Queryables of all collections", tuple(Kind))


@router.get("/collections/{collection_id}/queryables", summary="Queryables of a collection")
async def read_collection_queryables(collection_id: str, request: Request) -> Response:
    """What a search in one collection may name."""
    async with request.app.state.pool.acquire() as connection:
        place = await place_of(connection, collection_id)
    url = f"{collection_url(base_url_of(request), collection_id)}/queryables"
    kinds = (place.kind,) if place.kind else ()
    return _answer(url, f"Queryables of {collection_id}", kinds)


def _answer(url: str, title: str, kinds: tuple[Kind, ...]) -> Response:
    names, patterns = dict(_EVERY_ITEM), {}
    for kind in kinds:
        own_names, own_patterns = _queryables_of(kind)
        names.update(own_names)
        patterns.update(own_patterns)
    document = {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$id": url,
        "type": "object",
        "title": title,
        "properties": names,
        "patternProperties": patterns,
        "additionalProperties": True,
    }
    return Response(orjson.dumps(document), media_type=SCHEMA_JSON)


@cache
def _queryables_of(kind: Kind) -> tuple[dict[str, Schema], dict[str, Schema]]:
    names: dict[str, Schema] = {}
    patterns: dict[str, Schema] = {}
    for model in _MODELS[kind]:
        schema = model.model_json_schema(mode="serialization")
        _flatten(schema["properties"], "", schema.get("$defs", {}), names, patterns)
    _flatten(_MORE[kind], "", {}, names, patterns)
    names["mlops:tags"] = _TAGS
    return names, patterns


def _flatten(
    properties: dict[str, Schema],
    above: str,
    definitions: dict[str, Schema],
    names: dict[str, Schema],
    patterns: dict[str, Schema],
) -> None:
    """Collect the scalars below ``properties``: by name, or by pattern where any name will do."""
    for name, schema in properties.items():
        path, plain = f"{above}{name}", _plain(schema, definitions)
        if "properties" in plain:
            _flatten(plain["properties"], f"{path}.", definitions, names, patterns)
        elif "additionalProperties" in plain:
            below = plain["additionalProperties"]
            patterns[rf"^{path}\."] = below if isinstance(below, dict) else {}
        elif plain.get("type") != "array":
            kept = {"type", "enum", "format", "minimum", "maximum"}
            names[path] = {"title": path, **{k: v for k, v in plain.items() if k in kept}}


def _plain(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A schema without reference and without null, which no comparison finds."""
    if "anyOf" in schema:
        schema = next(part for part in schema["anyOf"] if part.get("type") != "null")
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    below = schema.get("additionalProperties")
    if isinstance(below, dict) and "$ref" in below:
        return {**schema, "additionalProperties": {}}
    return schema
