"""HTTP of items: POST, PUT, PATCH, DELETE, and reading one with its ETag."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from stac_api import records
from stac_api.access import base_url_of, principal_of
from stac_api.documents import (
    JSON_PATCH_TYPE,
    MERGE_PATCH_TYPES,
    Document,
    apply_json_patch,
    content_type,
    merge,
    parse_json,
    read_body,
    read_document,
    require_type,
)
from stac_api.hrefs import GEOJSON, item_url, render_item
from stac_api.items import Caller, ItemWriter, Written
from stac_api.preconditions import check_if_match, is_unchanged, quoted, wants_creation_only
from stac_api.problems import Fault, Problem, invalid, not_found
from stac_api.settings import Settings

router = APIRouter(tags=["Items"])

_ITEMS = "/collections/{collection_id}/items"
_ITEM = _ITEMS + "/{item_id}"
_MAX_ITEMS = 10_000
# A whole collection of items may be larger than one item.
_MANY = 16


@router.get(_ITEM, summary="Read an item")
@router.head(_ITEM, include_in_schema=False)
async def read_item(collection_id: str, item_id: str, request: Request) -> Response:
    """One item; ``If-None-Match`` with its ETag answers 304."""
    async with request.app.state.pool.acquire() as connection:
        stored = await records.read_item(connection, collection_id, item_id)
    if stored is None:
        raise not_found(f"Item {item_id} in collection {collection_id}")
    if is_unchanged(request, stored.etag):
        return Response(status_code=304, headers={"ETag": quoted(stored.etag)})
    return _answer(request, Written(stored.document, stored.etag), 200)


@router.post(_ITEMS, status_code=201, summary="Create an item, or several at once")
async def create_item(collection_id: str, request: Request) -> Response:
    """Create an Item, or the Items of a FeatureCollection, all or none."""
    limit = _settings(request).max_body_bytes
    document = await read_document(request, limit * _MANY)
    caller, writer = _caller(request), _writer(request)
    if document.get("type") == "FeatureCollection":
        features = _features(document)
        written = await writer.create_all(caller, collection_id, features)
        ids = [one.item["id"] for one in written]
        body = orjson.dumps({"type": "FeatureCollection", "created": ids})
        return Response(body, 201, media_type="application/json")
    if len(orjson.dumps(document)) > limit:
        raise Problem(413, f"The item is larger than {limit} bytes. Keep bulk in assets.")
    written_one = await writer.create(caller, collection_id, document)
    return _answer(request, written_one, 201 if written_one.created else 200)


@router.put(_ITEM, summary="Replace an item")
async def replace_item(collection_id: str, item_id: str, request: Request) -> Response:
    """Replace an item; with ``If-None-Match: *`` create it and never replace one."""
    document = await read_document(request, _settings(request).max_body_bytes)
    if document.setdefault("id", item_id) != item_id:
        raise invalid("The id differs from the one in the URL.", Fault("/id", f"is not {item_id}"))
    caller, writer = _caller(request), _writer(request)
    if wants_creation_only(request):
        try:
            written = await writer.create(caller, collection_id, document)
        except Problem as problem:
            if problem.status == 409:
                raise Problem(412, problem.detail) from problem
            raise
        return _answer(request, written, 201)
    written = await writer.replace(
        caller, collection_id, item_id, document, lambda etag: check_if_match(request, etag)
    )
    return _answer(request, written, 200)


@router.patch(_ITEM, summary="Change parts of an item")
async def patch_item(collection_id: str, item_id: str, request: Request) -> Response:
    """Apply a JSON Merge Patch (RFC 7396) or a JSON Patch (RFC 6902), by content type."""
    require_type(request, MERGE_PATCH_TYPES | {JSON_PATCH_TYPE})
    patch = parse_json(await read_body(request, _settings(request).max_body_bytes))
    is_json_patch = content_type(request) == JSON_PATCH_TYPE
    if not is_json_patch and not isinstance(patch, dict):
        raise invalid("A merge patch must be a JSON object.", status=400)

    def apply(item: Document) -> Document:
        return apply_json_patch(item, patch) if is_json_patch else merge(item, patch)

    written = await _writer(request).change(
        _caller(request),
        collection_id,
        item_id,
        apply,
        lambda etag: check_if_match(request, etag),
    )
    return _answer(request, written, 200)


@router.delete(_ITEM, status_code=204, summary="Delete an item; dismiss an open run")
async def delete_item(collection_id: str, item_id: str, request: Request) -> Response:
    """Delete an item. A run that is open is dismissed instead, and kept: 200 with the run."""
    dismissed = await _writer(request).remove(
        _caller(request), collection_id, item_id, lambda etag: check_if_match(request, etag)
    )
    return Response(status_code=204) if dismissed is None else _answer(request, dismissed, 200)


def _features(document: Document) -> list[Document]:
    features = document.get("features")
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise invalid(
            "A FeatureCollection needs an array of features.", Fault("/features", "array")
        )
    if len(features) > _MAX_ITEMS:
        raise Problem(413, f"At most {_MAX_ITEMS} items at once.")
    return features


def _caller(request: Request) -> Caller:
    return Caller(principal_of(request), base_url_of(request))


def _writer(request: Request) -> ItemWriter:
    return ItemWriter(request.app.state.pool, _settings(request))


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings_mlops
    return settings


def _answer(request: Request, written: Written, status: int) -> Response:
    base_url = base_url_of(request)
    item: dict[str, Any] = render_item(written.item, base_url)
    headers = {"ETag": quoted(written.etag)}
    if status == 201:
        headers["Location"] = item_url(base_url, item["collection"], item["id"])
    return Response(orjson.dumps(item), status, headers=headers, media_type=GEOJSON)
