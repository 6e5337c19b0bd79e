"""HTTP of items: POST, PUT, PATCH, DELETE, and reading one with its ETag."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from stac_api import records
from stac_api.access import base_url_of, principal_of
from stac_api.bulk import BulkWriter, Entry
from stac_api.documents import (
    JSON_PATCH_TYPE,
    MERGE_PATCH_TYPES,
    Document,
    content_type,
    read_body,
    read_document,
    require_type,
    too_large,
)
from stac_api.hrefs import GEOJSON, item_url, render, render_item
from stac_api.items import Caller, ItemWriter, Written
from stac_api.patches import patching
from stac_api.pool import Planning
from stac_api.preconditions import (
    check_if_match,
    is_unchanged,
    quoted,
    require_if_match,
    wants_creation_only,
)
from stac_api.preferences import as_preferred
from stac_api.problems import Fault, Problem, invalid, not_found, pointer
from stac_api.routes import Routes
from stac_api.settings import Settings
from stac_api.strict_json import parse_json
from stac_api.tables import Tables

router = Routes("Items")

_ITEMS = "/collections/{collection_id}/items"
_ITEM = _ITEMS + "/{item_id}"
_MAX_ITEMS = 10_000
# A body of many items may be so many times as large as that of one.
_MANY = 16


@router.get(_ITEM, summary="Read an item")
async def read_item(collection_id: str, item_id: str, request: Request) -> Response:
    """One item; ``If-None-Match`` with its ETag answers 304."""

    async def read(connection: asyncpg.Connection, table: str | None) -> records.Stored | None:
        if table is None:
            return None
        return await records.read_item(connection, collection_id, item_id, table=table)

    tables: Tables = request.app.state.tables
    stored = await tables.read(collection_id, read, Planning.ONCE)
    if stored is None:
        raise not_found(f"Item {item_id} in collection {collection_id}")
    if is_unchanged(request, stored.etag):
        return Response(status_code=304, headers={"ETag": quoted(stored.etag)})
    content = render(stored.text, base_url_of(request))
    return Response(content, headers={"ETag": quoted(stored.etag)}, media_type=GEOJSON)


@router.post(_ITEMS, status_code=201, summary="Create an item, or several at once")
async def create_item(collection_id: str, request: Request) -> Response:
    """Create an Item, or the Items of a FeatureCollection, all or none."""
    limit = _settings(request).max_body_bytes
    document = await read_document(request, limit * _MANY)
    if document.get("type") == "FeatureCollection":
        entries = [
            Entry(item, ("features", index)) for index, item in enumerate(_features(document))
        ]
        outcome = await BulkWriter(request.app.state.pool, _settings(request)).write(
            _caller(request), collection_id, entries, upsert=False
        )
        body = {"type": "FeatureCollection", "created": outcome.created}
        return Response(orjson.dumps(body), 201, media_type="application/json")
    if len(orjson.dumps(document)) > limit:
        raise too_large("item", limit)
    written = await _writer(request).create(_caller(request), collection_id, document)
    return _answer(request, written, 201 if written.created else 200)


@router.post(
    "/collections/{collection_id}/bulk_items", status_code=201, summary="Write many items at once"
)
async def write_items(collection_id: str, request: Request) -> Response:
    """Write the items of ``{"items": {id: item}, "method": "insert" or "upsert"}``, all or none."""
    document = await read_document(request, _settings(request).max_body_bytes * _MANY)
    entries, upsert = _bulk(document)
    outcome = await BulkWriter(request.app.state.pool, _settings(request)).write(
        _caller(request), collection_id, entries, upsert=upsert
    )
    body = orjson.dumps({"created": outcome.created, "updated": outcome.updated})
    return Response(body, 201 if outcome.created else 200, media_type="application/json")


@router.put(_ITEM, summary="Replace an item")
async def replace_item(collection_id: str, item_id: str, request: Request) -> Response:
    """Replace an item; with ``If-None-Match: *`` create it and never replace one."""
    document = await read_document(request, _settings(request).max_body_bytes)
    if document.setdefault("id", item_id) != item_id:
        raise invalid("The id differs from the one in the URL.", Fault("/id", f"is not {item_id}"))
    caller, writer = _caller(request), _writer(request)
    if wants_creation_only(request):
        check_if_match(request, None)
        try:
            written = await writer.create(caller, collection_id, document)
        except Problem as problem:
            if problem.status == 409 and await _is_there(request, collection_id, item_id):
                raise Problem(412, problem.detail, problem.faults) from problem
            raise
        if not written.created:
            raise Problem(412, f"Item {written.item['id']} is this already.")
        return _answer(request, written, 201)
    if _settings(request).require_if_match:
        require_if_match(request)
    written = await writer.replace(
        caller, collection_id, item_id, document, lambda etag: check_if_match(request, etag)
    )
    return _answer(request, written, 200)


@router.patch(_ITEM, summary="Change parts of an item")
async def patch_item(collection_id: str, item_id: str, request: Request) -> Response:
    """Apply a JSON Merge Patch (RFC 7396) or a JSON Patch (RFC 6902), by content type."""
    require_type(request, MERGE_PATCH_TYPES | {JSON_PATCH_TYPE})
    limit = _settings(request).max_body_bytes
    patch = parse_json(await read_body(request, limit))
    written = await _writer(request).change(
        _caller(request),
        collection_id,
        item_id,
        patching(patch, limit, is_json_patch=content_type(request) == JSON_PATCH_TYPE),
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
    if not isinstance(features, list):
        fault = Fault("/features", "must be an array of items")
        raise invalid("A FeatureCollection needs an array of features.", fault)
    _check_items("features", dict(enumerate(features)))
    return features


def _bulk(document: Document) -> tuple[list[Entry], bool]:
    items, method = document.get("items"), document.get("method", "insert")
    if method not in ("insert", "upsert"):
        raise invalid("The method is not known.", Fault("/method", "must be insert or upsert"))
    if not isinstance(items, dict):
        fault = Fault("/items", "must be an object of items by their ids")
        raise invalid("A bulk request needs items.", fault)
    _check_items("items", items)
    for key, item in items.items():
        if item.setdefault("id", key) != key:
            fault = Fault(pointer("items", key, "id"), "differs from its key in items")
            raise invalid("An item's id differs from its key.", fault)
    return [Entry(item, ("items", key)) for key, item in items.items()], method == "upsert"


def _check_items(member: str, items: Mapping[Any, object]) -> None:
    if len(items) > _MAX_ITEMS:
        fault = Fault(pointer(member), f"holds {len(items)}")
        raise invalid(f"At most {_MAX_ITEMS} items at once.", fault, status=413)
    faults = [
        Fault(pointer(member, key), "must be an item")
        for key, item in items.items()
        if not isinstance(item, dict)
    ]
    if faults:
        raise invalid("Not all of the items are objects.", *faults[:20])


async def _is_there(request: Request, collection: str, item: str) -> bool:
    async with request.app.state.pool.acquire() as connection:
        return await records.read_item(connection, collection, item) is not None


def _caller(request: Request) -> Caller:
    return Caller(principal_of(request), base_url_of(request))


def _writer(request: Request) -> ItemWriter:
    return ItemWriter(request.app.state.pool, _settings(request))


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings_mlops
    return settings


def _answer(request: Request, written: Written, status: int) -> Response:
    base_url = base_url_of(request)
    item = written.item
    headers = {"ETag": quoted(written.etag)}
    if status == 201:
        headers["Location"] = item_url(base_url, item["collection"], item["id"])
    content = render_item(item, base_url)
    answer = Response(content, status, headers=headers, media_type=GEOJSON)
    return as_preferred(request, answer)
