"""Request bodies: content type and size, before anything is believed."""

from typing import Any

from starlette.requests import Request

from stac_api.problems import Problem, invalid
from stac_api.strict_json import parse_json

JSON_TYPES = frozenset({"application/json", "application/geo+json"})
MERGE_PATCH_TYPES = frozenset({"application/merge-patch+json", *JSON_TYPES})
JSON_PATCH_TYPE = "application/json-patch+json"

Document = dict[str, Any]


async def read_body(request: Request, limit: int) -> bytes:
    """The body; 413 as soon as it is larger than ``limit`` bytes, whatever its header says.

    415 for one that is compressed: what it grows to would have to be watched as well.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        detail = f"The content encoding {coding[:40]!r} is not understood; send the body as it is."
        raise invalid(detail, status=415, headers={"Accept-Encoding": "identity"})
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large("body", limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large("body", limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_document(
    request: Request, limit: int, types: frozenset[str] = JSON_TYPES
) -> Document:
    """The body as a JSON object."""
    require_type(request, types)
    return parse_document(await read_body(request, limit))


def parse_document(body: bytes) -> Document:
    """A JSON object."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise invalid("The body must be a JSON object.", status=400)
    return document


def content_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def require_type(request: Request, types: frozenset[str]) -> None:
    """415 when the body is not of one of ``types``."""
    given = content_type(request)
    if given not in types:
        wanted = ", ".join(sorted(types))
        detail = f"The content type {given or '(none)'} is not understood; send {wanted}."
        raise invalid(detail, status=415)


def too_large(what: str, limit: int) -> Problem:
    """413 with the limit."""
    detail = f"The {what} is larger than {limit} bytes. Keep bulk in assets, not in items."
    return invalid(detail, status=413)
