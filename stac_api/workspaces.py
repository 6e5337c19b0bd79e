"""Workspaces: create, list and read; each has a collection for every kind of item."""

from typing import Any

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.identity import Role
from mlops.items.extension import MLOPS, STAC_VERSION
from mlops.items.ids import InvalidIdError, check_workspace_id, collection_id
from mlops.items.kinds import Kind
from stac_api import records
from stac_api.access import base_url_of, principal_of
from stac_api.documents import Document, read_document
from stac_api.hrefs import collection_url
from stac_api.problems import Fault, Problem, invalid, not_found, pointer
from stac_api.routes import Routes
from stac_api.validation import check_collection

router = Routes("Workspaces")

_TITLES = {
    Kind.TRAINING_DATA: ("training data", "Versioned training datasets"),
    Kind.TRAINING_RUN: ("training runs", "Training runs, from what was asked to what came of it"),
    Kind.MODEL: ("models", "Versioned models, ready to use as ONNX"),
}


@router.post("/workspaces", status_code=201, summary="Create a workspace")
async def create_workspace(request: Request) -> Response:
    """Create a workspace and its collections, all or none."""
    if principal_of(request).role is Role.JOB:
        raise Problem(403, "A job may write to its own run only.")
    body = _check(await read_document(request, 1 << 16))
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        try:
            row = await connection.fetchrow(
                "INSERT INTO mlops.workspaces (id, title, description, visibility)"
                " VALUES ($1, $2, $3, $4) RETURNING *",
                *(body["id"], body["title"], body["description"], body["visibility"]),
            )
        except asyncpg.UniqueViolationError as error:
            raise Problem(409, f"Workspace {body['id']} exists already.") from error
        for kind in Kind:
            collection = _collection(body, kind)
            check_collection(collection)
            await records.insert_collection(connection, collection)
    return _answer(_workspace(row, base_url_of(request)), 201)


@router.get("/workspaces", summary="List workspaces")
async def list_workspaces(request: Request) -> Response:
    """Every workspace, by id."""
    rows = await request.app.state.pool.fetch("SELECT * FROM mlops.workspaces ORDER BY id")
    base_url = base_url_of(request)
    return _answer({"workspaces": [_workspace(row, base_url) for row in rows]})


@router.get("/workspaces/{workspace_id}", summary="Read a workspace")
async def read_workspace(workspace_id: str, request: Request) -> Response:
    """One workspace."""
    row = await request.app.state.pool.fetchrow(
        "SELECT * FROM mlops.workspaces WHERE id = $1", workspace_id
    )
    if row is None:
        raise not_found(f"Workspace {workspace_id}")
    return _answer(_workspace(row, base_url_of(request)))


async def require_workspace(request: Request, workspace_id: str) -> None:
    """404 when there is no such workspace."""
    query = "SELECT EXISTS (SELECT FROM mlops.workspaces WHERE id = $1)"
    if not await request.app.state.pool.fetchval(query, workspace_id):
        raise not_found(f"Workspace {workspace_id}")


def _check(body: Document) -> dict[str, str]:
    faults = []
    try:
        identity = check_workspace_id(body.get("id"))
    except InvalidIdError as error:
        faults.append(Fault("/id", str(error)))
        identity = ""
    defaults = {
        "title": identity,
        "description": f"Workspace {identity}",
        "visibility": "private",
    }
    # An empty text, as null, is what a form sends that was not filled in.
    texts = {
        name: default if body.get(name) in (None, "") else body[name]
        for name, default in defaults.items()
    }
    faults += [Fault(f"/{k}", "must be a text") for k, v in texts.items() if not isinstance(v, str)]
    if texts["visibility"] not in ("private", "public"):
        faults.append(Fault("/visibility", "must be private or public"))
    unknown = sorted(body.keys() - {"id", *texts})
    faults += [Fault(pointer(name), "is not known") for name in unknown]
    if faults:
        raise invalid("The workspace is not valid.", *faults)
    return {"id": identity, **texts}


def _collection(workspace: dict[str, str], kind: Kind) -> Document:
    title, description = _TITLES[kind]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [MLOPS],
        "id": collection_id(workspace["id"], kind),
        "title": f"{workspace['title']}: {title}",
        "description": f"{description} of workspace {workspace['title']}.",
        "license": "other",
        "mlops:workspace": workspace["id"],
        "mlops:kind": kind.value,
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [
            {
                "rel": "workspace",
                "type": "application/json",
                "href": f"../workspaces/{workspace['id']}",
            }
        ],
    }


def _workspace(row: Any, base_url: str) -> Document:
    identity = row["id"]
    collections = {kind.value: collection_id(identity, kind) for kind in Kind}
    return {
        "id": identity,
        "title": row["title"],
        "description": row["description"],
        "visibility": row["visibility"],
        "created": row["created"].isoformat(timespec="seconds").replace("+00:00", "Z"),
        "collections": collections,
        "links": [
            {"rel": "self", "href": f"{base_url}workspaces/{identity}"},
            *(
                {"rel": "collection", "href": collection_url(base_url, name), "title": name}
                for name in collections.values()
            ),
        ],
    }


def _answer(body: Document, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
