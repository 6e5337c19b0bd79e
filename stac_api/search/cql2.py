"""CQL2 (OGC 21-065r2) in its JSON encoding, compiled to SQL with arguments.

Values are compared by their type: ``mlops:progress > 0.5`` is true of numbers above 0.5 and of
nothing else, so no value that an item may hold makes a filter fail. What an item lacks, or has as
null, is unknown: what is said of it is neither true nor false, and nor is that negated (the truth
table in clause 6.2 of the standard).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stac_api.problems import Fault, Problem, pointer
from stac_api.search.properties import Expression, Type, expression_of
from stac_api.search.spatial import envelope, geometry, related
from stac_api.search.statement import Arguments
from stac_api.search.temporal import TEMPORAL, instant
from stac_api.validation import parse_time

_MAX_NODES = 500
# In JSON an operation takes two levels: its own, and that of its arguments.
_MAX_DEPTH = 64
_COMPARISONS = {"=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "div", "^"})
_SPATIAL = frozenset(
    {
        *("s_intersects", "s_equals", "s_disjoint", "s_touches"),
        *("s_within", "s_overlaps", "s_crosses", "s_contains"),
    }
)
_ARRAY = {
    "a_contains": "mlops.has_all({a}, {b})",
    "a_containedBy": "mlops.has_all({b}, {a})",
    # As drafts of CQL2 had it.
    "a_containedby": "mlops.has_all({b}, {a})",
    "a_equals": "mlops.has_all({a}, {b}) AND mlops.has_all({b}, {a})",
    "a_overlaps": "mlops.has_any({a}, {b})",
}
# A backslash takes the meaning from what follows it, so something must.
_PATTERN = re.compile(r"(?:[^\\]|\\.)*", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """A filter in CQL2 JSON, and the JSON Pointer to where the request says it.

    ``as_given`` is False where the request spells it otherwise, so that no pointer leads into it.
    """

    condition: Any
    place: str = "/filter"
    as_given: bool = True


class Compiler:
    """Compiles the filters of one search, which are bounded together."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._filter = Filter(None)
        self._nodes = 0
        self._negations = 0
        self._properties: list[Expression] = []

    def compile(self, filter_: Filter) -> str:
        """The SQL condition of a filter."""
        self._filter = filter_
        return self._condition(filter_.condition, ())

    def _condition(self, node: Any, path: tuple[object, ...]) -> str:
        if isinstance(node, bool):
            return "true" if node else "false"
        operator, arguments = self._operation(node, path)
        if operator in ("and", "or"):
            if len(arguments) < 2:
                raise self._fault(path, f"{operator} takes two or more arguments")
            parts = [self._condition(a, (*path, "args", n)) for n, a in enumerate(arguments)]
            return f"({f' {operator.upper()} '.join(parts)})"
        if operator == "not":
            self._count(arguments, 1, operator, path)
            self._negations += 1
            inner = self._condition(arguments[0], (*path, "args", 0))
            self._negations -= 1
            return f"(NOT {inner})"
        if self._negations and operator != "isNull":
            return self._three_valued(operator, arguments, path)
        return self._predicate(operator, arguments, path)

    def _three_valued(self, operator: str, arguments: list[Any], path: tuple[object, ...]) -> str:
        """A predicate that is false only where all that it speaks of is known.

        Where nothing is negated there is no need to tell false from unknown, and no index would
        serve this.
        """
        self._properties = []
        predicate = self._predicate(operator, arguments, path)
        known = " AND ".join(
            f"{value.sql} <> 'null'::jsonb"
            if value.type is Type.JSON
            else f"{value.sql} IS NOT NULL"
            for value in self._properties
        )
        return f"(CASE WHEN {predicate} THEN true WHEN {known or 'true'} THEN false END)"

    def _predicate(self, operator: str, arguments: list[Any], path: tuple[object, ...]) -> str:
        if operator in _COMPARISONS:
            self._count(arguments, 2, operator, path)
            left, right = self._operands(arguments, path)
            return self._compare(_COMPARISONS[operator], left, right, path)
        if operator in _SPATIAL:
            self._count(arguments, 2, operator, path)
            a, b = (self._geometry(x, (*path, "args", n)) for n, x in enumerate(arguments))
            return related(operator, a, b)
        if operator in TEMPORAL:
            self._count(arguments, 2, operator, path)
            (a, a_end), (b, b_end) = (
                self._range(x, (*path, "args", n)) for n, x in enumerate(arguments)
            )
            relation = TEMPORAL[operator].format(a=a, ae=a_end, b=b, be=b_end)
            # Of a range with an end that is not known nothing is known; and a statement may have
            # no argument that it does not use.
            return f"(({relation}) AND num_nulls({a}, {a_end}, {b}, {b_end}) = 0)"
        if operator in _ARRAY:
            self._count(arguments, 2, operator, path)
            a, b = (self._array(x, (*path, "args", n)) for n, x in enumerate(arguments))
            return f"({_ARRAY[operator].format(a=a, b=b)})"
        special: dict[str, Callable[[list[Any], tuple[object, ...]], str]] = {
            "like": self._like,
            "between": self._between,
            "in": self._in,
            "isNull": self._is_null,
        }
        if operator not in special:
            raise self._fault((*path, "op"), f"{operator[:40]!r} is no operator of CQL2")
        return special[operator](arguments, path)

    def _like(self, arguments: list[Any], path: tuple[object, ...]) -> str:
        self._count(arguments, 2, "like", path)
        self._check_pattern(arguments[1], (*path, "args", 1))
        value, pattern = self._operands(arguments, path)
        return f"({self._text(value, path)} LIKE {self._text(pattern, path)})"

    def _check_pattern(self, node: Any, path: tuple[object, ...]) -> None:
        """A pattern is said by the filter: one that an item holds might be none."""
        if isinstance(node, dict) and node.get("op") in ("casei", "accenti"):
            arguments = node.get("args")
            if isinstance(arguments, list) and len(arguments) == 1:
                self._check_pattern(arguments[0], (*path, "args", 0))
        elif not isinstance(node, str):
            raise self._fault(path, "must be a text, or casei or accenti of one")
        elif not _PATTERN.fullmatch(node):
            raise self._fault(path, "ends with a backslash; two of them stand for one")

    def _between(self, arguments: list[Any], path: tuple[object, ...]) -> str:
        if len(arguments) == 2 and isinstance(arguments[1], list):
            # As drafts of CQL2 had it, and some clients still send it.
            arguments = [arguments[0], *arguments[1]]
        self._count(arguments, 3, "between", path)
        value, low, high = self._operands(arguments, path)
        above = self._compare(">=", value, low, path)
        return f"({above} AND {self._compare('<=', value, high, path)})"

    def _in(self, arguments: list[Any], path: tuple[object, ...]) -> str:
        self._count(arguments, 2, "in", path)
        if not isinstance(arguments[1], list):
            raise self._fault((*path, "args", 1), "must be an array of values")
        if not arguments[1]:
            return "false"
        value = self._value(arguments[0], (*path, "args", 0))
        choices = [
            self._compare("=", value, self._value(choice, (*path, "args", 1, n)), path)
            for n, choice in enumerate(arguments[1])
        ]
        return f"({' OR '.join(choices)})"

    def _is_null(self, arguments: list[Any], path: tuple[object, ...]) -> str:
        self._count(arguments, 1, "isNull", path)
        value = self._value(arguments[0], (*path, "args", 0))
        if value.type is Type.JSON:
            return f"({value.sql} IS NULL OR {value.sql} = 'null'::jsonb)"
        return f"({value.sql} IS NULL)"

    def _compare(
        self, operator: str, left: Expression, right: Expression, path: tuple[object, ...]
    ) -> str:
        types = {left.type, right.type}
        if Type.GEOMETRY in types:
            raise self._fault(path, "these values cannot be compared; use a spatial operator")
        if Type.TIME in types:
            self._check_times((left, right), path)
            return f"({instant(left)} {operator} {instant(right)})"
        if Type.NUMBER in types:
            return f"({self._number(left, path)} {operator} {self._number(right, path)})"
        if Type.TEXT in types:
            return f"({self._text(left, path)} {operator} {self._text(right, path)})"
        # JSON orders values of different types, too: only those of one type are compared.
        alike = f"jsonb_typeof({left.sql}) = jsonb_typeof({right.sql})"
        if operator == "=":
            # What two items do not know is not the same; a filter may ask for null itself.
            known = f" AND {left.sql} <> 'null'::jsonb" if left.path and right.path else ""
            return f"({left.sql} = {right.sql}{known})"
        if operator == "<>":
            there = f"{left.sql} <> 'null'::jsonb AND {right.sql} <> 'null'::jsonb"
            return f"({left.sql} <> {right.sql} AND {there})"
        return f"({left.sql} {operator} {right.sql} AND {alike})"

    def _check_times(self, values: tuple[Expression, ...], path: tuple[object, ...]) -> None:
        for value in values:
            if value.type not in (Type.TIME, Type.JSON):
                raise self._fault(path, "these values cannot be compared: one of them is a time")
            if value.literal is not None:
                self._read_time(value.literal, path)

    def _array(self, node: Any, path: tuple[object, ...]) -> str:
        value = self._value(node, path)
        if value.type is not Type.JSON or not isinstance(node, dict | list):
            raise self._fault(path, "must be an array")
        return value.sql

    def _operands(self, arguments: list[Any], path: tuple[object, ...]) -> list[Expression]:
        return [self._value(a, (*path, "args", n)) for n, a in enumerate(arguments)]

    def _value(self, node: Any, path: tuple[object, ...]) -> Expression:
        self._tick(path)
        if isinstance(node, dict):
            return self._object(node, path)
        # A text, number, truth value, null, or array of those.
        if isinstance(node, list) and any(isinstance(entry, dict) for entry in node):
            raise self._fault(path, "arrays hold plain values only")
        return Expression(self._arguments.json(node), Type.JSON, literal=node)

    def _object(self, node: dict[str, Any], path: tuple[object, ...]) -> Expression:
        if "property" in node:
            value = expression_of(node["property"], self._at((*path, "property")))
            self._properties.append(value)
            return value
        for kind in ("timestamp", "date"):
            if kind in node:
                return Expression(self._time(node[kind], (*path, kind)), Type.TIME)
        if "op" in node:
            return self._function(node, path)
        raise self._fault(path, "is no value of CQL2")

    def _function(self, node: dict[str, Any], path: tuple[object, ...]) -> Expression:
        operator, arguments = self._operation(node, path)
        if operator in ("casei", "accenti"):
            self._count(arguments, 1, operator, path)
            text = self._text(self._value(arguments[0], (*path, "args", 0)), path)
            function = "lower" if operator == "casei" else "public.unaccent"
            return Expression(f"{function}({text})", Type.TEXT)
        if operator in _ARITHMETIC:
            self._count(arguments, 2, operator, path)
            a, b = (self._number(x, path) for x in self._operands(arguments, path))
            return Expression(f"mlops.calculate({a}, '{operator}', {b})", Type.NUMBER)
        raise self._fault((*path, "op"), f"{operator[:40]!r} is no function of CQL2")

    def _text(self, value: Expression, path: tuple[object, ...]) -> str:
        if value.type is Type.JSON:
            return f"mlops.string({value.sql})"
        if value.type is Type.TEXT:
            return value.sql
        raise self._fault(path, "must be a text")

    def _number(self, value: Expression, path: tuple[object, ...]) -> str:
        if value.type is Type.JSON:
            return f"mlops.number({value.sql})"
        if value.type is Type.NUMBER:
            return value.sql
        raise self._fault(path, "must be a number")

    def _geometry(self, node: Any, path: tuple[object, ...]) -> str:
        self._tick(path)
        if isinstance(node, dict) and "property" in node:
            value = self._object(node, path)
            if value.type is not Type.GEOMETRY:
                raise self._fault(path, "must be the geometry")
            return value.sql
        # A GeoJSON geometry may carry the box around it; what is asked about is the geometry.
        if isinstance(node, dict) and "bbox" in node and "type" not in node:
            return envelope(self._arguments, node["bbox"], self._at((*path, "bbox")))
        return geometry(self._arguments, node, self._at(path))

    def _range(self, node: Any, path: tuple[object, ...]) -> tuple[str, str]:
        if isinstance(node, dict) and "interval" in node:
            ends = node["interval"]
            if not isinstance(ends, list) or len(ends) != 2:
                raise self._fault((*path, "interval"), "must be a start and an end")
            start, end = (
                self._interval_end(value, (*path, "interval", n)) for n, value in enumerate(ends)
            )
            if all(isinstance(value, str) and value != ".." for value in ends):
                first, last = (parse_time(self._read_time(value, path)) for value in ends)
                if first > last:
                    raise self._fault((*path, "interval"), "ends before it starts")
            return start or "'-infinity'::timestamptz", end or "'infinity'::timestamptz"
        if not isinstance(node, dict | str):
            raise self._fault(path, "must be a time or an interval")
        value = self._value(node, path)
        self._check_times((value,), path)
        start = instant(value)
        return start, value.end or start

    def _interval_end(self, value: Any, path: tuple[object, ...]) -> str | None:
        if value == "..":
            return None
        if isinstance(value, dict):
            return instant(self._object(value, path))
        return self._time(value, path)

    def _time(self, value: Any, path: tuple[object, ...]) -> str:
        # As a text: the database rounds it as it rounds the times of items.
        return self._arguments.add(self._read_time(value, path), "text::timestamptz")

    def _read_time(self, value: Any, path: tuple[object, ...]) -> str:
        text = f"{value}T00:00:00Z" if isinstance(value, str) and len(value) == 10 else value
        try:
            parse_time(text)
        except ValueError as error:
            raise self._fault(path, str(error)) from error
        return str(text)

    def _operation(self, node: Any, path: tuple[object, ...]) -> tuple[str, list[Any]]:
        self._tick(path)
        if not isinstance(node, dict) or not isinstance(node.get("op"), str):
            raise self._fault(path, "must be an operation with op and args")
        arguments = node.get("args")
        if not isinstance(arguments, list):
            raise self._fault((*path, "args"), "must be an array")
        return node["op"], arguments

    def _count(
        self, arguments: list[Any], count: int, operator: str, path: tuple[object, ...]
    ) -> None:
        if len(arguments) != count:
            raise self._fault((*path, "args"), f"{operator} takes {count} arguments")

    def _tick(self, path: tuple[object, ...]) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise self._fault(path, f"a filter has at most {_MAX_NODES} parts")
        if len(path) > _MAX_DEPTH:
            raise self._fault((), f"is nested deeper than {_MAX_DEPTH // 2} operations")

    def _fault(self, path: tuple[object, ...], detail: str) -> Problem:
        return Problem(
            400,
            f"The filter is not valid: {detail}.",
            [Fault(self._at(path), detail)],
        )

    def _at(self, path: tuple[object, ...]) -> str:
        """Where the request holds a part of the filter."""
        return self._filter.place + (pointer(*path) if self._filter.as_given else "")
