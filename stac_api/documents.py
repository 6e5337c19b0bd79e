"""Request bodies: size, encoding and strict JSON, before anything is believed."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
from starlette.requests import Request

from stac_api.problems import Fault, Problem, invalid, pointer

JSON_TYPES = frozenset({"application/json", "application/geo+json"})
MERGE_PATCH_TYPES = frozenset({"application/merge-patch+json", *JSON_TYPES})
JSON_PATCH_TYPE = "application/json-patch+json"
MAX_DEPTH = 64
RESERVED = "\ue000"
"""The character (private use) that the record marks its own hrefs with; no client may send it."""
_ESCAPED = re.compile(r"\\u(?:0000|d[89a-f]|e000)", re.IGNORECASE)
_INTEGERS = range(-(2**63), 2**63)
# More digits than this name no other double.
_DIGITS = 17
# The database writes 1e300 as 301 digits: what a body may grow to in this way.
_MAX_DIGITS = 2 << 20

Document = dict[str, Any]


async def read_body(request: Request, limit: int) -> bytes:
    """The body; 413 as soon as it is larger than ``limit`` bytes, whatever its header says."""
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
    """Strict JSON: UTF-8, each key once, bounded depth, and nothing that cannot be kept exactly.

    A number is kept as a 64-bit integer or as a double; one that is neither is refused, as are
    NaN, Infinity, the characters U+0000 and U+E000, and halves of surrogate pairs.
    """
    try:
        text = body.decode("utf-8")
        reader = _Reader()
        document = json.loads(
            text,
            object_pairs_hook=reader.object,
            parse_float=reader.number,
            parse_int=reader.integer,
            parse_constant=reader.constant,
        )
    except UnicodeDecodeError as error:
        raise invalid(
            f"The body is not UTF-8: byte {error.start} is malformed.", status=400
        ) from error
    except RecursionError as error:
        raise _too_deep("") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise invalid(f"The body is not JSON: {error.msg} at {where}.", status=400) from error
    check_depth(document)
    # Half a surrogate pair and U+0000 can only come from an escape.
    if reader.found or RESERVED in text or _ESCAPED.search(text):
        faults = list(_refused(document, ()))
        if faults:
            raise invalid("The body holds what cannot be stored.", *faults, status=400)
    return document


def check_depth(document: Any) -> None:
    """400 when a document is nested too deep to be stored and read everywhere."""
    level: list[tuple[str, Any]] = [("", document)]
    for _ in range(MAX_DEPTH):
        inner: list[tuple[str, Any]] = []
        for where, value in level:
            if isinstance(value, dict):
                inner += [(k, v) for k, v in value.items() if isinstance(v, dict | list)]
            elif isinstance(value, list):
                inner += [(where, v) for v in value if isinstance(v, dict | list)]
        if not inner:
            return
        level = inner
    raise _too_deep(level[0][0])


def same_json(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; for Python 1, 1.0 and True are, for JSON not."""
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(a, option=sort) == orjson.dumps(b, option=sort)


def too_large(what: str, limit: int) -> Problem:
    """413 with the limit."""
    return Problem(
        413, f"The {what} is larger than {limit} bytes. Keep bulk in assets, not in items."
    )


class _Refused:
    """Stands in a parsed document where there was something that cannot be stored."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


class _Reader:
    """What the JSON parser asks about numbers and objects."""

    def __init__(self) -> None:
        self.found = False
        self._digits = 0

    def integer(self, text: str) -> Any:
        if len(text) <= 20 and (value := int(text)) in _INTEGERS:
            return value
        # The database writes 1e300 without an exponent: what is read must be good to be sent again.
        if len(text) <= 310 and Decimal(repr(float(text))) == Decimal(text):
            return float(text)
        return self._refuse(f"{text[:40]} does not fit into 64 bits; write it as a text")

    def number(self, text: str) -> Any:
        value = float(text)
        if len(text) <= _DIGITS and "e" not in text and "E" not in text:
            return value
        mantissa = text.lower().partition("e")[0]
        if math.isinf(value) or (value == 0.0 and mantissa.strip("-0.")):
            return self._refuse(f"{text[:40]} is outside of what a double can hold")
        exact = Decimal(text) if value else Decimal(0)
        digits = len(exact.as_tuple().digits)
        if digits > _DIGITS and exact != Decimal(value):
            return self._refuse(f"{text[:40]} has more digits than a double holds; round it")
        self._digits += abs(exact.adjusted())
        if self._digits > _MAX_DIGITS:
            raise invalid(
                "The body's numbers are too long when written out: round what is near zero.",
                status=413,
            )
        return value

    def constant(self, name: str) -> Any:
        return self._refuse(f"{name} is not JSON; leave the value out")

    def object(self, pairs: list[tuple[str, Any]]) -> Any:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                result[key] = self._refuse("appears twice in one object")
            seen.add(key)
        return result

    def _refuse(self, detail: str) -> _Refused:
        self.found = True
        return _Refused(detail)


def _refused(value: Any, place: tuple[object, ...]) -> Iterator[Fault]:
    if isinstance(value, _Refused):
        yield Fault(pointer(*place), value.detail)
    elif isinstance(value, str):
        yield from _refused_text(value, place)
    elif isinstance(value, dict):
        for key, inner in value.items():
            shown = key.encode("utf-8", "replace").decode().replace("\0", "�")
            yield from _refused_text(key, (*place, shown))
            yield from _refused(inner, (*place, shown))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _refused(inner, (*place, index))


def _refused_text(text: str, place: tuple[object, ...]) -> Iterator[Fault]:
    if "\0" in text:
        yield Fault(pointer(*place), "holds the character U+0000, which cannot be stored")
    elif any("\ud800" <= character <= "\udfff" for character in text):
        yield Fault(pointer(*place), "holds half of a surrogate pair, which is no character")
    elif RESERVED in text:
        yield Fault(pointer(*place), "holds the character U+E000, which is the record's own")


def _too_deep(key: str) -> Problem:
    detail = f"The JSON is nested deeper than {MAX_DEPTH} levels."
    within = f"is nested deeper than {MAX_DEPTH} levels"
    return invalid(
        detail, Fault("", f"{within}, below {key[:80]!r}" if key else within), status=400
    )
