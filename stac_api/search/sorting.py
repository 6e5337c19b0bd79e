"""Sort keys, and paging by them.

A page goes on from the values that its last item had, so it does not matter whether that item is
still there, and items that others add or remove neither repeat nor hide one. What has no value
comes last, whatever the direction. To let one index serve both directions, the items that have a
value of the first key and those that have none are read one after the other: :class:`Segment`.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from stac_api.documents import Document
from stac_api.problems import Fault, Problem, pointer
from stac_api.search.properties import Expression, Type, expression_of
from stac_api.search.statement import Arguments

_MAX_KEYS = 8
_WRITTEN_TIME = re.compile(r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00\Z", re.ASCII)


@dataclass(frozen=True)
class Key:
    """One sort key; ``nullable`` when an item may lack it."""

    name: str
    expression: Expression
    descending: bool

    @property
    def nullable(self) -> bool:
        """Whether an item may have no value of it."""
        return self.expression.type is Type.JSON

    @property
    def text(self) -> str:
        """The value as text, from which a token brings it back exactly.

        NULL for what :meth:`value_in` finds in the item's own text: to ask for it here would fetch
        the content of every item of the page beside its text, and a token needs two at most.
        """
        if self.expression.path:
            return (
                f"CASE WHEN i.private ? 'mlops:text' THEN NULL ELSE {self.expression.sql}::text END"
            )
        return f"{self.expression.sql}::text"

    def value_in(self, document: Document) -> str | None:
        """What :attr:`text` would be, from an item whose numbers are as they were written."""
        value: Any = document
        for step in self.expression.path:
            if not isinstance(value, dict) or step not in value:
                return None
            value = value[step]
        return orjson.dumps(value).decode() if self.expression.path else None

    def argument(self, arguments: Arguments, value: str) -> str:
        """The placeholder of a value that :attr:`text` gave."""
        if self.expression.type is Type.JSON:
            return arguments.add(value, "text::jsonb")
        if self.expression.type is Type.TIME:
            return arguments.add(value, "text::timestamptz")
        return arguments.add(value, "text")


class Segment(NamedTuple):
    """A part of the sorted items: its condition, and whether it lacks the first key."""

    condition: str
    first_is_null: bool


class Token(NamedTuple):
    """A place between two items: values of the keys, and the direction to read in."""

    values: tuple[str | None, ...]
    backwards: bool

    def encode(self) -> str:
        """The token as a client passes it on."""
        content = orjson.dumps([int(self.backwards), *self.values])
        return base64.urlsafe_b64encode(content).decode().rstrip("=")


_WHOLE = [Segment("true", first_is_null=False)]


def read_keys(sort_by: Any, *, one_collection: bool, place: str = "/sortby") -> list[Key]:
    """The keys of a request (``[{"field": ..., "direction": "asc"}]``), with tie-breakers."""
    if not isinstance(sort_by, list) or len(sort_by) > _MAX_KEYS:
        raise _bad_sort(place, f"must be an array of at most {_MAX_KEYS} fields")
    keys = []
    for index, entry in enumerate(sort_by):
        where = f"{place}/{index}"
        if not isinstance(entry, dict) or entry.get("direction", "asc") not in ("asc", "desc"):
            raise _bad_sort(where, "must be a field and a direction, asc or desc")
        unknown = sorted(entry.keys() - {"field", "direction"})
        if unknown:
            raise _bad_sort(where + pointer(unknown[0]), "is neither field nor direction")
        expression = expression_of(entry.get("field"), f"{where}/field")
        if expression.type is Type.GEOMETRY:
            raise _bad_sort(f"{where}/field", "a geometry has no order")
        keys.append(Key(str(entry["field"]), expression, entry.get("direction") == "desc"))
    if not keys:
        keys.append(Key("datetime", expression_of("datetime", place), descending=True))
    for name in ("id",) if one_collection else ("collection", "id"):
        if all(key.name != name for key in keys):
            last = keys[0].descending
            keys.append(Key(name, expression_of(name, place), last))
    return keys


def read_token(text: Any, keys: Sequence[Key], place: str = "/token") -> Token:
    """The token that a client passes on; 400 when it does not belong to this sort order."""
    try:
        padded = str(text) + "=" * (-len(str(text)) % 4)
        backwards, *values = orjson.loads(base64.b64decode(padded, altchars="-_", validate=True))
        fits = len(values) == len(keys) and backwards in (0, 1)
        if not fits or not all(v is None or isinstance(v, str) for v in values):
            raise ValueError("of another sort order")
        for key, value in zip(keys, values, strict=True):
            _check_value(key, value)
    except (ValueError, binascii.Error, TypeError) as error:
        detail = "is no token of this search: follow the links of a page, or leave it out"
        raise Problem(400, f"The token {detail}.", [Fault(place, detail)]) from error
    return Token(tuple(values), bool(backwards))


def segments(keys: Sequence[Key], token: Token | None) -> Sequence[Segment]:
    """The parts to read in turn, beginning with the token's."""
    first = keys[0]
    if not first.nullable:
        return _WHOLE
    present = Segment(f"{first.expression.sql} IS NOT NULL", first_is_null=False)
    absent = Segment(f"{first.expression.sql} IS NULL", first_is_null=True)
    parts = [present, absent]
    if token is not None and token.backwards:
        parts.reverse()
    if token is not None:
        begins_absent = token.values[0] is None
        while parts[0].first_is_null is not begins_absent:
            parts.pop(0)
    return parts


def order_by(keys: Sequence[Key], segment: Segment, *, backwards: bool) -> str:
    """The ORDER BY of a part."""
    first, *rest = keys
    terms = []
    if not segment.first_is_null:
        # No NULLS clause: there are none here, and the plain order is the index's.
        terms.append(f"{first.expression.sql} {_direction(first.descending != backwards)}")
    for key in rest:
        nulls = ""
        if key.nullable:
            nulls = " NULLS FIRST" if backwards else " NULLS LAST"
        terms.append(f"{key.expression.sql} {_direction(key.descending != backwards)}{nulls}")
    return ", ".join(terms)


def after(keys: Sequence[Key], segment: Segment, token: Token, arguments: Arguments) -> str:
    """The condition of lying behind the token, in its direction, within a part.

    Lexicographic: behind in the first key, or equal there and behind in the second, and so on.
    """
    pairs = list(zip(keys, token.values, strict=True))
    if segment.first_is_null:
        pairs = pairs[1:]
    condition = "false"
    for key, value in reversed(pairs):
        behind, equal = _behind(key, value, token.backwards, arguments)
        condition = f"({behind} OR ({equal} AND {condition}))"
    first, value = pairs[0]
    if segment.first_is_null or value is None:
        return condition
    # Implied by the rest, and what lets the index be entered at the right place.
    sign = "<=" if first.descending != token.backwards else ">="
    return f"{first.expression.sql} {sign} {first.argument(arguments, value)} AND {condition}"


def _behind(key: Key, value: str | None, backwards: bool, arguments: Arguments) -> tuple[str, str]:
    """Conditions of lying behind a value of one key, and of being equal to it; nulls are last."""
    sql = key.expression.sql
    if value is None:
        return (f"{sql} IS NOT NULL" if backwards else "false"), f"{sql} IS NULL"
    argument = key.argument(arguments, value)
    sign = "<" if key.descending != backwards else ">"
    behind = f"{sql} {sign} {argument}"
    if key.nullable and not backwards:
        behind = f"({behind} OR {sql} IS NULL)"
    return behind, f"{sql} = {argument}"


def _check_value(key: Key, value: str | None) -> None:
    if value is None:
        if not key.nullable:
            raise ValueError("a key that every item has")
    elif key.expression.type is Type.JSON:
        orjson.loads(value)
        if "\\u0000" in value:
            raise ValueError("no text of PostgreSQL")
    elif key.expression.type is Type.TIME:
        if not _WRITTEN_TIME.match(value):
            raise ValueError("not as PostgreSQL writes times")
        datetime.fromisoformat(value)
    elif "\0" in value:
        raise ValueError("no text of PostgreSQL")


def _direction(descending: bool) -> str:
    return "DESC" if descending else "ASC"


def _bad_sort(place: str, detail: str) -> Problem:
    return Problem(400, f"The sort order is not valid: {detail}.", [Fault(place, detail)])
