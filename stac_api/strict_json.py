"""Strict JSON: each key once, bounded depth, and nothing that cannot be kept exactly."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson

from stac_api.problems import MAX_FAULTS, Fault, Problem, invalid, pointer

MAX_DEPTH = 64
RESERVED = "\ue000"
"""The character (private use) that the record marks its own hrefs with; no client may send it."""
# How what cannot be stored may be written: halves of surrogate pairs only as escapes.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F]|[eE]000)")
# More digits, or a larger exponent, than in a number that a double surely holds.
_LONG_NUMBER = re.compile(rb"[1-9.][0-9.]{18}|[1-9][0-9]{17}[eE]|[eE][+-]?0*[1-9][0-9]{2}")
_LONG = b"0" * 19
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789.", b"0" * 10)
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACES = bytes(set(range(256)) - set(b"{}[]"))
_INTEGERS = range(-(2**63), 2**63)
# More digits than this name no other double.
_DIGITS = 17
# The database writes 1e300 as 301 digits: what a body may grow to in this way.
_MAX_DIGITS = 2 << 20


def parse_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, each key once, bounded depth, and nothing that cannot be kept exactly.

    A number is kept as a 64-bit integer or as a double; one that is neither is refused, as are
    NaN, Infinity, the characters U+0000 and U+E000, and halves of surrogate pairs.
    """
    known_good, document = _parse_quickly(body)
    return document if known_good else _parse_slowly(body)


def _parse_quickly(body: bytes) -> tuple[bool, Any]:
    """The document, where a look at the text as a whole shows that there is nothing to refuse."""
    outside = _outside_of_texts(body)
    # The letter is in nothing else but true and false.
    exponents = sum(map(outside.count, (b"e", b"E"))) - sum(map(outside.count, (b"true", b"false")))
    may_be_long = exponents or _LONG in outside.translate(_DIGITS_AS_ZEROS)
    if may_be_long and _LONG_NUMBER.search(outside):
        return False, None
    if exponents * 100 > _MAX_DIGITS or _is_suspect(body) or _depth(outside) > MAX_DEPTH:
        return False, None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False, None
    # Of a key that was there twice one is lost, and its colon with it.
    dumped = orjson.dumps(document)
    kept = dumped.count(b'":') - dumped.count(b'\\":')
    return kept == outside.count(b":"), document


def _is_suspect(body: bytes) -> bool:
    """Whether a text may hold a character that cannot be stored."""
    escaped = b"\\u" in body and _SUSPECT.search(body) is not None
    return escaped or RESERVED.encode() in body


def _outside_of_texts(body: bytes) -> bytes:
    """A JSON text without what is in quotes."""
    return b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


def _depth(outside: bytes) -> int:
    braces = outside.translate(_AS_BRACES, _NO_BRACES)
    depth = 0
    while braces and depth <= MAX_DEPTH:
        braces = braces.replace(b"{}", b"")
        depth += 1
    return depth


def _parse_slowly(body: bytes) -> Any:
    """The document, or a problem that points to each thing in it that cannot be stored."""
    reader = _Reader()
    try:
        document = json.loads(
            body.decode("utf-8"),
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
    if reader.found or _is_suspect(body):
        faults = list(islice(_refused(document, ()), MAX_FAULTS))
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


def equal_json(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are one number, but True is none.

    Many clients, those in JavaScript among them, send 1 where they read 1.0.
    """
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal_json, a, b))
    return bool(a == b)


def same_json(a: Any, b: Any) -> bool:
    """Whether two JSON values are written the same, but for the order of keys."""
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(a, option=sort) == orjson.dumps(b, option=sort)


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
