"""The bytes: a stable HTTPS href for every object, and where to upload the files of a dataset."""

import contextlib
import hashlib
import re
import secrets
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from mlops.identity import Role
from mlops.storage import ObjectStore, StorageError, keys
from mlops.storage.folder import FolderStore
from mlops.storage.hrefs import asset_href
from stac_api.access import base_url_of, principal_of
from stac_api.documents import read_document
from stac_api.problems import Problem, faults_of, invalid, not_found
from stac_api.routes import Routes
from stac_api.workspaces import require_workspace

router = Routes("Assets")

_ASSET = "/assets/{workspace_id}/{path:path}"
_BLOB = re.compile(r"\Atraining-data/blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")
_RANGES = re.compile(r"\A\s*bytes\s*=\s*(?P<parts>[0-9\s,-]+)\Z", re.IGNORECASE | re.ASCII)
_PART = re.compile(r"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})?|-[0-9]{1,18}")
_MAX_REQUEST = 8 << 20


class Upload(BaseModel):
    """A file that somebody wants to upload."""

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="ignore", defer_build=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Uploads(BaseModel):
    """The files of an upload."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    files: Annotated[list[Upload], Field(max_length=50_000)]


@router.get(_ASSET, summary="Read an object")
@router.head(_ASSET)
async def read_asset(workspace_id: str, path: str, request: Request) -> Response:
    """The object, or a redirect to a short-lived URL where the store has such."""
    await require_workspace(request, workspace_id)
    store: ObjectStore = request.app.state.store
    key = f"{workspace_id}/{path}"
    try:
        size = await run_in_threadpool(store.size, key)
    except StorageError as error:
        raise not_found(f"Asset {key}") from error
    if size is None:
        raise not_found(f"Asset {key}")
    if isinstance(store, FolderStore):
        # Never shown as a page of this origin: anybody may have uploaded it.
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
        name = path.rsplit("/", 1)[-1]
        if not _are_ranges(request.headers.get("range", "")):
            # As RFC 9110 (section 14.2) has it: the whole is sent.
            scope = request.scope
            scope["headers"] = [entry for entry in scope["headers"] if entry[0] != b"range"]
        return FileResponse(
            store.path(key), media_type="application/octet-stream", filename=name, headers=headers
        )
    presigned_get = getattr(store, "presigned_get")  # noqa: B009 - only some stores have it
    return RedirectResponse(await run_in_threadpool(presigned_get, key), status_code=307)


@router.post("/workspaces/{workspace_id}/uploads", summary="Ask where to upload files")
async def plan_uploads(workspace_id: str, request: Request) -> Response:
    """Which of these files are missing, and the URL to PUT each to."""
    _refuse_jobs(request)
    await require_workspace(request, workspace_id)
    body = await read_document(request, _MAX_REQUEST)
    try:
        uploads = Uploads.model_validate(body)
    except ValidationError as error:
        raise invalid("The list of files is not valid.", *faults_of(error)) from error
    store: ObjectStore = request.app.state.store
    base_url = base_url_of(request)
    files, missing = [], []
    for upload in uploads.files:
        key = keys.blob(workspace_id, upload.sha256)
        entry = {"sha256": upload.sha256, "size": upload.size}
        files.append({**entry, "key": key, "href": asset_href(store, base_url, key)})
        if await run_in_threadpool(store.size, key) != upload.size:
            missing.append({**entry, "url": await _upload_url(store, base_url, key)})
    answer = orjson.dumps({"files": files, "missing": missing})
    return Response(answer, media_type="application/json")


@router.put(_ASSET, status_code=201, summary="Upload a file of a dataset")
async def upload_asset(workspace_id: str, path: str, request: Request) -> Response:
    """Store a file under its checksum; refused when the content has another one."""
    _refuse_jobs(request)
    await require_workspace(request, workspace_id)
    store: ObjectStore = request.app.state.store
    match = _BLOB.match(path)
    if match is None or not isinstance(store, FolderStore):
        raise Problem(403, "Only files of a dataset are uploaded here: ask /uploads for the URL.")
    key = keys.blob(workspace_id, match[2])
    target = store.path(key)
    if target.exists():
        return Response(status_code=200)
    await run_in_threadpool(target.parent.mkdir, parents=True, exist_ok=True)
    await _receive(request, target, match[2])
    return Response(status_code=201)


def _are_ranges(header: str) -> bool:
    """Whether a Range header asks for bytes, in a form that is one."""
    found = _RANGES.match(header)
    if found is None:
        return False
    parts = [_PART.fullmatch(part.strip()) for part in found["parts"].split(",") if part.strip()]
    return bool(parts) and all(
        part is not None
        and (
            part["first"] is None or part["last"] is None or int(part["first"]) <= int(part["last"])
        )
        for part in parts
    )


async def _receive(request: Request, target: Path, sha256: str) -> None:
    part = target.parent / f".part-{secrets.token_hex(8)}"
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
        if digest.hexdigest() != sha256:
            raise Problem(
                422,
                f"The content has the checksum {digest.hexdigest()}, not {sha256}: send it again.",
            )
        part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


async def _upload_url(store: ObjectStore, base_url: str, key: str) -> str:
    presigned_put = getattr(store, "presigned_put", None)
    if presigned_put is None:
        return f"{base_url}assets/{key}"
    return str(await run_in_threadpool(presigned_put, key))


def _refuse_jobs(request: Request) -> None:
    if principal_of(request).role is Role.JOB:
        raise Problem(403, "A job may write to its own run only.")
