"""What a search asks for, read from a POST body or from the parameters of a GET."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stac_api.documents import Document
from stac_api.problems import Fault, Problem
from stac_api.search.fields import Fields
from stac_api.strict_json import parse_json
from stac_api.validation import parse_time

DEFAULT_LIMIT = 10
MAX_LIMIT = 10_000
_FILTER_LANGUAGES = ("cql2-json", "cql2-text")
_QUERY_OPERATORS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_NUMBER = re.compile(r"\A-?\d{1,18}(\.\d{1,18})?\Z", re.ASCII)
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
        "conf",
    }
)


@dataclass(frozen=True)
class SearchRequest:
    """A search, checked as far as that is possible without the database."""

    collections: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    bbox: list[float] | None = None
    intersects: Document | None = None
    interval: tuple[datetime | None, datetime | None] | None = None
    filters: tuple[Any, ...] = ()
    """CQL2 JSON; all of them must hold."""
    free_text: tuple[str, ...] = ()
    sort_by: list[Document] = field(default_factory=list)
    fields: Fields | None = None
    limit: int = DEFAULT_LIMIT
    token: str | None = None


def read_body(body: Document) -> SearchRequest:
    """The search of a POST body."""
    unknown = sorted(body.keys() - _KNOWN)
    if unknown:
        raise _fault(f"/{unknown[0]}", "is no parameter of a search")
    if body.get("bbox") is not None and body.get("intersects") is not None:
        raise _fault("/intersects", "cannot be combined with bbox")
    filters = [] if body.get("filter") is None else [_filter(body["filter"], body)]
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
        sort_by=body.get("sortby") or [],
        fields=_fields(body["fields"]) if "fields" in body else None,
        limit=_limit(body.get("limit")),
        token=body.get("token"),
    )


def read_parameters(parameters: Mapping[str, str]) -> SearchRequest:
    """The search of a GET: the same, spelled as text."""
    body: Document = {
        name: _READERS.get(name, str)(value) for name, value in parameters.items() if name in _KNOWN
    }
    if "filter" in body:
        language = body.setdefault("filter-lang", "cql2-text")
        if language == "cql2-json":
            body["filter"] = parse_json(str(body["filter"]).encode())
    return read_body(body)


def _filter(value: Any, body: Document) -> Any:
    language = body.get("filter-lang", "cql2-text" if isinstance(value, str) else "cql2-json")
    if language not in _FILTER_LANGUAGES:
        raise _fault("/filter-lang", f"must be {' or '.join(_FILTER_LANGUAGES)}")
    if language == "cql2-json":
        return value
    if not isinstance(value, str):
        raise _fault("/filter", "must be a text in cql2-text")
    try:
        # A library of 12 MB, which filters in JSON do without.
        from cql2 import Expr

        return Expr(value).to_json()
    except Exception as error:
        raise _fault("/filter", f"is not CQL2 text: {str(error).splitlines()[0]}") from error


def _query(query: Any) -> list[Any]:
    """The query extension's filter as CQL2."""
    if not isinstance(query, dict):
        raise _fault("/query", "must be an object")
    conditions: list[Any] = []
    for name, operators in query.items():
        if not isinstance(operators, dict):
            raise _fault(f"/query/{name}", "must be an object of operators")
        for operator, value in operators.items():
            conditions.append(_query_condition(name, operator, value))
    return conditions


def _query_condition(name: str, operator: str, value: Any) -> Any:
    subject = {"property": name}
    if operator in _QUERY_OPERATORS:
        return _query_comparison(operator, subject, value)
    if operator == "in":
        return {"op": "in", "args": [subject, value]}
    patterns = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}
    if operator in patterns and isinstance(value, str):
        escaped = re.sub(r"([\\%_])", r"\\\1", value)
        return {"op": "like", "args": [subject, patterns[operator].format(escaped)]}
    known = ", ".join([*_QUERY_OPERATORS, "in", *patterns])
    raise _fault(f"/query/{name}/{operator}", f"must be one of {known}")


def _query_comparison(operator: str, subject: Document, value: Any) -> Any:
    comparison = {"op": _QUERY_OPERATORS[operator], "args": [subject, value]}
    if not isinstance(value, str) or not _NUMBER.match(value):
        return comparison
    # pystac-client sends every value of query=["eo:cloud_cover<10"] as text.
    number = {"op": _QUERY_OPERATORS[operator], "args": [subject, float(value)]}
    return {"op": "and" if operator == "neq" else "or", "args": [comparison, number]}


def _interval(value: Any) -> tuple[datetime | None, datetime | None] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _fault("/datetime", "must be a time or an interval start/end")
    parts = value.split("/")
    if len(parts) > 2:
        raise _fault("/datetime", "must be a time or an interval start/end")
    ends = [_end(part) for part in parts]
    start, end = ends[0], ends[-1]
    if len(parts) == 2 and start is None and end is None:
        raise _fault("/datetime", "must have a start or an end")
    if start is None and len(parts) == 1:
        raise _fault("/datetime", "must be a time")
    if start is not None and end is not None and start > end:
        raise _fault("/datetime", "ends before it starts")
    return start, end


def _end(text: str) -> datetime | None:
    if text in ("", ".."):
        return None
    try:
        return parse_time(text)
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
    return _names(value, "/q")


def _fields(value: Any) -> Fields:
    if not isinstance(value, dict):
        raise _fault("/fields", "must be an object with include and exclude")
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
    try:
        return float(text)
    except ValueError as error:
        raise _fault(f"/{name}", f"{text[:40]!r} is not a number") from error


def _fault(place: str, detail: str) -> Problem:
    name = place.lstrip("/").split("/")[0]
    return Problem(400, f"The search is not valid: {name} {detail}.", [Fault(place, detail)])


_READERS: dict[str, Callable[[str], Any]] = {
    "collections": _parts,
    "ids": _parts,
    "q": _parts,
    "bbox": lambda text: [_number(part, "bbox") for part in text.split(",")],
    "intersects": lambda text: parse_json(text.encode()),
    "query": lambda text: parse_json(text.encode()),
    "limit": _integer,
    "sortby": lambda text: [_sort_entry(part) for part in _parts(text)],
    "fields": _field_lists,
}
"""How the text of a parameter becomes what a body holds; the rest are texts in both."""
