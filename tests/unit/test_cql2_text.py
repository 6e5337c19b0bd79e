"""Filters in text say the same as in JSON, and no text takes the reader long or down."""

import contextlib
import random
from typing import Any

import pytest
from cql2 import Expr

from stac_api.search.cql2_text import parse

A, B = {"property": "a"}, {"property": "b"}
POINT = {"type": "Point", "coordinates": [1, -2.5]}
RING = [[0, 0], [1, 0], [1, 1], [0, 0]]


def op(name: str, *args: Any) -> dict[str, Any]:
    return {"op": name, "args": list(args)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", op("=", A, 1)),
        ("a = 9007199254740993", op("=", A, 9007199254740993)),
        ("mlops:metrics.val_f1 >= .5", op(">=", {"property": "mlops:metrics.val_f1"}, 0.5)),
        ('"a ""b" != -1e3', op("<>", {"property": 'a "b'}, -1000.0)),
        ("a = 'it''s' OR é = '\\'", op("or", op("=", A, "it's"), op("=", {"property": "é"}, "\\"))),
        ("not a < b", op("not", op("<", A, B))),
        ("a=1 or b=2 and a=3", op("or", op("=", A, 1), op("and", op("=", B, 2), op("=", A, 3)))),
        ("(a=1 or b=2) and TRUE", op("and", op("or", op("=", A, 1), op("=", B, 2)), True)),
        ("a NOT LIKE 'x%'", op("not", op("like", A, "x%"))),
        ("a BETWEEN 1 AND 2 AND b=3", op("and", op("between", A, 1, 2), op("=", B, 3))),
        ("a NOT IN (1, 'x', false)", op("not", op("in", A, [1, "x", False]))),
        ("a IS NOT NULL", op("not", op("isNull", A))),
        ("a = 1 + 2 * b ^ 2 div 3", None),
        ("a - 1 - 2 = -b", op("=", op("-", op("-", A, 1), 2), op("*", -1, B))),
        ("CASEI(a) LIKE accenti('É%')", op("like", op("casei", A), op("accenti", "É%"))),
        ("a > TIMESTAMP('2020-01-01T00:00:00Z')", None),
        ("T_MetBy(a, INTERVAL('..', DATE('2020-01-01')))", None),
        ("S_INTERSECTS(a, POINT(1 -2.5))", op("s_intersects", A, POINT)),
        (
            "s_within(a, POLYGON Z((0 0 1,1 0 1,1 1 1,0 0 1)))",
            op(
                "s_within",
                A,
                {"type": "Polygon", "coordinates": [[[*position, 1] for position in RING]]},
            ),
        ),
        ("S_EQUALS(a, BBOX(1,2,3,4))", op("s_equals", A, {"bbox": [1, 2, 3, 4]})),
        (
            "S_DISJOINT(a, GEOMETRYCOLLECTION(POINT(1 -2.5), LINESTRING(0 0,1 1)))",
            op(
                "s_disjoint",
                A,
                {
                    "type": "GeometryCollection",
                    "geometries": [
                        POINT,
                        {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
                    ],
                },
            ),
        ),
        ("A_CONTAINEDBY(a, (1, 'x'))", op("a_containedBy", A, [1, "x"])),
        ("a_equals(a, ())", op("a_equals", A, [])),
        ("f(a, 1) = 2", op("=", op("f", A, 1), 2)),
    ],
)
def test_says_the_same_as_json(text: str, expected: Any) -> None:
    read = parse(text)
    if expected is None:
        expected = Expr(text).to_json()
    assert read == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a value at character 1, not the end"),
        ("a ~ 1", "at character 3, not '~'"),
        ("a = 'x", "a quote that closes at character 5"),
        ("a = 1 b", "an operator or the end at character 7, not 'b'"),
        ("a IN ()", "a value at character 7"),
        ("in = 1", "in double quotes"),
        ("a = 1e999", "a double can hold"),
        ("a = '\0'", "U+0000"),
        ('{"op": "="}', "filter-lang=cql2-json"),
        ("a BETWEEN 1 OR 2", "AND at character 13, not 'OR'"),
        ("S_INTERSECTS(a, POINT(1))", "a number at character 24"),
        ("(" * 33 + "a=1" + ")" * 33, "deeper"),
        ("a=1 AND " * 20_000 + "a=1", "characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "piece", ["(", "NOT ", "-", "2^", "casei(", "NOT (", "a=(", "a IN (", "1,"]
)
@pytest.mark.timeout(60)
def test_no_text_takes_long(piece: str) -> None:
    """A parser that tries again doubles its time with each parenthesis and would take years; one
    that recurses without bounds ends the process."""
    for text in (piece * 60, piece * 60 + "~", piece * 15_000):
        with contextlib.suppress(ValueError):
            parse(text[:99_000])


def test_agrees_with_the_reference() -> None:
    draw = random.Random(20)
    for _ in range(300):
        text = _condition(draw, 0)
        assert _flat(parse(text)) == _flat(Expr(text).to_json()), text


def _value(draw: random.Random, depth: int) -> str:
    if depth > 2 or draw.random() < 0.5:
        return draw.choice(["a", "mlops:metrics.val_f1", '"a b"', "1", "-2", "0.5", "1e3"])
    sign = draw.choice(["+", "-", "*", "/", "%", "^"])
    inner = f"{_value(draw, depth + 1)} {sign} {_value(draw, depth + 1)}"
    return f"({inner})" if draw.random() < 0.3 else inner


def _condition(draw: random.Random, depth: int) -> str:
    if depth < 3 and draw.random() < 0.5:
        left, right = _condition(draw, depth + 1), _condition(draw, depth + 1)
        return draw.choice(
            [f"{left} AND {right}", f"{left} or {right}", f"NOT {left}", f"({left})"]
        )
    name = draw.choice(["a", '"a b"'])
    return draw.choice(
        [
            f"{_value(draw, 0)} {draw.choice(['=', '<>', '<', '>='])} {_value(draw, 0)}",
            f"{name} NOT BETWEEN {_value(draw, 2)} AND {_value(draw, 2)}",
            f"{name} IN (1, 'it''s')",
            f"{name} IS NOT NULL",
            f"S_WITHIN({name}, MULTIPOINT((1 2), (3 4)))",
            f"T_DURING({name}, INTERVAL('2020-01-01', '..'))",
            f"A_OVERLAPS({name}, (1, 'x'))",
        ]
    )


def _flat(node: Any) -> Any:
    """With all numbers as doubles, and AND in AND and OR in OR as one."""
    if isinstance(node, list):
        return [_flat(entry) for entry in node]
    if isinstance(node, dict):
        flat = {key: _flat(value) for key, value in node.items()}
        if flat.get("op") in ("and", "or"):
            flat["args"] = [
                part
                for entry in flat["args"]
                for part in (
                    entry["args"]
                    if isinstance(entry, dict) and entry.get("op") == flat["op"]
                    else [entry]
                )
            ]
        return flat
    return float(node) if isinstance(node, int) and not isinstance(node, bool) else node
