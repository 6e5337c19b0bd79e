"""HTTP of collections: POST, PUT, PATCH, DELETE, and reading one with its ETag."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.identity import Role
from stac_api import records
from stac_api.access import base_url_of, principal_of
from stac_api.documents import (
    JSON_PATCH_TYPE,
    MERGE_PATCH_TYPES,
    Document,
    content_type,
    read_body,
    read_document,
    require_type,
)
from stac_api.hrefs import JSON, collection_url, render_collection, strip_collection
from stac_api.parameters import Parameters
from stac_api.patches import patching
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
from stac_api.strict_json import parse_json, same_json
from stac_api.validation import check_collection, check_collection_shape

router = Routes("Collections")

_COLLECTION = "/collections/{collection_id}"
# What makes a collection part of a workspace: given when the workspace is made.
_OWNED = ("mlops:workspace", "mlops:kind")


@router.get(_COLLECTION, summary="Read a collection")
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
    return await _create(request, document)


@router.put(_COLLECTION, summary="Replace a collection")
async def replace_collection(collection_id: str, request: Request) -> Response:
    """Replace a collection; with ``If-None-Match: *`` create it and never replace one."""
    _refuse_jobs(request)
    document = await read_document(request, _limit(request))
    if document.setdefault("id", collection_id) != collection_id:
        fault = Fault("/id", f"is not {collection_id}")
        raise invalid("The id differs from the one in the URL.", fault)
    if wants_creation_only(request):
        check_if_match(request, None)
        try:
            return await _create(request, document)
        except Problem as problem:
            if problem.status == 409 and await _is_there(request, collection_id):
                raise Problem(412, problem.detail, problem.faults) from problem
            raise
    if _settings(request).require_if_match:
        require_if_match(request)
    return await _change(request, collection_id, lambda _: document)


@router.patch(_COLLECTION, summary="Change parts of a collection")
async def patch_collection(collection_id: str, request: Request) -> Response:
    """Apply a JSON Merge Patch or a JSON Patch, by content type."""
    _refuse_jobs(request)
    require_type(request, MERGE_PATCH_TYPES | {JSON_PATCH_TYPE})
    limit = _limit(request)
    patch = parse_json(await read_body(request, limit))
    is_json_patch = content_type(request) == JSON_PATCH_TYPE
    return await _change(
        request, collection_id, patching(patch, limit, is_json_patch=is_json_patch)
    )


@router.delete(_COLLECTION, status_code=204, summary="Delete a collection")
async def delete_collection(collection_id: str, request: Request) -> Response:
    """Delete a collection; one that holds items only with ``?force=true``."""
    parameters = Parameters(request)
    force = parameters.truth("force")
    parameters.check()
    _refuse_jobs(request)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        stored = await records.read_collection(connection, collection_id, lock=True)
        if stored is None:
            raise not_found(f"Collection {collection_id}")
        check_if_match(request, stored.etag)
        if stored.document.get("mlops:workspace"):
            raise Problem(409, f"Collection {collection_id} belongs to a workspace.")
        await records.delete_collection(connection, collection_id, with_items=force)
    return Response(status_code=204)


async def _create(request: Request, document: Document) -> Response:
    check_collection_shape(document)
    collection = strip_collection(document, base_url_of(request))
    _check_owned({}, collection)
    check_collection(collection, _settings(request).extension_schemas)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        etag = await records.insert_collection(connection, collection)
    return _answer(request, collection, etag, 201)


async def _is_there(request: Request, collection_id: str) -> bool:
    async with request.app.state.pool.acquire() as connection:
        return await records.read_collection(connection, collection_id) is not None


async def _change(
    request: Request, collection_id: str, apply: Callable[[Document], Document]
) -> Response:
    base_url = base_url_of(request)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        stored = await records.read_collection(connection, collection_id, lock=True)
        if stored is None:
            raise not_found(f"Collection {collection_id}")
        check_if_match(request, stored.etag)
        before = stored.document
        after = apply(render_collection(before, base_url))
        after.setdefault("id", collection_id)
        check_collection_shape(after)
        collection = strip_collection(after, base_url)
        if collection["id"] != collection_id:
            fault = Fault("/id", f"must be {collection_id}")
            raise invalid("The id of a collection cannot be changed.", fault)
        _check_owned(before, collection)
        check_collection(collection, _settings(request).extension_schemas)
        if same_json(before, collection):
            return _answer(request, collection, stored.etag, 200)
        etag = await records.update_collection(connection, collection)
    return _answer(request, collection, etag, 200)


def _check_owned(before: Document, after: Document) -> None:
    for field in _OWNED:
        if before.get(field) != after.get(field):
            detail = f"{field} is given when a workspace is created: POST /workspaces makes one."
            raise Problem(409, detail, [Fault(pointer(field), "cannot be given or changed")])


def _refuse_jobs(request: Request) -> None:
    if principal_of(request).role is Role.JOB:
        raise Problem(403, "A job may write to its own run only.")


def _limit(request: Request) -> int:
    return _settings(request).max_body_bytes


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings_mlops
    return settings


def _answer(request: Request, collection: Document, etag: str, status: int) -> Response:
    base_url = base_url_of(request)
    headers = {"ETag": quoted(etag)}
    if status == 201:
        headers["Location"] = collection_url(base_url, collection["id"])
    body = orjson.dumps(render_collection(collection, base_url))
    return as_preferred(request, Response(body, status, headers=headers, media_type=JSON))
