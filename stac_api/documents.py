"""Request bodies: size, encoding and strict JSON, before anything is believed."""

import json
from typing import Any

import jsonpatch
import jsonpointer
from starlette.requests import Request

from stac_api.problems import Fault, Problem, invalid, pointer

JSON_TYPES = frozenset({"application/json", "application/geo+json"})
MERGE_PATCH_TYPES = frozenset({"application/merge-patch+json", *JSON_TYPES})
JSON_PATCH_TYPE = "application/json-patch+json"
_MAX_DEPTH = 64

Document = dict[str, Any]


async def read_body(request: Request, limit: int) -> bytes:
    """The body; 413 as soon as it is larger than ``limit`` bytes, whatever its header says."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_document(
    request: Request, limit: int, types: frozenset[str] = JSON_TYPES
) -> Document:
    """The body as a JSON object."""
    require_type(request, types)
    document = parse_json(await read_body(request, limit))
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
        raise Problem(
            415, f"The content type {given or '(none)'} is not understood; send {wanted}."
        )


def parse_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, Infinity, duplicate keys or NUL characters, bounded depth."""
    try:
        text = body.decode("utf-8")
        if "\\u0000" in text:
            _refuse_nul(text)
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise invalid(
            f"The body is not UTF-8: byte {error.start} is malformed.", status=400
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise invalid(f"The body is not JSON: {error.msg} at {where}.", status=400) from error
    _check_depth(document)
    return document


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch, RFC 7396, section 2; ``target`` is not changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply_json_patch(target: Document, operations: Any) -> Document:
    """JSON Patch, RFC 6902; a failing ``test`` is 409, a path that is not there 422."""
    if not isinstance(operations, list):
        raise invalid("A JSON Patch is an array of operations.", status=400)
    try:
        result = jsonpatch.JsonPatch(operations).apply(target)
    except jsonpatch.JsonPatchTestFailed as error:
        raise Problem(409, f"The patch's test failed: {_first_line(error)}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise invalid(f"The JSON Patch cannot be applied: {_first_line(error)}") from error
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise invalid(f"The JSON Patch is malformed: {_first_line(error)}", status=400) from error
    if not isinstance(result, dict):
        raise invalid("The JSON Patch would leave something that is no JSON object.")
    return result


def _too_large(limit: int) -> Problem:
    return Problem(
        413, f"The body is larger than {limit} bytes. Keep bulk in assets, not in items."
    )


def _too_deep() -> Problem:
    return invalid(f"The JSON is nested deeper than {_MAX_DEPTH} levels.", status=400)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                fault = Fault(pointer(key), "appears twice in one object")
                raise invalid(f"The key {key!r} appears twice in one object.", fault, status=400)
            seen.add(key)
    return result


def _constant(name: str) -> Any:
    raise invalid(f"{name} is not JSON; leave the value out.", status=400)


def _refuse_nul(text: str) -> None:
    # An escaped backslash before it makes "\\u0000" six harmless characters.
    if "\\u0000" in text.replace("\\\\", ""):
        raise invalid("The character \\u0000 cannot be stored.", status=400)


def _check_depth(document: Any) -> None:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        if not inner:
            return
        level = inner
    raise _too_deep()


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
