"""What FastAPI cannot see of our routes: bodies, parameters beside the path, and problems.

The routes read their bodies and parameters themselves, so the description of them is kept here.
"""

from typing import Any

from fastapi import FastAPI

from stac_api.documents import JSON_PATCH_TYPE
from stac_api.openapi_answers import answers_of, headers_of

Schema = dict[str, Any]

_JSON, _GEOJSON = "application/json", "application/geo+json"
_MERGE_PATCH, _PROBLEM = "application/merge-patch+json", "application/problem+json"
_ITEMS = "/collections/{collection_id}/items"
_ITEM = f"{_ITEMS}/{{item_id}}"
_COLLECTION = "/collections/{collection_id}"

_TEXT: Schema = {"type": "string"}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_OBJECT: Schema = {"type": "object"}
_LINKS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["rel", "href"],
        "properties": {"rel": _TEXT, "href": _TEXT, "type": _TEXT, "title": _TEXT},
    },
}
_COMPONENTS: dict[str, Schema] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "instance": _TEXT,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {"pointer": _TEXT, "detail": _TEXT},
                },
            },
        },
    },
    "Item": {
        "type": "object",
        "required": ["type", "stac_version", "geometry", "properties"],
        "properties": {
            "type": {"const": "Feature"},
            "stac_version": {"enum": ["1.0.0", "1.1.0"]},
            "stac_extensions": _TEXTS,
            "id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
            "collection": _TEXT,
            "geometry": {"type": ["object", "null"]},
            "bbox": _NUMBERS,
            "properties": {
                "type": "object",
                "required": ["datetime"],
                "properties": {"datetime": {"type": ["string", "null"], "format": "date-time"}},
            },
            "links": _LINKS,
            "assets": {"type": "object", "additionalProperties": _OBJECT},
        },
    },
    "ItemCollection": {
        "type": "object",
        "required": ["type", "features"],
        "properties": {
            "type": {"const": "FeatureCollection"},
            "features": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
        },
    },
    "BulkItems": {
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Item"},
            },
            "method": {"enum": ["insert", "upsert"]},
        },
    },
    "Collection": {
        "type": "object",
        "required": ["type", "stac_version", "id", "description", "license", "extent"],
        "properties": {
            "type": {"const": "Collection"},
            "stac_version": {"enum": ["1.0.0", "1.1.0"]},
            "id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
            "description": {"type": "string", "minLength": 1},
            "license": {"type": "string", "minLength": 1},
            "extent": _OBJECT,
            "links": _LINKS,
        },
    },
    "JsonPatch": {
        "type": "array",
        "maxItems": 1000,
        "items": {
            "type": "object",
            "required": ["op", "path"],
            "properties": {
                "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                "path": _TEXT,
                "from": _TEXT,
                "value": {},
            },
        },
    },
    "Search": {
        "type": "object",
        "properties": {
            "collections": _TEXTS,
            "ids": _TEXTS,
            "bbox": _NUMBERS,
            "intersects": _OBJECT,
            "datetime": _TEXT,
            "limit": {"type": "integer", "minimum": 1},
            "token": _TEXT,
            "filter": {"anyOf": [_OBJECT, _TEXT]},
            "filter-lang": {"enum": ["cql2-json", "cql2-text"]},
            "filter-crs": _TEXT,
            "query": _OBJECT,
            "sortby": {"type": "array", "items": _OBJECT},
            "fields": _OBJECT,
            "q": {"anyOf": [_TEXT, _TEXTS]},
        },
    },
    "Workspace": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
            "title": _TEXT,
            "description": _TEXT,
            "visibility": {"enum": ["private", "public"]},
        },
        "additionalProperties": False,
    },
}


def _one(name: str, *types: str) -> Schema:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {media_type: {"schema": schema} for media_type in types}


_PATCHES: Schema = {
    _MERGE_PATCH: {"schema": _OBJECT},
    **_one("JsonPatch", JSON_PATCH_TYPE),
}
_EITHER = {"anyOf": [{"$ref": f"#/components/schemas/{n}"} for n in ("Item", "ItemCollection")]}
_BODIES: dict[tuple[str, str], Schema] = {
    ("post", _ITEMS): {_GEOJSON: {"schema": _EITHER}, _JSON: {"schema": _EITHER}},
    ("post", f"{_COLLECTION}/bulk_items"): _one("BulkItems", _JSON),
    ("put", _ITEM): _one("Item", _GEOJSON, _JSON),
    ("patch", _ITEM): _PATCHES,
    ("post", "/collections"): _one("Collection", _JSON),
    ("put", _COLLECTION): _one("Collection", _JSON),
    ("patch", _COLLECTION): _PATCHES,
    ("post", "/search"): _one("Search", _JSON),
    ("post", "/workspaces"): _one("Workspace", _JSON),
    ("post", "/workspaces/{workspace_id}/uploads"): {_JSON: {"schema": _OBJECT}},
    ("post", f"{_ITEM}/metrics"): {_JSON: {"schema": _OBJECT}},
    ("post", f"{_ITEM}/log"): {"text/plain": {"schema": _TEXT}},
    ("put", "/assets/{workspace_id}/{path}"): {"application/octet-stream": {"schema": _TEXT}},
}
_PARAMETERS: dict[str, Schema] = {
    "ids": _TEXT,
    "collections": _TEXT,
    "bbox": _TEXT,
    "intersects": _TEXT,
    "datetime": _TEXT,
    "limit": {"type": "integer", "minimum": 1},
    "token": _TEXT,
    "filter": _TEXT,
    "filter-lang": {"enum": ["cql2-text", "cql2-json"]},
    "filter-crs": _TEXT,
    "query": _TEXT,
    "sortby": _TEXT,
    "fields": _TEXT,
    "q": _TEXT,
}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS_OF: dict[tuple[str, str], Schema] = {
    ("get", "/search"): _PARAMETERS,
    ("get", _ITEMS): {
        k: v for k, v in _PARAMETERS.items() if k not in ("collections", "intersects")
    },
    ("get", "/collections"): {
        **{k: v for k, v in _PARAMETERS.items() if k not in ("collections", "intersects", "token")},
        "offset": _COUNT,
    },
    ("delete", _COLLECTION): {"force": {"type": "boolean", "default": False}},
    ("get", f"{_COLLECTION}/browse"): {"start": _TEXT, "end": _TEXT},
    ("get", f"{_ITEM}/metrics"): {"since": {**_COUNT, "default": 0}},
    ("get", f"{_ITEM}/log"): {"offset": {**_COUNT, "default": 0}},
    ("post", f"{_ITEM}/log"): {"attempt": {"type": "integer", "minimum": 1}, "offset": _COUNT},
}
_REQUIRED = frozenset({("post", f"{_ITEM}/log")})


def describe(app: FastAPI) -> None:
    """Complete the application's OpenAPI document."""
    generate = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        return generate()

    app.openapi = completed  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _complete(document: Schema) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_COMPONENTS)
    problem = {"description": "A problem", "content": _one("Problem", _PROBLEM)}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = answers_of(method, path, operation["responses"])
            # FastAPI's own errors are answered as problems too.
            responses.pop("422", None)
            responses["4XX"] = problem
            busy = {**problem, "description": "Try again after Retry-After"}
            responses.setdefault("503", busy)
            operation["responses"] = responses
            headers = headers_of(method, path)
            if headers:
                operation.setdefault("parameters", []).extend(headers)
            body = _BODIES.get((method, path))
            if body is not None:
                operation["requestBody"] = {"required": True, "content": body}
            parameters = _PARAMETERS_OF.get((method, path))
            if parameters is not None:
                required = (method, path) in _REQUIRED
                operation.setdefault("parameters", []).extend(
                    {"name": name, "in": "query", "required": required, "schema": schema}
                    for name, schema in parameters.items()
                )
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
