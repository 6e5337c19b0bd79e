"""What each route answers, for the OpenAPI document: statuses, media types, and headers read.

Only what FastAPI cannot see, which takes every answer for JSON with the route's one status.
"""

from typing import Any

Schema = dict[str, Any]

_JSON, _GEOJSON = ("application/json",), ("application/geo+json",)
_SCHEMA, _TEXT = ("application/schema+json",), ("text/plain",)
_BYTES, _NOTHING = ("application/octet-stream",), ()

_ITEMS = "/collections/{collection_id}/items"
_ITEM = f"{_ITEMS}/{{item_id}}"
_COLLECTION = "/collections/{collection_id}"
_ASSET = "/assets/{workspace_id}/{path}"

_ANSWERS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("get", _ITEMS): {"200": _GEOJSON},
    ("post", _ITEMS): {"201": (*_GEOJSON, *_JSON), "200": _GEOJSON},
    ("get", _ITEM): {"200": _GEOJSON, "304": _NOTHING},
    ("put", _ITEM): {"204": _NOTHING, "200": _GEOJSON, "201": _GEOJSON},
    ("patch", _ITEM): {"204": _NOTHING, "200": _GEOJSON},
    ("delete", _ITEM): {"204": _NOTHING, "200": _GEOJSON},
    ("post", f"{_COLLECTION}/bulk_items"): {"201": _JSON, "200": _JSON},
    ("get", "/search"): {"200": _GEOJSON},
    ("post", "/search"): {"200": _GEOJSON},
    ("get", f"{_ITEM}/log"): {"200": _TEXT},
    ("get", _COLLECTION): {"200": _JSON, "304": _NOTHING},
    ("put", _COLLECTION): {"204": _NOTHING, "200": _JSON, "201": _JSON},
    ("patch", _COLLECTION): {"204": _NOTHING, "200": _JSON},
    ("get", "/queryables"): {"200": _SCHEMA},
    ("get", f"{_COLLECTION}/queryables"): {"200": _SCHEMA},
    ("get", "/schemas/mlops/v1.0.0/schema.json"): {"200": _SCHEMA},
    ("get", _ASSET): {"200": _BYTES, "206": _BYTES, "307": _NOTHING},
    ("put", _ASSET): {"201": _NOTHING, "200": _NOTHING},
    ("get", "/healthz"): {"200": _JSON, "503": _JSON},
    ("get", "/healthz/ready"): {"200": _JSON, "503": _JSON},
}
_SAID = {
    "200": "OK",
    "201": "Created",
    "204": "Done",
    "206": "The part that Range asks for",
    "304": "The version that If-None-Match names is the present one",
    "307": "Where the object can be read for a short while",
    "503": "Not now",
}
# With a status that is not the rule: when it is answered.
_SAID_OF: dict[tuple[str, str, str], str] = {
    ("put", _ITEM, "200"): "The item, with Prefer: return=representation",
    ("patch", _ITEM, "200"): "The item, with Prefer: return=representation",
    ("put", _COLLECTION, "200"): "The collection, with Prefer: return=representation",
    ("patch", _COLLECTION, "200"): "The collection, with Prefer: return=representation",
    ("put", _ITEM, "201"): "Created, with If-None-Match: *",
    ("put", _COLLECTION, "201"): "Created, with If-None-Match: *",
    ("post", _ITEMS, "200"): "The item that is there already, of the same content",
    ("delete", _ITEM, "200"): "The run, which was open and is dismissed now",
    ("post", f"{_COLLECTION}/bulk_items", "200"): "Nothing was created",
    ("put", _ASSET, "200"): "It was there already",
}
_CHANGING = ("If-Match", "If-None-Match", "Prefer")
_OF_ONE: dict[str, tuple[str, ...]] = {
    "get": ("If-None-Match",),
    "put": _CHANGING,
    "patch": _CHANGING,
    "delete": ("If-Match", "If-None-Match"),
}
_HEADERS: dict[tuple[str, str], tuple[str, ...]] = {
    **{(method, path): names for path in (_ITEM, _COLLECTION) for method, names in _OF_ONE.items()},
    ("get", _ASSET): ("Range", "If-Range"),
}


def answers_of(method: str, path: str, found: Schema) -> Schema:
    """The responses of an operation in place of those ``found``."""
    answers = _ANSWERS.get((method, path))
    if answers is None:
        return found
    return {
        status: {
            "description": _SAID_OF.get((method, path, status), _SAID[status]),
            **({"content": {media_type: {} for media_type in types}} if types else {}),
        }
        for status, types in answers.items()
    }


def headers_of(method: str, path: str) -> list[Schema]:
    """The headers of a request that an operation reads, as its parameters."""
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
        for name in _HEADERS.get((method, path), ())
    ]
