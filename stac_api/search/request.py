"""What a search asks for, read from a POST body or from the parameters of a GET."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from stac_api.documents import Document
from stac_api.problems import Fault, Problem, pointer
from stac_api.search import cql2_text
from stac_api.search.cql2 import Filter
from stac_api.search.fields import Fields
from stac_api.search.sorting import Key, Segment, read_keys
from stac_api.search.statement import Argument
from stac_api.strict_json import parse_json
from stac_api.validation import parse_time

DEFAULT_LIMIT = 10
MAX_LIMIT = 10_000
_FILTER_LANGUAGES = ("cql2-json", "cql2-text")
_QUERY_OPERATORS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_NUMBER = re.compile(r"\A-?\d{1,18}(\.\d{1,18})?\Z", re.ASCII)
_DECIMAL = re.compile(r"\A[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_CRS = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
# The database takes time that grows faster than the text; who searches for words needs a few.
_MAX_FREE_TEXT = 2_000
_KNOWN = frozenset(
    {
        "bbox",
        "collections",
        "datetime",
        "fields",
        "filter",
        "filter-crs",
        "filter-lang",
        "ids",
        "intersects",
        "limit",
        "q",
        "query",
        "sortby",
        "token",
    }
)


@dataclass(frozen=True, eq=False)
class SearchRequest:
    """A search, checked as far as that is possible without the database.

    Many ask for the same again and again: what is made of it is kept with it.
    """

    collections: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    bbox: list[float] | None = None
    intersects: Document | None = None
    interval: tuple[str | None, str | None] | None = None
    filters: tuple[Filter, ...] = ()
    """All of them must hold."""
    free_text: tuple[str, ...] = ()
    sort_by: list[Document] = field(default_factory=list)
    fields: Fields | None = None
    limit: int = DEFAULT_LIMIT
    token: str | None = None
    statements: dict[tuple[str, Segment], tuple[str, list[Argument]]] = field(default_factory=dict)
    """SQL of its first page by table and part, with the arguments, as far as it was made."""

    @cached_property
    def keys(self) -> list[Key]:
        """What it is sorted by, with tie-breakers."""
        return read_keys(self.sort_by, one_collection=len(self.collections) == 1)


def read_search(body: Document) -> SearchRequest:
    """The search of a POST body."""
    unknown = sorted(body.keys() - _KNOWN)
    if unknown:
        raise unknown_parameter(unknown[0])
    if body.get("bbox") is not None and body.get("intersects") is not None:
        raise _fault("/intersects", "cannot be combined with bbox")
    language = body.get("filter-lang")
    if language is not None and language not in _FILTER_LANGUAGES:
        raise _fault("/filter-lang", f"must be {' or '.join(_FILTER_LANGUAGES)}")
    if body.get("filter-crs") not in (None, _CRS):
        raise _fault("/filter-crs", f"must be {_CRS}, or left out")
    filters = [] if body.get("filter") is None else [_filter(body["filter"], language)]
    if body.get("query") is not None:
        filters += _query(body["query"])
    return SearchRequest(
        collections=_names(body.get("collections"), "/collections"),
        ids=_texts(body.get("ids"), "/ids"),
        bbox=body.get("bbox"),
        intersects=body.get("intersects"),
        interval=_interval(body.get("datetime")),
        filters=tuple(filters),
        free_text=_free_text(body.get("q")),
        sort_by=[] if body.get("sortby") is None else body["sortby"],
        fields=_fields(body["fields"]) if "fields" in body else None,
        limit=_limit(body.get("limit")),
        token=body.get("token"),
    )


def read_parameters(parameters: Mapping[str, str]) -> SearchRequest:
    """The search of a GET: the same, spelled as text."""
    body: Document = {name: _READERS.get(name, str)(value) for name, value in parameters.items()}
    if "filter" in body and body.setdefault("filter-lang", "cql2-text") == "cql2-json":
        body["filter"] = _json(str(body["filter"]), "filter")
    return read_search(body)


def unknown_parameter(name: str) -> Problem:
    """400: what a client meant by it would not be done."""
    return _fault(pointer(name), "is no parameter of a search")


def _filter(value: Any, language: Any) -> Filter:
    if language is None:
        language = "cql2-text" if isinstance(value, str) else "cql2-json"
    if language == "cql2-json":
        return Filter(value)
    if not isinstance(value, str):
        raise _fault("/filter", "must be a text in cql2-text")
    try:
        return Filter(cql2_text.parse(value), as_given=False)
    except ValueError as error:
        raise _fault("/filter", f"is not CQL2 text: {error}") from error


def _query(query: Any) -> list[Filter]:
    """The query extension's filter as CQL2."""
    if not isinstance(query, dict):
        raise _fault("/query", "must be an object")
    conditions: list[Filter] = []
    for name, operators in query.items():
        if not isinstance(operators, dict):
            raise _fault(pointer("query", name), "must be an object of operators")
        for operator, value in operators.items():
            place = pointer("query", name, operator)
            condition = _query_condition(name, operator, value, place)
            conditions.append(Filter(condition, place, as_given=False))
    return conditions


def _query_condition(name: str, operator: str, value: Any, place: str) -> Any:
    subject = {"property": name}
    if isinstance(value, dict):
        raise _fault(place, "must be a plain value")
    if operator in _QUERY_OPERATORS:
        return _query_comparison(operator, subject, value)
    if operator == "in":
        return {"op": "in", "args": [subject, value]}
    patterns = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}
    if operator in patterns:
        if not isinstance(value, str):
            raise _fault(place, "must be a text")
        escaped = re.sub(r"([\\%_])", r"\\\1", value)
        return {"op": "like", "args": [subject, patterns[operator].format(escaped)]}
    known = ", ".join([*_QUERY_OPERATORS, "in", *patterns])
    raise _fault(place, f"is none of the operators {known}")


def _query_comparison(operator: str, subject: Document, value: Any) -> Any:
    comparison = {"op": _QUERY_OPERATORS[operator], "args": [subject, value]}
    if not isinstance(value, str) or not _NUMBER.match(value):
        return comparison
    # pystac-client sends every value of query=["eo:cloud_cover<10"] as text.
    exact = float(value) if "." in value else int(value)
    number = {"op": _QUERY_OPERATORS[operator], "args": [subject, exact]}
    return {"op": "and" if operator == "neq" else "or", "args": [comparison, number]}


def _interval(value: Any) -> tuple[str | None, str | None] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _fault("/datetime", "must be a time or an interval start/end")
    parts = value.split("/")
    if len(parts) > 2:
        raise _fault("/datetime", "must be a time or an interval start/end")
    (start, start_time), (end, end_time) = _end(parts[0]), _end(parts[-1])
    if len(parts) == 2 and start is None and end is None:
        raise _fault("/datetime", "must have a start or an end")
    if start is None and len(parts) == 1:
        raise _fault("/datetime", "must be a time")
    if start_time is not None and end_time is not None and start_time > end_time:
        raise _fault("/datetime", "ends before it starts")
    return start, end


def _end(text: str) -> tuple[str, datetime] | tuple[None, None]:
    if text in ("", ".."):
        return None, None
    try:
        return text, parse_time(text)
    except ValueError as error:
        raise _fault("/datetime", str(error)) from error


def _texts(value: Any, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) and "\0" not in v for v in value):
        raise _fault(place, "must be an array of texts")
    return tuple(value)


def _names(value: Any, place: str) -> tuple[str, ...]:
    """One text stands for an array of one."""
    return _texts([value] if isinstance(value, str) else value, place)


def _free_text(value: Any) -> tuple[str, ...]:
    words = _names(value, "/q")
    if sum(map(len, words)) > _MAX_FREE_TEXT:
        raise _fault("/q", f"has more than {_MAX_FREE_TEXT} characters")
    return tuple(word for word in words if word.strip())


def _fields(value: Any) -> Fields:
    if not isinstance(value, dict):
        raise _fault("/fields", "must be an object with include and exclude")
    unknown = sorted(value.keys() - {"include", "exclude"})
    if unknown:
        raise _fault(pointer("fields", unknown[0]), "is neither include nor exclude")
    include = frozenset(_texts(value.get("include"), "/fields/include"))
    exclude = frozenset(_texts(value.get("exclude"), "/fields/exclude"))
    return Fields(include, exclude - include, everything="include" not in value and bool(exclude))


def _field_lists(text: str) -> Document:
    names = [part.strip() for part in text.split(",") if part.strip()]
    include = [name.removeprefix("+") for name in names if not name.startswith("-")]
    exclude = [name[1:] for name in names if name.startswith("-")]
    return {"exclude": exclude, **({"include": include} if include else {})}


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _sort_entry(text: str) -> Document:
    text = text.strip()
    direction = "desc" if text.startswith("-") else "asc"
    return {"field": text.lstrip("+-").strip(), "direction": direction}


def _limit(value: Any) -> int:
    if value is None:
        return DEFAULT_LIMIT
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _fault("/limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    # OGC API Features: a limit above the server's is taken as the server's.
    return min(value, MAX_LIMIT)


def _integer(text: str) -> int:
    if not re.match(r"\A-?[0-9]{1,9}\Z", text):
        raise _fault("/limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _number(text: str, name: str) -> float:
    if not _DECIMAL.match(text.strip()):
        raise _fault(f"/{name}", f"{text[:40]!r} is not a number")
    return float(text)


def _json(text: str, name: str) -> Any:
    try:
        return parse_json(text.encode())
    except Problem as problem:
        faults = [Fault(pointer(name) + fault.pointer, fault.detail) for fault in problem.faults]
        detail = f"{name} is not understood. {problem.detail.replace('The body', 'It')}"
        raise Problem(problem.status, detail, faults) from problem


def _fault(place: str, detail: str) -> Problem:
    name = place.lstrip("/").replace("/", ".")
    return Problem(400, f"The search is not valid: {name} {detail}.", [Fault(place, detail)])


_READERS: dict[str, Callable[[str], Any]] = {
    "collections": _parts,
    "ids": _parts,
    "q": _parts,
    "bbox": lambda text: [_number(part, "bbox") for part in text.split(",")],
    "intersects": lambda text: _json(text, "intersects"),
    "query": lambda text: _json(text, "query"),
    "limit": _integer,
    "sortby": lambda text: [_sort_entry(part) for part in _parts(text)],
    "fields": _field_lists,
}
"""How the text of a parameter becomes what a body holds; the rest are texts in both."""
