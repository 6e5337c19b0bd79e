"""HTTP of collections: POST, PUT, PATCH, DELETE, and reading one with its ETag."""

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from mlops.identity import Role
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
from stac_api.hrefs import JSON, collection_url, render_collection, strip_collection
from stac_api.preconditions import check_if_match, is_unchanged, quoted
from stac_api.problems import Fault, Problem, invalid, not_found
from stac_api.settings import Settings
from stac_api.validation import check_collection

router = APIRouter(tags=["Collections"])

_COLLECTION = "/collections/{collection_id}"
# What makes a collection part of a workspace: given when the workspace is made.
_OWNED = ("mlops:workspace", "mlops:kind")


@router.get(_COLLECTION, summary="Read a collection")
@router.head(_COLLECTION, include_in_schema=False)
async def read_collection(collection_id: str, request: Request) -> Response:
    """One collection; ``If-None-Match`` with its ETag answers 304."""
    async with request.app.state.pool.acquire() as connection:
        stored = await records.read_collection(connection, collection_id)
    if stored is None:
        raise not_found(f"Collection {collection_id}")
    if is_unchanged(request, stored.etag):
        return Response(status_code=304, headers={"ETag": quoted(stored.etag)})
    return _answer(request, stored.document, stored.etag, 200)


@router.post("/collections", status_code=201, summary="Create a collection")
async def create_collection(request: Request) -> Response:
    """Create a collection that belongs to no workspace, for example of imagery."""
    _refuse_jobs(request)
    document = await read_document(request, _limit(request))
    collection = strip_collection(document, base_url_of(request))
    _check_owned({}, collection)
    collection.setdefault("links", [])
    check_collection(collection)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        etag = await records.insert_collection(connection, collection)
    return _answer(request, collection, etag, 201)


@router.put(_COLLECTION, summary="Replace a collection")
async def replace_collection(collection_id: str, request: Request) -> Response:
    """Replace a collection."""
    document = await read_document(request, _limit(request))
    return await _change(request, collection_id, document, replace=True)


@router.patch(_COLLECTION, summary="Change parts of a collection")
async def patch_collection(collection_id: str, request: Request) -> Response:
    """Apply a JSON Merge Patch or a JSON Patch, by content type."""
    require_type(request, MERGE_PATCH_TYPES | {JSON_PATCH_TYPE})
    patch = parse_json(await read_body(request, _limit(request)))
    return await _change(request, collection_id, patch, replace=False)


@router.delete(_COLLECTION, status_code=204, summary="Delete a collection")
async def delete_collection(collection_id: str, request: Request, force: bool = False) -> Response:
    """Delete a collection; one that holds items only with ``?force=true``."""
    _refuse_jobs(request)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        stored = await records.read_collection(connection, collection_id, lock=True)
        if stored is None:
            raise not_found(f"Collection {collection_id}")
        check_if_match(request, stored.etag)
        if stored.document.get("mlops:workspace"):
            raise Problem(409, f"Collection {collection_id} belongs to a workspace.")
        if not force and await records.holds_items(connection, collection_id):
            raise Problem(
                409, f"Collection {collection_id} holds items. Delete them, or add ?force=true."
            )
        await records.delete_collection(connection, collection_id)
    return Response(status_code=204)


async def _change(
    request: Request, collection_id: str, change: object, *, replace: bool
) -> Response:
    _refuse_jobs(request)
    base_url = base_url_of(request)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        before = await records.read_collection(connection, collection_id, lock=True)
        if before is None:
            raise not_found(f"Collection {collection_id}")
        check_if_match(request, before.etag)
        after = (
            change
            if replace
            else _patched(request, render_collection(before.document, base_url), change)
        )
        if not isinstance(after, dict):
            raise invalid("The body must be a JSON object.", status=400)
        collection = strip_collection(after, base_url)
        if collection.setdefault("id", collection_id) != collection_id:
            raise invalid("The id of a collection cannot be changed.", Fault("/id", "differs"))
        _check_owned(before.document, collection)
        collection.setdefault("links", [])
        check_collection(collection)
        etag = await records.update_collection(connection, collection)
    return _answer(request, collection, etag, 200)


def _patched(request: Request, collection: Document, patch: object) -> object:
    if content_type(request) == JSON_PATCH_TYPE:
        return apply_json_patch(collection, patch)
    return merge(collection, patch)


def _check_owned(before: Document, after: Document) -> None:
    for field in _OWNED:
        if before.get(field) != after.get(field):
            raise Problem(
                409, f"{field} is given when a workspace is created: POST /workspaces makes one."
            )


def _refuse_jobs(request: Request) -> None:
    if principal_of(request).role is Role.JOB:
        raise Problem(403, "A job may write to its own run only.")


def _limit(request: Request) -> int:
    settings: Settings = request.app.state.settings_mlops
    return settings.max_body_bytes


def _answer(request: Request, collection: Document, etag: str, status: int) -> Response:
    base_url = base_url_of(request)
    headers = {"ETag": quoted(etag)}
    if status == 201:
        headers["Location"] = collection_url(base_url, collection["id"])
    body = orjson.dumps(render_collection(collection, base_url))
    return Response(body, status, headers=headers, media_type=JSON)
