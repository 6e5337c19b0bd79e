"""Search: filters, sort orders and paging over items of every shape."""

import base64
import itertools
import json
from math import cos, pi, sin
from typing import Any

import httpx
import psycopg
import pytest

from mlops.api import Api, ApiError
from tests.conftest import ApiServer
from tests.integration.plain import problem

COLLECTION = "fields"
# Values that one property takes: numbers, a text, JSON's null, and none at all.
VALUES: dict[str, Any] = {
    "a": 0.5,
    "b": 10,
    "c": 9,
    "d": -1.25,
    "e": "nine",
    "f": None,
    "h": 9.0,
    "i": "Élan",
    "j": [1, 2, 3],
}
MISSING = object()


def item(identity: str, value: Any, day: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"datetime": f"2020-01-{day:02}T00:00:00Z", "title": identity}
    if value is not MISSING:
        properties["x:value"] = value
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "geometry": {"type": "Point", "coordinates": [day, day / 2]},
        "properties": properties,
        "links": [],
        "assets": {},
    }


@pytest.fixture
def fields(api_server: ApiServer) -> Api:
    """A collection with an item for each of VALUES, and one, `g`, without the property."""
    user = api_server.user()
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTION,
        "description": "Fields",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [],
    }
    user.request("POST", "/collections", json=collection)
    entries = sorted({**VALUES, "g": MISSING}.items())
    features = [item(identity, value, day) for day, (identity, value) in enumerate(entries, 1)]
    body = {"type": "FeatureCollection", "features": features}
    user.request("POST", f"/collections/{COLLECTION}/items", json=body)
    return user


def found(api: Api, **body: Any) -> list[str]:
    answer = api.request("POST", "/search", json={"collections": [COLLECTION], **body}).json()
    return [feature["id"] for feature in answer["features"]]


def token(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def where(op: str, *args: Any) -> dict[str, Any]:
    return {"filter-lang": "cql2-json", "filter": {"op": op, "args": list(args)}, "limit": 100}


VALUE = {"property": "x:value"}
DATETIME = {"property": "datetime"}
POINT = {"type": "Point", "coordinates": [3, 1.5]}


def collection_of(geometry: dict[str, Any], depth: int = 1) -> dict[str, Any]:
    for _ in range(depth):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    return geometry


class TestFilter:
    @pytest.mark.parametrize(
        ("filter_", "expected"),
        [
            (where("=", VALUE, 9), "ch"),
            (where(">", VALUE, 0), "abch"),
            (where("<=", VALUE, 9.0), "acdh"),
            (where("<>", VALUE, 9), "abdeij"),
            (where(">", VALUE, "n"), "ei"),
            (where("=", VALUE, "nine"), "e"),
            (where("isNull", VALUE), "fg"),
            # What f lacks, and g has as null, is unknown, and so is what is denied of it.
            (where("not", {"op": "=", "args": [VALUE, 9]}), "abdeij"),
            (where("not", {"op": "<>", "args": [VALUE, 9]}), "ch"),
            (where("not", {"op": "like", "args": [VALUE, "n%"]}), "abcdhij"),
            (where("not", {"op": "in", "args": [VALUE, [9, "nine"]]}), "abdij"),
            (where("not", {"op": "isNull", "args": [VALUE]}), "abcdehij"),
            (where("not", {"op": "not", "args": [{"op": "=", "args": [VALUE, 9]}]}), "ch"),
            (
                where("not", {"op": "and", "args": [{"op": "=", "args": [VALUE, 9]}, False]}),
                "abcdefghij",
            ),
            (
                where("not", {"op": "t_after", "args": [VALUE, "2020-01-01T00:00:00Z"]}),
                "abcdehij",
            ),
            (where("in", VALUE, [9, "nine", 10]), "bceh"),
            (where("in", VALUE, []), ""),
            (where("between", VALUE, 0, 9), "ach"),
            (where("like", VALUE, "n_n%"), "e"),
            (where("=", {"op": "casei", "args": [VALUE]}, {"op": "casei", "args": ["NINE"]}), "e"),
            (
                where("=", {"op": "accenti", "args": [VALUE]}, {"op": "accenti", "args": ["Elan"]}),
                "i",
            ),
            (where("=", {"op": "*", "args": [VALUE, 2]}, 18), "ch"),
            (where("=", {"op": "/", "args": [VALUE, 0]}, 18), ""),
            (where("a_contains", VALUE, [1, 3]), "j"),
            (where("a_overlaps", VALUE, [7, 3]), "j"),
            (where("a_equals", VALUE, [3, 2, 1]), "j"),
            (where("a_containedBy", VALUE, [1, 2, 3, 4]), "j"),
            # What is no text is like no text, and what is in an element is no element.
            (where("like", VALUE, "%1%"), ""),
            (where("=", {"op": "casei", "args": [VALUE]}, {"op": "casei", "args": ["10"]}), ""),
            (where("a_overlaps", VALUE, [[1]]), ""),
            (where("a_contains", VALUE, [[1]]), ""),
            (where("=", {"op": "div", "args": [VALUE, 4]}, 2), "bch"),
            (where("=", VALUE, {"property": "properties.x:value"}), "abcdehij"),
            (where(">=", DATETIME, {"timestamp": "2020-01-09T00:00:00Z"}), "ij"),
            (where("=", DATETIME, {"date": "2020-01-02"}), "b"),
            (
                where("t_during", DATETIME, {"interval": ["2020-01-01T12:00:00Z", "2020-01-03"]}),
                "b",
            ),
            (where("t_before", DATETIME, {"timestamp": "2020-01-02T00:00:00Z"}), "a"),
            (where("t_after", DATETIME, {"interval": ["..", "2020-01-09T00:00:00Z"]}), "j"),
            *(
                (where(operator, DATETIME, {"interval": ["2020-01-02", "2020-01-09"]}), expected)
                for operator, expected in {
                    "t_after": "j",
                    "t_before": "a",
                    "t_contains": "",
                    "t_disjoint": "aj",
                    "t_during": "cdefgh",
                    "t_equals": "",
                    "t_finishedBy": "",
                    "t_finishes": "i",
                    "t_intersects": "bcdefghi",
                    "t_meets": "b",
                    "t_metBy": "i",
                    "t_overlappedBy": "",
                    "t_overlaps": "",
                    "t_startedBy": "",
                    "t_starts": "b",
                }.items()
            ),
            (where("t_before", DATETIME, {"interval": ["2020-01-02", VALUE]}), ""),
            (where("s_intersects", {"property": "geometry"}, {"bbox": [0.5, 0, 2.5, 3]}), "ab"),
            (
                where(
                    "s_within",
                    {"property": "geometry"},
                    {
                        "type": "Polygon",
                        "coordinates": [[[0, 0], [1.5, 0], [1.5, 2], [0, 2], [0, 0]]],
                    },
                ),
                "a",
            ),
            (
                where(
                    "and",
                    {"op": ">", "args": [VALUE, 0]},
                    {"op": "or", "args": [{"op": "=", "args": [VALUE, 9]}, False]},
                ),
                "ch",
            ),
        ],
    )
    def test_finds_by_value_and_type(
        self, fields: Api, filter_: dict[str, Any], expected: str
    ) -> None:
        assert "".join(sorted(found(fields, **filter_))) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('"x:value" = 9 OR "x:value" = \'nine\'', "ceh"),
            ("NOT \"x:value\" IS NULL AND datetime < TIMESTAMP('2020-01-03T00:00:00Z')", "ab"),
            ("S_INTERSECTS(geometry, POINT(3 1.5))", "c"),
            ("S_INTERSECTS(geometry, BBOX(3, 1.5, 3, 1.5))", "c"),
            ('A_CONTAINEDBY("x:value", (1, 2, 3, 4))', "j"),
        ],
    )
    def test_understands_text(self, fields: Api, text: str, expected: str) -> None:
        url = f"{fields.url}/collections/{COLLECTION}/items"
        answer = httpx.get(url, params={"filter": text, "limit": 100})
        assert "".join(sorted(f["id"] for f in answer.json()["features"])) == expected

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            (where("frobnicate", VALUE, 9), "/filter/op"),
            (where("=", VALUE), "/filter/args"),
            (where("=", {"property": "a\\b"}, 1), "/filter/args/0/property"),
            (where("=", {"property": "mlops:statuss"}, 1), "/filter/args/0/property"),
            (where("=", DATETIME, {"timestamp": "soon"}), "/filter/args/1/timestamp"),
            (where("=", DATETIME, "yesterday"), "/filter"),
            (where(">", DATETIME, 5), "/filter"),
            (where("in", DATETIME, ["2020-01-01T00:00:00Z", True]), "/filter"),
            ({"query": {"datetime": {"lt": 2020}}}, "/query/datetime/lt"),
            (where("like", VALUE, "a\\"), "/filter/args/1"),
            (where("like", VALUE, VALUE), "/filter/args/1"),
            (where("a_contains", VALUE, 1), "/filter/args/1"),
            (
                where("t_during", DATETIME, {"interval": ["2021-01-01", "2020-01-01"]}),
                "/filter/args/1/interval",
            ),
            ({"filter": "a'b = 1", "filter-lang": "cql2-text"}, "/filter"),
            (where("t_after", DATETIME, 5), "/filter/args/1"),
            ({"fields": {"includes": ["id"]}}, "/fields/includes"),
            ({"sortby": [{"field": "id", "dir": "desc"}]}, "/sortby/0/dir"),
            ({"filter": "mlops:statuss = 1", "filter-lang": "cql2-text"}, "/filter"),
            ({"filter": "x = " + "1 + " * 300 + "1", "filter-lang": "cql2-text"}, "/filter"),
            ({"filter": "(" * 3000 + "x = 1" + ")" * 3000}, "/filter"),
            ({"filter": "(" * 40}, "/filter"),
            ({"filter-lang": "sql"}, "/filter-lang"),
            ({"filter-crs": "http://www.opengis.net/def/crs/EPSG/0/3857"}, "/filter-crs"),
            (where("s_intersects", {"property": "geometry"}, {"type": "Pt"}), "/filter/args/1"),
            (where("and", {"op": "nope", "args": []}, True), "/filter/args/0/op"),
            ({"filter": "x = = 1", "filter-lang": "cql2-text"}, "/filter"),
            ({"filter": {}, "filter-lang": "sql"}, "/filter-lang"),
            ({"limit": 0}, "/limit"),
            ({"limit": -1}, "/limit"),
            ({"limit": "ten"}, "/limit"),
            ({"token": "next:fields:a"}, "/token"),
            ({"token": "WzAsImEiXQ"}, "/token"),
            ({"token": token(0, "2020-W01-1", "a")}, "/token"),
            ({"token": token(0, "2020-01-01T00:00:00+23:59", "a")}, "/token"),
            ({"token": token(0, '"\\u0000"', "a"), "sortby": [{"field": "x"}]}, "/token"),
            ({"sortby": {}}, "/sortby"),
            ({"q": "x " * 2000}, "/q"),
            ({"sortby": [{"field": "geometry"}]}, "/sortby/0/field"),
            ({"sortby": [{"field": "a", "direction": "up"}]}, "/sortby/0"),
            ({"sortby": "a"}, "/sortby"),
            ({"bbox": [1, 2, 3]}, "/bbox"),
            ({"bbox": [0, 50, 10, 40]}, "/bbox"),
            ({"datetime": "2020-13-01T00:00:00Z"}, "/datetime"),
            ({"datetime": "2021-01-01T00:00:00Z/2020-01-01T00:00:00Z"}, "/datetime"),
            ({"datetime": "../.."}, "/datetime"),
            ({"query": {"x:value": {"near": 1}}}, "/query/x:value/near"),
            ({"query": {"a~b/c": {"near": 1}}}, "/query/a~0b~1c/near"),
            ({"query": {"a\nb": {"eq": 1}}}, "/query/a\nb/eq"),
            ({"query": {"x:value": {"in": 5}}}, "/query/x:value/in"),
            ({"query": {f"a{n}": {"eq": 1} for n in range(200)}}, "/query/a166/eq"),
            ({"query": {"x:value": {"eq": VALUE}}}, "/query/x:value/eq"),
            ({"intersects": {"type": "Point", "coordinates": []}}, "/intersects"),
            ({"intersects": {"type": "Point", "coordinates": ["1", True]}}, "/intersects"),
            ({"intersects": {"type": "Point", "coordinates": [181, 0]}}, "/intersects"),
            ({"intersects": {"type": "Point", "coordinates": [0, 1e308]}}, "/intersects"),
            ({"intersects": {"type": "MultiPolygon", "coordinates": []}}, "/intersects"),
            (
                {"intersects": {"type": "LineString", "coordinates": [[0, 0], [1, 1, 1]]}},
                "/intersects",
            ),
            ({"intersects": {"type": "GeometryCollection", "geometries": []}}, "/intersects"),
            ({"intersects": collection_of({"type": "Point", "coordinates": [1]})}, "/intersects"),
            ({"intersects": collection_of(POINT, depth=20)}, "/intersects"),
            (
                where("s_within", {"property": "geometry"}, collection_of(POINT, depth=20)),
                "/filter/args/1",
            ),
            ({"filter": "S_WITHIN(geometry, POINT(1 91))", "filter-lang": "cql2-text"}, "/filter"),
            ({"bbox": [0, 0, 9, 1, 1, 8]}, "/bbox"),
            ({"ids": "a"}, "/ids"),
            ({"nonsense": 1}, "/nonsense"),
            ({"a/b": 1}, "/a~1b"),
        ],
    )
    def test_refuses_with_the_place(self, fields: Api, body: dict[str, Any], pointer: str) -> None:
        with pytest.raises(ApiError) as caught:
            found(fields, **body)
        assert caught.value.status == 400
        assert [fault["pointer"] for fault in caught.value.problem["errors"]] == [pointer]

    def test_query_extension(self, fields: Api) -> None:
        assert sorted(found(fields, query={"x:value": {"gte": 9, "lt": 10}})) == ["c", "h"]
        assert found(fields, query={"x:value": {"startsWith": "ni"}}) == ["e"]
        assert found(fields, query={"x:value": {"contains": "%"}}) == []

    @pytest.mark.parametrize(
        ("parameters", "pointer"),
        [
            ({"nonsense": "1"}, "/nonsense"),
            ({"query": "{"}, "/query"),
            ({"intersects": '{"type": "Point", "type": 1}'}, "/intersects/type"),
            ({"filter": "[", "filter-lang": "cql2-json"}, "/filter"),
            ({"filter": "x = 'a\0'"}, "/filter"),
            ({"bbox": "1_0,2,3_0,4"}, "/bbox"),
        ],
    )
    def test_refuses_parameters_with_the_place(
        self, fields: Api, parameters: dict[str, str], pointer: str
    ) -> None:
        for path in ("/search", f"/collections/{COLLECTION}/items", "/collections"):
            if path == "/collections" and "intersects" in parameters:
                continue
            answer = httpx.get(f"{fields.url}{path}", params=parameters)
            assert answer.status_code == 400, answer.text
            assert answer.json()["errors"][0]["pointer"] == pointer

    @pytest.mark.parametrize(
        "name",
        [
            "a'b",
            "''",
            'a"b',
            "élan",
            "$1",
            "%s",
            "{a}",
            "x') IS NULL OR true --",
            "'; DROP SCHEMA mlops CASCADE; --",
        ],
    )
    def test_a_property_of_any_name(self, fields: Api, name: str) -> None:
        fields.merge_patch(COLLECTION, "a", {"properties": {name: {name: 1}}})
        value = {"property": f"{name}.{name}"}
        assert found(fields, **where("=", value, 1)) == ["a"]
        assert found(fields, **where("not", {"op": "isNull", "args": [value]})) == ["a"]
        assert found(fields, query={name: {"neq": 5}}) == ["a"]
        sort_by = [{"field": name, "direction": "asc"}]
        page = {"collections": [COLLECTION], "sortby": sort_by, "limit": 1}
        first = fields.request("POST", "/search", json=page).json()
        assert [f["id"] for f in first["features"]] == ["a"]
        link = next(li for li in first["links"] if li["rel"] == "next")
        assert len(fields.request("POST", "/search", json=link["body"]).json()["features"]) == 1
        quoted = name.replace('"', '""')
        answer = httpx.get(f"{fields.url}/search", params={"filter": f'"{quoted}" IS NOT NULL'})
        assert [f["id"] for f in answer.json()["features"]] == ["a"]

    def test_a_box_without_an_area_finds_what_is_there(self, fields: Api) -> None:
        assert found(fields, bbox=[3, 1.5, 3, 1.5]) == ["c"]
        assert found(fields, bbox=[3, 1, 3, 2]) == ["c"]

    @pytest.mark.parametrize(
        "more",
        [{"bbox": [0, 0, 10, 5]}, {"bbox": None}, {"crs": {}}, {"crs": None}, {"x": [{"y": 1}]}],
    )
    def test_of_a_geometry_its_coordinates_count(self, fields: Api, more: dict[str, Any]) -> None:
        shape = {**POINT, **more}
        for geometry in (shape, collection_of(shape, depth=8)):
            assert found(fields, intersects=geometry) == ["c"]
            filter_ = where("s_intersects", {"property": "geometry"}, geometry)
            assert found(fields, **filter_) == ["c"]

    def test_geometries_that_cross_themselves(self, fields: Api) -> None:
        """PostGIS cannot say how some of them lie to another: one would fail every search."""
        ring = [[40, 40], [44, 44], [44, 40], [40, 44], [40, 40]]
        overlapping = [
            [[[50, 50], [52, 50], [52, 52], [50, 52], [50, 50]]],
            [[[51, 51], [53, 51], [53, 53], [51, 53], [51, 51]]],
        ]
        for identity, geometry in (
            ("bow", {"type": "Polygon", "coordinates": [ring]}),
            ("two", {"type": "MultiPolygon", "coordinates": overlapping}),
        ):
            body = {**item(identity, 1, 1), "geometry": geometry}
            fields.request("POST", f"/collections/{COLLECTION}/items", json=body)
        both = {"type": "MultiPolygon", "coordinates": overlapping}
        for relation, expected in (
            ("s_intersects", ["two"]),
            ("s_disjoint", [*"abcdefghij", "bow"]),
            ("s_equals", ["two"]),
            ("s_touches", []),
            ("s_within", ["two"]),
            ("s_overlaps", []),
            ("s_crosses", []),
            ("s_contains", ["two"]),
        ):
            filter_ = where(relation, {"property": "geometry"}, both)
            assert sorted(found(fields, **filter_)) == sorted(expected), relation
        assert found(fields, intersects=both) == ["two"]
        assert found(fields, bbox=[51.2, 51.2, 51.8, 51.8]) == ["two"]
        assert found(fields, bbox=[40.1, 41, 40.2, 43]) == ["bow"]

    def test_geometries_that_cross_themselves_too_often(self, fields: Api) -> None:
        """To find out what they cover would take all time and memory that there is."""

        def star(corners: int, step: int) -> Any:
            """Corners of a circle, joined by going ``step`` on: by 1 they are its rim."""
            angles = [2 * pi * step * n / corners for n in (*range(corners), 0)]
            ring = [[round(cos(a), 6) + 60, round(sin(a), 6) + 60] for a in angles]
            return {"type": "Polygon", "coordinates": [ring]}

        url = f"{fields.url}/search"
        tangled = star(601, 300)
        within = {"op": "s_within", "args": [{"property": "geometry"}, tangled]}
        for body, place in (
            ({"intersects": tangled}, "/intersects"),
            ({"filter-lang": "cql2-json", "filter": within}, "/filter/args/1"),
        ):
            refused = problem(httpx.post(url, json=body), 400, place)
            assert "more than 500 corners" in refused["detail"]
        assert found(fields, intersects=star(3001, 1)) == []
        body = {**item("tangled", 1, 1), "geometry": star(5001, 2500)}
        fields.request("POST", f"/collections/{COLLECTION}/items", json=body)
        assert found(fields, bbox=[59, 59, 61, 61]) == ["tangled"]
        for relation in ("s_intersects", "s_within", "s_overlaps", "s_crosses", "s_equals"):
            filter_ = where(relation, {"property": "geometry"}, star(8, 1))
            assert set(found(fields, **filter_)) <= {"tangled"}

    @pytest.mark.parametrize(
        "time",
        [
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T00:00:00.9999999Z",
        ],
    )
    def test_an_item_is_found_at_its_own_time(self, fields: Api, time: str) -> None:
        body = item("timed", 1, 1)
        body["properties"]["datetime"] = time
        fields.request("POST", f"/collections/{COLLECTION}/items", json=body)
        assert found(fields, datetime=time) == ["timed"]
        assert found(fields, datetime=f"{time}/{time}") == ["timed"]
        assert found(fields, **where("=", DATETIME, {"timestamp": time})) == ["timed"]

    def test_what_is_no_time_is_not_taken_for_one(self, fields: Api) -> None:
        for value in ("now", "infinity", 20260101, "2026-01-01T00:00:00Z"):
            fields.merge_patch(COLLECTION, "a", {"properties": {"x:time": value}})
            filter_ = where(">", {"property": "x:time"}, {"timestamp": "2000-01-01T00:00:00Z"})
            assert found(fields, **filter_) == (["a"] if str(value).endswith("Z") else [])

    def test_databases_that_work_in_parallel(self, fields: Api, database_url: str) -> None:
        """As they do with large tables, where PostgreSQL's settings are its own."""
        with psycopg.connect(database_url, autocommit=True) as connection:
            name = database_url.rsplit("/", 1)[1]
            for setting, value in (
                ("max_parallel_workers_per_gather", 2),
                ("parallel_setup_cost", 0),
                ("parallel_tuple_cost", 0),
                ("min_parallel_table_scan_size", 0),
                ("force_parallel_mode", "on"),
            ):
                connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
            # The API's connections begin anew.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        for body in (
            where(">", {"property": "title"}, {"timestamp": "2000-01-01T00:00:00Z"}),
            where("=", {"op": "+", "args": [VALUE, 1]}, 0),
            where("s_intersects", {"property": "geometry"}, {"bbox": [-5, -5, -4, -4]}),
            where("a_overlaps", VALUE, [7]),
            {"q": "nothing"},
        ):
            answer = httpx.post(f"{fields.url}/search", json=body)
            if answer.status_code == 503:
                answer = httpx.post(f"{fields.url}/search", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["features"] == []

    def test_free_text(self, fields: Api) -> None:
        patch = {"properties": {"description": "alpine meadows"}}
        fields.merge_patch(COLLECTION, "c", patch)
        assert found(fields, q="meadow") == ["c"]
        assert found(fields, q=["desert", "alpine"]) == ["c"]


class TestSort:
    @pytest.mark.parametrize("direction", ["asc", "desc"])
    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_pages_both_ways_visit_each_item_once(
        self, fields: Api, direction: str, limit: int
    ) -> None:
        sort_by = [{"field": "x:value", "direction": direction}]
        whole = found(fields, sortby=sort_by, limit=100)
        assert sorted(whole) == sorted([*VALUES, "g"])
        body: Any = {"collections": [COLLECTION], "sortby": sort_by, "limit": limit}
        forward, last = self.walk(fields, body, "next")
        assert list(itertools.chain(*forward)) == whole
        backward, _ = self.walk(fields, last, "prev")
        assert list(itertools.chain(*reversed(backward))) == whole

    def test_what_has_no_value_comes_last(self, fields: Api) -> None:
        for direction in ("asc", "desc"):
            sort_by = [{"field": "x:value", "direction": direction}]
            assert found(fields, sortby=sort_by, limit=100)[-1] == "g"

    def test_numbers_sort_as_numbers(self, fields: Api) -> None:
        body = where(">", VALUE, -100)
        sort_by = [{"field": "x:value", "direction": "asc"}, {"field": "id", "direction": "desc"}]
        assert found(fields, sortby=sort_by, **body) == ["d", "a", "h", "c", "b"]

    def test_default_is_newest_first(self, fields: Api) -> None:
        assert found(fields, limit=3) == ["j", "i", "h"]

    def test_a_page_goes_on_where_its_last_item_was_deleted(self, fields: Api) -> None:
        first = fields.request("POST", "/search", json={"collections": [COLLECTION], "limit": 3})
        link = next(li for li in first.json()["links"] if li["rel"] == "next")
        fields.delete_item(COLLECTION, first.json()["features"][-1]["id"])
        second = fields.request("POST", "/search", json=link["body"]).json()
        assert [f["id"] for f in second["features"]] == ["g", "f", "e"]

    @staticmethod
    def walk(api: Api, body: Any, rel: str) -> tuple[list[list[str]], Any]:
        pages = []
        while True:
            page = api.request("POST", "/search", json=body).json()
            pages.append([feature["id"] for feature in page["features"]])
            links = [link for link in page["links"] if link["rel"] == rel]
            if not links:
                return pages, body
            body = links[0]["body"]


class TestAnswer:
    def test_count(self, fields: Api) -> None:
        body = {"collections": [COLLECTION], "limit": 1}
        assert fields.request("POST", "/search", json=body).json()["numberMatched"] == 10
        answer = fields.request("POST", "/search", json={**body, "limit": 50}).json()
        assert (answer["numberMatched"], answer["numberReturned"]) == (10, 10)

    def test_fields(self, fields: Api) -> None:
        url = f"{fields.url}/search"
        params = {"collections": COLLECTION, "ids": "a", "fields": "id,properties.x:value"}
        assert httpx.get(url, params=params).json()["features"] == [
            {
                "type": "Feature",
                "stac_version": "1.1.0",
                "id": "a",
                "collection": COLLECTION,
                "properties": {"x:value": 0.5},
            }
        ]
        without = httpx.get(url, params={**params, "fields": "-links,-assets"}).json()
        assert without["features"][0].keys().isdisjoint({"links", "assets"})

    def test_items_written_by_other_tools_are_read_as_well(
        self, fields: Api, database_url: str
    ) -> None:
        """pgstac's own function stores an item dehydrated and without links of its place."""
        other = {**item("z", 1, 25), "collection": COLLECTION}
        other["links"] = [{"rel": "license", "href": "https://example.org/license"}]
        with psycopg.connect(database_url) as connection:
            connection.execute("SET search_path = pgstac, public")
            connection.execute("SELECT create_item(%s::text::jsonb)", [json.dumps(other)])
        read = fields.get_item(COLLECTION, "z").item
        assert read == next(fields.search(ids=["z"]))
        links = {link["rel"]: link["href"] for link in read["links"]}
        assert links["self"] == f"{fields.url}/collections/{COLLECTION}/items/z"
        assert links["license"] == "https://example.org/license"
        assert read["properties"]["x:value"] == 1

    def test_links_follow_the_host(self, fields: Api) -> None:
        url = f"{fields.url}/collections/{COLLECTION}/items/a"
        read = httpx.get(url, headers={"Host": "records.example"}).json()
        assert (
            read["links"][0]["href"] == f"http://records.example/collections/{COLLECTION}/items/a"
        )


@pytest.mark.parametrize(
    ("extent", "box", "is_found"),
    [
        ([170, -10, -170, 10], "175,0,176,1", True),
        ([170, -10, -170, 10], "-176,0,-175,1", True),
        ([170, -10, -170, 10], "0,0,1,1", False),
        ([0, 0, 500, 1, 1, 900], "0.4,0.4,0.6,0.6", True),
        ([0, 0, 500, 1, 1, 900], "400,0,500,1", None),
        ([0, 0, -5, 1, 1, 5], "-4,0,-2,1", False),
        ([5, 5, 5, 5], "4,4,6,6", True),
        ([5, 5, 5, 5], "5,5,5,5", True),
    ],
)
def test_collections_are_found_by_their_extent(
    api_server: ApiServer, extent: list[float], box: str, is_found: bool | None
) -> None:
    """Also one of 6 numbers, and one that crosses the antimeridian."""
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTION,
        "description": "Fields",
        "license": "other",
        "extent": {"spatial": {"bbox": [extent]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }
    assert httpx.post(f"{api_server.url}/collections", json=collection).status_code == 201
    answer = httpx.get(f"{api_server.url}/collections", params={"bbox": box})
    if is_found is None:
        assert answer.status_code == 400
    else:
        assert [c["id"] for c in answer.json()["collections"]] == [COLLECTION] * is_found
