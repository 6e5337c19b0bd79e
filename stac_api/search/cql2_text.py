"""CQL2 (OGC 21-065r2) in its text encoding, read into the JSON encoding.

Read once from left to right, and to a bounded depth: what anybody may send must neither take a time
that doubles with each parenthesis nor use up the stack.
"""

import math
import re
from collections.abc import Callable
from typing import Any

_MAX_DEPTH = 32
# A polygon of some thousand corners: what is longer is better sent as JSON, which is read faster.
_MAX_LENGTH = 100_000
_PIECE = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>(?:[^\W\d]|:)[\w:.]*)
    |(?P<quoted>"[^"]*(?:""[^"]*)*")
    |(?P<text>'[^']*(?:''[^']*)*')
    |(?P<sign><>|!=|<=|>=|[=<>+\-*/%^(),])
    |(?P<end>\Z)
    )""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"\d{1,18}\Z")
_COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SUMS = frozenset({"+", "-"})
_PRODUCTS = frozenset({"*", "/", "%", "div"})
# Words that stand between values; as names of properties they need quotes.
_WORDS = frozenset({"and", "or", "not", "like", "between", "in", "is", "div"})
_LITERALS = {"true": True, "false": False, "null": None}
_SPATIAL = ("intersects", "equals", "disjoint", "touches", "within", "overlaps", "crosses")
_TEMPORAL = (
    *("after", "before", "contains", "disjoint", "during", "equals", "finishedBy", "finishes"),
    *("intersects", "meets", "metBy", "overlappedBy", "overlaps", "startedBy", "starts"),
)
_OPERATORS = {
    name.lower(): name
    for name in (
        *(f"s_{name}" for name in (*_SPATIAL, "contains")),
        *(f"t_{name}" for name in _TEMPORAL),
        *("a_equals", "a_contains", "a_containedBy", "a_overlaps", "casei", "accenti"),
    )
}
_ARRAYS = frozenset({"a_equals", "a_contains", "a_containedBy", "a_overlaps"})
# How many lists lie around a position.
_GEOMETRIES = {
    "point": ("Point", 0),
    "linestring": ("LineString", 1),
    "polygon": ("Polygon", 2),
    "multipoint": ("MultiPoint", 1),
    "multilinestring": ("MultiLineString", 2),
    "multipolygon": ("MultiPolygon", 3),
}
_COLLECTION = "geometrycollection"


def parse(text: str) -> Any:
    """The CQL2 JSON of a filter; ValueError says what is wrong and at which character."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"is longer than {_MAX_LENGTH} characters: send it as CQL2 JSON")
    if text.lstrip()[:1] in ("{", "["):
        raise ValueError("looks like CQL2 JSON: say filter-lang=cql2-json")
    return _Parser(text).filter()


class _Parser:
    """Recursive descent with one token in hand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._end = 0
        self._kind = ""
        self._piece = ""
        self._start = 0
        self._next()

    def filter(self) -> Any:
        """The whole of the text."""
        expression = self._any()
        if self._kind != "end":
            raise self._wrong("an operator or the end")
        return expression

    # From what binds least to what binds most.

    def _any(self) -> Any:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, operator: str, part: Callable[[], Any]) -> Any:
        parts = [part()]
        while self._took_word(operator):
            parts.append(part())
        return parts[0] if len(parts) == 1 else _operation(operator, *parts)

    def _negation(self) -> Any:
        negations = 0
        while self._took_word("not"):
            negations += 1
        if negations > _MAX_DEPTH:
            raise self._too_deep()
        condition = self._comparison()
        for _ in range(negations):
            condition = _operation("not", condition)
        return condition

    def _comparison(self) -> Any:
        left = self._sum()
        if self._kind == "sign" and (sign := _COMPARISONS.get(self._piece)):
            self._next()
            return _operation(sign, left, self._sum())
        if self._took_word("is"):
            negated = self._took_word("not")
            self._word("null")
            return _negated(_operation("isNull", left), negated)
        negated = self._took_word("not")
        if self._took_word("like"):
            return _negated(_operation("like", left, self._sum()), negated)
        if self._took_word("between"):
            low = self._sum()
            self._word("and")
            return _negated(_operation("between", left, low, self._sum()), negated)
        if self._took_word("in"):
            return _negated(_operation("in", left, self._list(self._sum)), negated)
        if negated:
            raise self._wrong("LIKE, BETWEEN or IN")
        return left

    def _sum(self) -> Any:
        return self._chained(_SUMS, lambda: self._chained(_PRODUCTS, self._power))

    def _power(self) -> Any:
        return self._chained(frozenset({"^"}), self._signed)

    def _chained(self, operators: frozenset[str], part: Callable[[], Any]) -> Any:
        left = part()
        while self._kind in ("sign", "name") and (operator := self._piece.lower()) in operators:
            self._next()
            left = _operation(operator, left, part())
        return left

    def _signed(self) -> Any:
        negative = False
        while self._kind == "sign" and self._piece in _SUMS:
            negative ^= self._piece == "-"
            self._next()
        if self._kind == "number":
            return self._number(negative=negative)
        value = self._value()
        return _operation("*", -1, value) if negative else value

    def _value(self) -> Any:
        kind, piece = self._kind, self._piece
        if kind == "text":
            return self._literal()
        if kind == "quoted":
            self._next()
            return {"property": piece[1:-1].replace('""', '"')}
        if kind == "sign" and piece == "(":
            return self._nested(self._in_parentheses)
        if kind != "name" or piece.lower() in _WORDS:
            raise self._wrong("a value")
        self._next()
        if piece.lower() in _LITERALS:
            return _LITERALS[piece.lower()]
        if self._kind == "sign" and self._piece == "(":
            return self._nested(lambda: self._called(piece))
        if piece.lower() in (*_GEOMETRIES, _COLLECTION) and self._piece.lower() == "z":
            self._next()
            return self._nested(lambda: self._geometry(piece))
        return {"property": piece}

    def _in_parentheses(self) -> Any:
        self._sign("(")
        expression = self._any()
        self._sign(")")
        return expression

    def _called(self, name: str) -> Any:
        lower = name.lower()
        if lower.removesuffix("z") in (*_GEOMETRIES, _COLLECTION):
            return self._geometry(name)
        if lower == "bbox":
            return {"bbox": self._list(self._coordinate)}
        if lower in ("date", "timestamp"):
            self._sign("(")
            value = self._literal()
            self._sign(")")
            return {lower: value}
        if lower == "interval":
            return {"interval": self._list(self._sum)}
        operator = _OPERATORS.get(lower, name)
        argument = self._array_or_any if operator in _ARRAYS else self._any
        return _operation(operator, *self._list(argument, may_be_empty=True))

    def _array_or_any(self) -> Any:
        if self._kind == "sign" and self._piece == "(":
            return self._nested(lambda: self._list(self._array_or_any, may_be_empty=True))
        return self._any()

    def _geometry(self, name: str) -> Any:
        lower = name.lower().removesuffix("z")
        if lower == _COLLECTION:
            return {"type": "GeometryCollection", "geometries": self._list(self._member)}
        kind, nesting = _GEOMETRIES[lower]
        return {"type": kind, "coordinates": self._coordinates(kind, nesting)}

    def _member(self) -> Any:
        name = self._piece
        if self._kind != "name" or name.lower().removesuffix("z") not in _GEOMETRIES:
            raise self._wrong("a geometry")
        self._next()
        if self._piece.lower() == "z":
            self._next()
        return self._geometry(name)

    def _coordinates(self, kind: str, nesting: int) -> Any:
        if nesting > 0:
            return self._list(lambda: self._coordinates(kind, nesting - 1))
        # The positions of a MultiPoint may stand in parentheses, that of a Point does.
        enclosed = kind == "Point" or (kind == "MultiPoint" and self._piece == "(")
        if enclosed:
            self._sign("(")
        position = [self._coordinate(), self._coordinate()]
        while self._kind == "number" or self._piece in _SUMS:
            position.append(self._coordinate())
        if enclosed:
            self._sign(")")
        return position

    def _coordinate(self) -> int | float:
        negative = self._piece == "-"
        if self._kind == "sign" and self._piece in _SUMS:
            self._next()
        return self._number(negative=negative)

    def _number(self, *, negative: bool) -> int | float:
        if self._kind != "number":
            raise self._wrong("a number")
        digits = self._piece
        value = int(digits) if _INTEGER.match(digits) else float(digits)
        if math.isinf(value):
            raise self._wrong("a number that a double can hold")
        self._next()
        return -value if negative else value

    def _literal(self) -> str:
        piece = self._piece
        if self._kind != "text":
            raise self._wrong("a text in single quotes")
        if "\0" in piece:
            raise self._wrong("a text without the character U+0000")
        self._next()
        return piece[1:-1].replace("''", "'")

    def _list(self, entry: Callable[[], Any], *, may_be_empty: bool = False) -> list[Any]:
        self._sign("(")
        if may_be_empty and self._kind == "sign" and self._piece == ")":
            self._next()
            return []
        entries = [entry()]
        while self._kind == "sign" and self._piece == ",":
            self._next()
            entries.append(entry())
        self._sign(")")
        return entries

    def _nested(self, inner: Callable[[], Any]) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._too_deep()
        value = inner()
        self._depth -= 1
        return value

    def _took_word(self, word: str) -> bool:
        if self._kind != "name" or self._piece.lower() != word:
            return False
        self._next()
        return True

    def _word(self, word: str) -> None:
        if not self._took_word(word):
            raise self._wrong(word.upper())

    def _sign(self, sign: str) -> None:
        if self._kind != "sign" or self._piece != sign:
            raise self._wrong(f"'{sign}'")
        self._next()

    def _next(self) -> None:
        match = _PIECE.match(self._text, self._end)
        if match is None:
            rest = self._text[self._end :].lstrip()
            self._start = len(self._text) - len(rest)
            what = "a quote that closes" if rest[:1] in "'\"" else "a value or an operator"
            self._piece = rest[:1]
            raise self._wrong(what)
        self._kind = str(match.lastgroup)
        self._piece = match[self._kind]
        self._start, self._end = match.start(self._kind), match.end()

    def _wrong(self, expected: str) -> ValueError:
        found = f"{self._piece[:40]!r}" if self._piece else "the end"
        hint = ""
        if expected == "a value" and self._kind == "name":
            hint = "; the name of a property that is a word of CQL2 stands in double quotes"
        return ValueError(f"expected {expected} at character {self._start + 1}, not {found}{hint}")

    def _too_deep(self) -> ValueError:
        return ValueError(f"is nested deeper than {_MAX_DEPTH} levels")


def _operation(operator: str, *arguments: Any) -> dict[str, Any]:
    return {"op": operator, "args": list(arguments)}


def _negated(condition: Any, negated: bool) -> Any:
    return _operation("not", condition) if negated else condition
