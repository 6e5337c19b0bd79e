"""Whatever is searched for, among items of every shape, the server does not fail."""

import functools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import bounded
from tests.fuzz.conftest import Target
from tests.fuzz.documents import dumped, mutated, values
from tests.integration.plain import plain_item

COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "like", "between", "in", "isNull"]
ARITHMETIC = ["+", "-", "*", "/", "%", "div", "^", "casei", "accenti"]
SPATIAL = ["intersects", "equals", "disjoint", "touches", "within", "overlaps", "crosses"]
TEMPORAL = [
    *("after", "before", "contains", "disjoint", "during", "equals", "finishedBy", "finishes"),
    *("intersects", "meets", "metBy", "overlappedBy", "overlaps", "startedBy", "starts"),
]
ARRAYS = ["a_equals", "a_contains", "a_containedBy", "a_overlaps"]
NAMES = [
    "x:number",
    "x:any",
    "datetime",
    "start_datetime",
    "geometry",
    "id",
    "a'b",
    "$1.é",
    "links",
]

# Some cross themselves, some have no area, some lie on either side of the antimeridian.
SHAPES: list[Any] = [
    {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]},
    {
        "type": "MultiPolygon",
        "coordinates": [
            [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]],
            [[[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]],
        ],
    },
    {"type": "LineString", "coordinates": [[1, 1], [1, 1]]},
    {"type": "Point", "coordinates": [1, 1]},
]
shapes = st.sampled_from(
    [
        *SHAPES,
        {"type": "GeometryCollection", "geometries": SHAPES},
        functools.reduce(
            lambda inner, _: {"type": "GeometryCollection", "geometries": [inner]},
            range(20),
            SHAPES[4],
        ),
        {"bbox": [1, 1, 1, 1]},
        {"bbox": [170, -10, -170, 10]},
        {"bbox": [0, 0, 0, 2, 2, 2]},
        {"property": "geometry"},
    ]
)
times = st.sampled_from(
    [
        {"timestamp": "2020-01-01T00:00:00.123456789Z"},
        {"date": "2020-01-01"},
        {"interval": ["2020-01-01", ".."]},
        {"interval": ["..", "2020-01-01T00:00:00Z"]},
        {"interval": [{"property": "x:any"}, "2020-01-01"]},
        {"property": "datetime"},
        {"property": "x:any"},
        "2020-01-01T00:00:00Z",
    ]
)
operands = st.recursive(
    st.builds(lambda name: {"property": name}, st.sampled_from(NAMES)) | values | times,
    lambda inner: st.builds(
        lambda op, args: {"op": op, "args": args},
        st.sampled_from(ARITHMETIC),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=4,
)
predicates = (
    st.builds(
        lambda op, args: {"op": op, "args": args},
        st.sampled_from([*COMPARISONS, *ARRAYS]),
        st.lists(operands, min_size=1, max_size=3),
    )
    | st.builds(
        lambda op, a, b: {"op": f"s_{op}", "args": [a, b]}, st.sampled_from(SPATIAL), shapes, shapes
    )
    | st.builds(
        lambda op, a, b: {"op": f"t_{op}", "args": [a, b]}, st.sampled_from(TEMPORAL), times, times
    )
)
filters = st.recursive(
    predicates,
    lambda inner: st.builds(
        lambda op, args: {"op": op, "args": args},
        st.sampled_from(["and", "or", "not"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
# What texts are made of; in any order, most of them are no filter.
PIECES = [
    *("(", ")", ",", "=", "<>", "+", "-", "^", "'", '"', "''", "1", "1e400", "9" * 30, "'x'"),
    *("AND", "OR", "NOT", "IN", "IS NULL", "LIKE", "BETWEEN", "DIV", "TRUE", "NULL"),
    *(
        "x:number",
        '"a\'b"',
        "datetime",
        "geometry",
        "casei(",
        "T_BEFORE(",
        "S_WITHIN(",
        "A_EQUALS(",
    ),
    *("DATE('2020-01-01')", "INTERVAL('..', '2020-01-01')", "POINT(1 1)", "BBOX(0,0,1,1)", "Z"),
    *("((((((((", "NOT NOT NOT", "- - - -", "{", "\0", "é"),
]


@bounded(60)
@given(shape=st.sampled_from(SHAPES), value=values)
def test_items_of_every_shape(target: Target, shape: Any, value: Any) -> None:
    """What the searches below are over."""
    item = {**plain_item(f"shape{SHAPES.index(shape)}"), "geometry": shape}
    del item["bbox"]
    item["properties"] |= {"x:any": value, "$1": {"é": value}}
    body = {"items": {item["id"]: item}, "method": "upsert"}
    target.send("POST", "/collections/imagery/bulk_items", dumped(body))


@bounded(400)
@given(filter_=filters | mutated({"op": "not", "args": [{"op": "=", "args": [1, 1]}]}))
def test_filters(target: Target, filter_: Any) -> None:
    target.send("POST", "/search", dumped({"filter": filter_, "filter-lang": "cql2-json"}))


@bounded(200)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_filters_in_text(target: Target, pieces: list[str]) -> None:
    body = {"filter": " ".join(pieces), "filter-lang": "cql2-text"}
    target.send("POST", "/search", dumped(body))


@bounded(150)
@given(
    search=st.fixed_dictionaries(
        {},
        optional={
            "sortby": st.lists(
                st.fixed_dictionaries({"field": st.sampled_from(NAMES)}), max_size=3
            ),
            "query": st.dictionaries(
                st.sampled_from(NAMES),
                st.dictionaries(
                    st.sampled_from(["eq", "neq", "lt", "in", "startsWith", "contains"]), values
                ),
                max_size=2,
            ),
            "intersects": st.sampled_from(SHAPES) | mutated({**SHAPES[0], "crs": {}}),
            "q": st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3),
            "token": st.text(max_size=20),
            "limit": st.just(1),
        },
    )
)
def test_searches(target: Target, search: dict[str, Any]) -> None:
    answer = target.send("POST", "/search", dumped(search))
    for link in answer.json()["links"] if answer.status_code == 200 else ():
        if link["rel"] in ("next", "prev"):
            assert target.send("POST", "/search", dumped(link["body"])).status_code == 200
