"""Whatever is wrong is refused with a problem document that points to it, and nothing is stored."""

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops.identity import issue_job_token
from tests.conftest import ApiServer, serving
from tests.integration.conftest import SQUARE, run_item

Document = dict[str, Any]


def plain_item(identity: str = "one") -> Document:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "geometry": copy.deepcopy(SQUARE),
        "bbox": [15.0, 46.0, 15.1, 46.1],
        "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "links": [],
        "assets": {"data": {"href": "s3://bucket/key.tif"}},
    }


def plain_collection(identity: str = "imagery") -> Document:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "description": "Imagery",
        "license": "CC-BY-4.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [],
    }


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API that has the collection `imagery` with the item `kept`."""
    prefer = {"Prefer": "return=representation"}
    with httpx.Client(base_url=api_server.url, timeout=60, headers=prefer) as client:
        assert client.post("/collections", json=plain_collection()).status_code == 201
        assert client.post(ITEMS, json=plain_item("kept")).status_code == 201
        yield client


ITEMS = "/collections/imagery/items"


def problem(answer: httpx.Response, status: int, pointer: str | None = None) -> Document:
    """The problem document of an answer, which must be one."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body: Document = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= body.keys()
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return body


def changed(place: str, value: Any) -> Document:
    """A valid item with another value at a place; `...` takes it away."""
    item = plain_item()
    *parents, last = place.split("/")[1:]
    target: Any = item
    for step in parents:
        target = target[int(step) if isinstance(target, list) else step]
    if value is ...:
        del target[last]
    elif isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value
    return item


def polygon(*rings: list[list[float]]) -> Document:
    return {"type": "Polygon", "coordinates": list(rings)}


BAD_TIMES = [
    "yesterday",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:60Z",
    "2026-02-29T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2026-01-01T00:00:00+25:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.9999999Z",
    "2026-01-01T00:00:00Z\n",
    1767225600,
    ["2026-01-01T00:00:00Z"],
    {},
    True,
]
BAD_HREFS = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "vbscript:x",
    "blob:https://x.example/1",
    "http://[::1",
    "",
    None,
    7,
    {},
]
BAD_IDS = [
    "a/b",
    "a b",
    "a\tb",
    "a\nb",
    "a\x7fb",
    "a" * 300,
    "..",
    ".",
    "../../etc/passwd",
    "-a",
    "",
    "ä",
    "a?b",
    "a#b",
    "a%2fb",
    None,
    7,
    True,
    [],
    {},
]
OPEN = [[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.1]]
CLOSED = [*OPEN, [15.0, 46.0]]

BAD_ITEMS: list[tuple[str, Any, str]] = [
    ("/type", "Collection", "/type"),
    ("/type", ..., "/type"),
    ("/stac_version", "0.9.0", "/stac_version"),
    ("/stac_version", 1.1, "/stac_version"),
    ("/stac_extensions", "x", "/stac_extensions"),
    ("/stac_extensions", [7], "/stac_extensions"),
    ("/properties", ..., "/properties"),
    ("/properties", None, "/properties"),
    ("/properties", [], "/properties"),
    ("/properties/datetime", ..., "/properties/datetime"),
    ("/properties/datetime", None, "/properties/datetime"),
    ("/properties/created", "once", "/properties/created"),
    (
        "/properties",
        {
            "datetime": None,
            "start_datetime": "2026-01-02T00:00:00Z",
            "end_datetime": "2026-01-01T00:00:00Z",
        },
        "/properties/end_datetime",
    ),
    (
        "/properties",
        {"datetime": None, "start_datetime": "2026-01-02T00:00:00Z"},
        "/properties/datetime",
    ),
    ("/properties/gsd", "ten", "/properties/gsd"),
    ("/properties/providers", [{"roles": ["host"]}], "/properties/providers/0"),
    (
        "/properties/providers",
        [{"name": "x", "url": "javascript:alert(1)"}],
        "/properties/providers/0/url",
    ),
    ("/geometry", None, "/geometry"),
    ("/geometry", ..., "/geometry"),
    ("/geometry", "POINT(0 0)", "/geometry"),
    ("/geometry", {}, "/geometry/type"),
    ("/geometry", {"type": ["Point"], "coordinates": [0, 0]}, "/geometry/type"),
    ("/geometry", {"type": "Circle", "coordinates": [0, 0]}, "/geometry/type"),
    (
        "/geometry",
        {"type": "GeometryCollection", "geometries": [SQUARE]},
        "/geometry/type",
    ),
    ("/geometry", {"type": "Point"}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": []}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": [15]}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": ["15", "46"]}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": [True, False]}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": [1, 2, 3, 4]}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": [1, 2, 2**53 + 1]}, "/geometry/coordinates/2"),
    ("/geometry", {"type": "Point", "coordinates": [1, 2, -1e300]}, "/geometry/coordinates/2"),
    ("/geometry", {"type": "Point", "coordinates": [181, 0]}, "/geometry/coordinates"),
    ("/geometry", {"type": "Point", "coordinates": [0, 90.5]}, "/geometry/coordinates"),
    ("/geometry", {**SQUARE, "crs": {}}, "/geometry/crs"),
    ("/geometry", polygon(), "/geometry/coordinates"),
    ("/geometry", polygon([]), "/geometry/coordinates/0"),
    ("/geometry", polygon(OPEN), "/geometry/coordinates/0"),
    ("/geometry", polygon([[0, 0], [1, 1], [0, 0]]), "/geometry/coordinates/0"),
    ("/geometry", polygon([[*CLOSED[0], 1], *CLOSED[1:]]), "/geometry/coordinates"),
    (
        "/geometry",
        {"type": "MultiPolygon", "coordinates": [[CLOSED], [OPEN]]},
        "/geometry/coordinates/1/0",
    ),
    ("/geometry", {"type": "LineString", "coordinates": [[0, 0]]}, "/geometry/coordinates"),
    ("/bbox", [15.0, 46.0, 15.1, 47.0], "/bbox"),
    ("/bbox", [46.0, 15.0, 46.1, 15.1], "/bbox"),
    ("/bbox", [15.1, 46.0, 15.0, 46.1], "/bbox"),
    ("/bbox", [15.0, 46.0, 15.1], "/bbox"),
    ("/bbox", ["15", "46", "15.1", "46.1"], "/bbox"),
    ("/bbox", {}, "/bbox"),
    ("/bbox", [15.0, 46.0, 9, 15.1, 46.1, 1], "/bbox/2"),
    ("/links", {}, "/links"),
    ("/links", [7], "/links/0"),
    ("/links", [{"href": "x"}], "/links/0/rel"),
    ("/links", [{"rel": "about"}], "/links/0/href"),
    ("/assets", [], "/assets"),
    ("/assets", {"a~b/c": 7}, "/assets/a~0b~1c"),
    ("/assets/data", {}, "/assets/data/href"),
    ("/assets/data/roles", "data", "/assets/data/roles"),
    ("/assets/data/alternate", [], "/assets/data/alternate"),
    ("/assets/data/alternate", {"x": {}}, "/assets/data/alternate/x/href"),
    ("/collection", "other", "/collection"),
    ("/collection", 7, "/collection"),
    *(("/properties/datetime", time, "/properties/datetime") for time in BAD_TIMES),
    *(("/assets/data/href", href, "/assets/data/href") for href in BAD_HREFS),
    *(("/links", [{"rel": "about", "href": href}], "/links/0/href") for href in BAD_HREFS),
    *(
        ("/assets/data/alternate", {"x": {"href": href}}, "/assets/data/alternate/x/href")
        for href in BAD_HREFS
    ),
    *(("/id", identity, "/id") for identity in BAD_IDS),
    ("/id", ..., "/id"),
]

# JSON texts that are no strict JSON, as the value of the property `x`.
BAD_TEXTS = [
    ("NaN", "/properties/x"),
    ("Infinity", "/properties/x"),
    ("[1, -Infinity]", "/properties/x/1"),
    ("1e400", "/properties/x"),
    ("-1e400", "/properties/x"),
    ("1e-400", "/properties/x"),
    ("1e99999999999999999999", "/properties/x"),
    ("9223372036854775808", "/properties/x"),
    ("-9223372036854775809", "/properties/x"),
    ("1" * 5000, "/properties/x"),
    ("0.12345678901234567890123", "/properties/x"),
    ('{"a": 1, "a": 1}', "/properties/x/a"),
    ('{"a": {"b": 1, "b": 2}}', "/properties/x/a/b"),
    ('"\\u0000"', "/properties/x"),
    ('{"\\u0000": 1}', "/properties/x/�"),
    ('"\\ud800"', "/properties/x"),
    ('"\\ue000"', "/properties/x"),
    ('"\ue000"', "/properties/x"),
    ("[" * 64 + "]" * 64, ""),
    ("[" * 10_000 + "]" * 10_000, ""),
    ('{"a":' * 10_000 + "1" + "}" * 10_000, ""),
    ("01", ""),
    ("", ""),
    ("'x'", ""),
]


def stored(client: httpx.Client) -> list[str]:
    return [item["id"] for item in client.get(ITEMS).json()["features"]]


class TestItem:
    @pytest.fixture
    def reference(self, client: httpx.Client) -> bytes:
        return client.get(f"{ITEMS}/kept").content

    # One database serves all of them: a case costs milliseconds so, not a second.
    def test_that_is_wrong_is_refused_at_every_door(
        self, client: httpx.Client, reference: bytes, subtests: pytest.Subtests
    ) -> None:
        for place, value, pointer in BAD_ITEMS:
            item = changed(place, value)
            with subtests.test(place=place, value=value):
                problem(client.post(ITEMS, json=item), 422, pointer)
                body = {"type": "FeatureCollection", "features": [plain_item("ok"), item]}
                problem(client.post(ITEMS, json=body), 422, f"/features/1{pointer}")
                if place != "/id":
                    bulk = {"items": {"ok": plain_item("ok"), "one": item}, "method": "upsert"}
                    answer = client.post("/collections/imagery/bulk_items", json=bulk)
                    problem(answer, 422, f"/items/one{pointer}")
                    put = client.put(f"{ITEMS}/kept", json={**item, "id": "kept"})
                    problem(put, 422, pointer)
                assert stored(client) == ["kept"]
                assert client.get(f"{ITEMS}/kept").content == reference

    def test_that_is_no_strict_json_is_refused(
        self, client: httpx.Client, reference: bytes, subtests: pytest.Subtests
    ) -> None:
        for text, pointer in BAD_TEXTS:
            body = json.dumps(plain_item()).replace('"datetime"', '"x": @, "datetime"')
            content = body.replace("@", text).encode()
            headers = {"Content-Type": "application/json"}
            with subtests.test(text=text[:40]):
                problem(client.post(ITEMS, content=content, headers=headers), 400, pointer)
                put = client.put(f"{ITEMS}/kept", content=content, headers=headers)
                problem(put, 400, pointer)
                patch = b'{"properties": {"x": ' + text.encode() + b"}}"
                patched = client.patch(f"{ITEMS}/kept", content=patch, headers=headers)
                problem(patched, 400, pointer)
                assert stored(client) == ["kept"]
                assert client.get(f"{ITEMS}/kept").content == reference

    @pytest.mark.parametrize("content", [b"\xff", b'{"id": "\xc3\x28"}', b"\xef\xbb\xbf{}", b"[]"])
    def test_malformed_utf8_and_what_is_no_object(
        self, client: httpx.Client, content: bytes
    ) -> None:
        headers = {"Content-Type": "application/json"}
        problem(client.post(ITEMS, content=content, headers=headers), 400, "")

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "*/*"]
    )
    def test_wrong_content_type(self, client: httpx.Client, kind: str) -> None:
        content = json.dumps(plain_item())
        for method, url in (
            ("POST", ITEMS),
            ("POST", "/collections/imagery/bulk_items"),
            ("PUT", f"{ITEMS}/kept"),
            ("PATCH", f"{ITEMS}/kept"),
            ("POST", "/collections"),
            ("PUT", "/collections/imagery"),
            ("PATCH", "/collections/imagery"),
        ):
            answer = client.request(method, url, content=content, headers={"Content-Type": kind})
            problem(answer, 415)
        assert stored(client) == ["kept"]

    def test_compressed_body(self, client: httpx.Client) -> None:
        content = gzip.compress(json.dumps(plain_item()).encode())
        for method, url in (
            ("POST", ITEMS),
            ("PUT", f"{ITEMS}/kept"),
            ("PATCH", f"{ITEMS}/kept"),
            ("POST", "/search"),
            ("POST", "/workspaces"),
        ):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            answer = client.request(method, url, content=content, headers=headers)
            assert "as it is" in problem(answer, 415)["detail"]
            assert answer.headers["accept-encoding"] == "identity"
        # Nor is the header of a body that is none of it taken for nothing.
        headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
        problem(client.patch(f"{ITEMS}/kept", content=b"{}", headers=headers), 415)
        assert stored(client) == ["kept"]

    def test_answers_to_many_faults_are_short(self, client: httpx.Client) -> None:
        item = {**plain_item(), "links": [7] * 200_000}
        answer = client.post(ITEMS, json=item)
        assert len(problem(answer, 422)["errors"]) == 100
        content = b'{"x": [' + b"NaN," * 200_000 + b"1]}"
        headers = {"Content-Type": "application/json"}
        answer = client.post(ITEMS, content=content, headers=headers)
        assert len(problem(answer, 400)["errors"]) == 100

    def test_unknown_collection(self, client: httpx.Client) -> None:
        for url in ("/collections/none/items", "/collections/a%00b/items"):
            answer = client.post(url, json=plain_item())
            assert answer.status_code in (400, 404)
            problem(answer, answer.status_code)

    @pytest.mark.parametrize(
        "identity",
        [
            "a%2Fb",
            "a%20b",
            "a%00b",
            "a%0Ab",
            "a" * 3000,
            "%2e%2e",
            "%2e%2e%2fx",
            "%ff",
            "%ed%a0%80",
        ],
    )
    def test_bad_ids_in_urls(self, client: httpx.Client, identity: str) -> None:
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            for url in (f"{ITEMS}/{identity}", f"/collections/{identity}"):
                body = plain_item() if method in ("PUT", "PATCH") else None
                answer = client.request(method, url, json=body)
                if method == "DELETE" and answer.status_code == 204:
                    continue  # what was never there is gone
                assert answer.status_code in (400, 404, 405, 422), (method, url)
                if method != "HEAD":
                    problem(answer, answer.status_code)
        assert stored(client) == ["kept"]

    def test_id_that_differs_from_the_url(self, client: httpx.Client) -> None:
        problem(client.put(f"{ITEMS}/kept", json=plain_item()), 422, "/id")
        patch = client.patch(f"{ITEMS}/kept", json={"id": "other"})
        problem(patch, 422, "/id")
        patch = client.patch(f"{ITEMS}/kept", json={"collection": "other"})
        problem(patch, 422, "/collection")

    def test_taken_id(self, client: httpx.Client) -> None:
        problem(client.post(ITEMS, json=plain_item("kept")), 409)
        features = [plain_item("new"), plain_item("kept")]
        body = {"type": "FeatureCollection", "features": features}
        assert "kept" in problem(client.post(ITEMS, json=body), 409)["detail"]
        twice = {"type": "FeatureCollection", "features": [plain_item(), plain_item()]}
        problem(client.post(ITEMS, json=twice), 422, "/features/1/id")
        assert stored(client) == ["kept"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"type": "FeatureCollection"}, "/features"),
            ({"type": "FeatureCollection", "features": {}}, "/features"),
            ({"type": "FeatureCollection", "features": [7]}, "/features/0"),
        ],
    )
    def test_bad_feature_collection(
        self, client: httpx.Client, body: Document, pointer: str
    ) -> None:
        problem(client.post(ITEMS, json=body), 422, pointer)

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/items"),
            ({"items": []}, "/items"),
            ({"items": {"a": 7}}, "/items/a"),
            ({"items": {"a": plain_item("b")}}, "/items/a/id"),
            ({"items": {}, "method": "replace"}, "/method"),
            ({"items": {}, "method": {}}, "/method"),
        ],
    )
    def test_bad_bulk_request(self, client: httpx.Client, body: Document, pointer: str) -> None:
        problem(client.post("/collections/imagery/bulk_items", json=body), 422, pointer)


class TestPatch:
    @pytest.mark.parametrize(
        ("patch", "pointer"),
        [
            ({"properties": {"datetime": "garbage"}}, "/properties/datetime"),
            ({"properties": {"datetime": None}}, "/properties/datetime"),
            ({"properties": None}, "/properties"),
            ({"geometry": None}, "/geometry"),
            ({"geometry": {"coordinates": [[[0, 0]]]}}, "/geometry/coordinates/0"),
            ({"geometry": {"type": "Point"}}, "/geometry/coordinates"),
            ({"bbox": [0, 0, 1, 1]}, "/bbox"),
            ({"links": {"a": 1}}, "/links"),
            ({"assets": {"data": {"href": None}}}, "/assets/data/href"),
            ({"assets": {"data": {"href": "javascript:1"}}}, "/assets/data/href"),
            ({"stac_version": None}, "/stac_version"),
            ({"type": None}, "/type"),
            ({"stac_extensions": [None]}, "/stac_extensions"),
        ],
    )
    def test_that_breaks_the_item(
        self, client: httpx.Client, patch: Document, pointer: str
    ) -> None:
        before = client.get(f"{ITEMS}/kept").content
        for kind in ("application/merge-patch+json", "application/json"):
            answer = client.patch(
                f"{ITEMS}/kept", content=json.dumps(patch), headers={"Content-Type": kind}
            )
            problem(answer, 422, pointer)
        assert client.get(f"{ITEMS}/kept").content == before

    @pytest.mark.parametrize(
        ("operations", "status", "pointer"),
        [
            ({}, 400, ""),
            ([7], 400, "/0"),
            ([{}], 400, "/0/op"),
            ([{"op": "explode", "path": ""}], 400, "/0/op"),
            ([{"op": ["add"], "path": ""}], 400, "/0/op"),
            ([{"op": "add", "path": "/x"}], 400, "/0/value"),
            ([{"op": "add", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": 7, "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "x", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "/a~2", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "/a" * 65, "value": 1}], 400, "/0/path"),
            ([{"op": "move", "path": "/x"}], 400, "/0/from"),
            ([{"op": "add", "path": "/no/where", "value": 1}], 422, "/0/path"),
            ([{"op": "remove", "path": "/no"}], 422, "/0/path"),
            ([{"op": "remove", "path": ""}], 422, "/0/path"),
            ([{"op": "replace", "path": "/no", "value": 1}], 422, "/0/path"),
            ([{"op": "replace", "path": "", "value": 7}], 422, ""),
            ([{"op": "add", "path": "/bbox/9", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/bbox/01", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/bbox/-1", "value": 1}], 422, "/0/path"),
            ([{"op": "replace", "path": "/bbox/-", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/id/x", "value": 1}], 422, "/0/path"),
            ([{"op": "move", "from": "/no", "path": "/x"}], 422, "/0/from"),
            ([{"op": "copy", "from": "/no", "path": "/x"}], 422, "/0/from"),
            ([{"op": "move", "from": "/properties", "path": "/properties/x"}], 422, "/0/path"),
            ([{"op": "move", "from": "/properties", "path": "/x"}], 422, "/properties"),
            ([{"op": "move", "from": "/assets/data", "path": "/links/0"}], 422, "/links/0/rel"),
            ([{"op": "test", "path": "/id", "value": "other"}], 409, "/0/path"),
            ([{"op": "test", "path": "/no", "value": 1}], 422, "/0/path"),
            ([{"op": "remove", "path": "/properties/datetime"}], 422, "/properties/datetime"),
            ([{"op": "replace", "path": "/id", "value": "other"}], 422, "/id"),
            (
                [
                    {"op": "add", "path": "/x", "value": 1},
                    {"op": "test", "path": "/x", "value": True},
                ],
                409,
                "/1/path",
            ),
            (
                [
                    {"op": "add", "path": "/x", "value": {}},
                    *({"op": "add", "path": "/x" * n, "value": {}} for n in range(2, 65)),
                ],
                400,
                "",
            ),
        ],
    )
    def test_json_patch_that_cannot_be_applied(
        self, client: httpx.Client, operations: Any, status: int, pointer: str
    ) -> None:
        before = client.get(f"{ITEMS}/kept").content
        answer = client.patch(
            f"{ITEMS}/kept",
            content=json.dumps(operations),
            headers={"Content-Type": "application/json-patch+json"},
        )
        problem(answer, status, pointer)
        assert client.get(f"{ITEMS}/kept").content == before

    def test_json_patch_with_a_huge_result(self, client: httpx.Client) -> None:
        double = {"op": "copy", "from": "/properties", "path": "/properties/x"}
        grow = [{**double, "path": f"/properties/x{n}"} for n in range(40)]
        many = [{"op": "test", "path": "/id", "value": "kept"}] * 1001
        for operations in (grow, many):
            answer = client.patch(
                f"{ITEMS}/kept",
                content=json.dumps(operations),
                headers={"Content-Type": "application/json-patch+json"},
            )
            problem(answer, 413)

    def test_every_operation_does_what_rfc_6902_says(self, client: httpx.Client) -> None:
        operations = [
            {"op": "test", "path": "/id", "value": "kept"},
            {"op": "add", "path": "/properties/list", "value": [1, 3]},
            {"op": "add", "path": "/properties/list/1", "value": 2},
            {"op": "add", "path": "/properties/list/-", "value": 4},
            {"op": "copy", "from": "/properties/list", "path": "/properties/a~1b~0c"},
            {"op": "remove", "path": "/properties/list/0"},
            {"op": "move", "from": "/properties/list/0", "path": "/properties/first"},
            {"op": "replace", "path": "/properties/list/0", "value": None},
            {"op": "test", "path": "/properties/a~1b~0c", "value": [1, 2, 3, 4]},
        ]
        answer = client.patch(
            f"{ITEMS}/kept",
            content=json.dumps(operations),
            headers={"Content-Type": "application/json-patch+json"},
        )
        properties = answer.json()["properties"]
        assert properties["a/b~c"] == [1, 2, 3, 4]
        assert (properties["first"], properties["list"]) == (2, [None, 4])


class TestSize:
    def test_is_limited(self, client: httpx.Client) -> None:
        large = plain_item()
        large["properties"]["x"] = "x" * (2 << 20)
        problem(client.post(ITEMS, json=large), 413)
        problem(client.put(f"{ITEMS}/kept", json=large), 413)
        problem(client.patch(f"{ITEMS}/kept", json=large), 413)
        body = {"type": "FeatureCollection", "features": [plain_item("ok"), large]}
        problem(client.post(ITEMS, json=body), 413, "/features/1")
        problem(
            client.post("/collections", json={**plain_collection("x"), "x": "x" * (2 << 20)}), 413
        )
        half = {"properties": {"x": "x" * (3 << 19)}}
        assert client.patch(f"{ITEMS}/kept", json=half).status_code == 200
        problem(client.patch(f"{ITEMS}/kept", json={"y": "x" * (1 << 20)}), 413)
        assert stored(client) == ["kept"]

    def test_of_a_body_without_a_length(self, client: httpx.Client) -> None:
        answer = client.put(
            f"{ITEMS}/kept",
            content=(b"x" * 65536 for _ in range(40)),
            headers={"Content-Type": "application/json"},
        )
        problem(answer, 413)

    @pytest.mark.usefixtures("client")
    def test_is_configurable(self, api_server: ApiServer) -> None:
        settings = api_server.settings.model_copy(update={"max_body_bytes": 1000})
        with serving(settings) as url:
            small = plain_item("small")
            assert httpx.post(url + ITEMS, json=small).status_code == 201
            small["properties"]["x"] = "x" * 1000
            problem(httpx.post(url + ITEMS, json=small), 413)

    def test_of_numbers_written_out(self, client: httpx.Client) -> None:
        """1e300 takes 5 bytes in a request and 301 in what the database writes."""
        item = plain_item()
        item["properties"]["x"] = [1e300] * 10_000
        problem(client.post(ITEMS, json=item), 413)


class TestCollection:
    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"type": "Feature"}, "/type"),
            ({"stac_version": None}, "/stac_version"),
            ({"description": ""}, "/description"),
            ({"license": None}, "/license"),
            ({"extent": None}, "/extent"),
            (
                {"extent": {"spatial": {"bbox": 7}, "temporal": {"interval": []}}},
                "/extent/spatial/bbox",
            ),
            ({"extent": {"spatial": {"bbox": [[0, 0, 1]]}}}, "/extent/spatial/bbox/0"),
            ({"extent": {"spatial": {"bbox": [[0, 2, 1, 1]]}}}, "/extent/spatial/bbox/0"),
            (
                {
                    "extent": {
                        "temporal": {"interval": [["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]]}
                    }
                },
                "/extent/temporal/interval/0",
            ),
            ({"extent": {"temporal": {"interval": [["x", None]]}}}, "/extent/temporal/interval/0"),
            ({"links": {}}, "/links"),
            ({"links": [{"rel": "about", "href": "javascript:1"}]}, "/links/0/href"),
            ({"assets": {"x": {"href": "file:///x"}}}, "/assets/x/href"),
            ({"providers": [{"name": "x", "url": "data:,x"}]}, "/providers/0/url"),
            ({"keywords": "x"}, "/keywords"),
            ({"summaries": {"x": 7}}, "/summaries/x"),
        ],
    )
    def test_that_is_wrong_is_refused(
        self, client: httpx.Client, change: Document, pointer: str
    ) -> None:
        extent = {**plain_collection()["extent"], **(change.get("extent") or {})}
        body = {**plain_collection("new"), **change}
        if change.get("extent"):
            body["extent"] = extent
        before = client.get("/collections/imagery").content
        problem(client.post("/collections", json=body), 422, pointer)
        problem(client.put("/collections/imagery", json={**body, "id": "imagery"}), 422, pointer)
        patch = {**change, "extent": extent} if change.get("extent") else change
        problem(client.patch("/collections/imagery", json=patch), 422, pointer)
        assert client.get("/collections/imagery").content == before
        assert client.get("/collections/new").status_code == 404

    @pytest.mark.parametrize("identity", BAD_IDS)
    def test_bad_ids(self, client: httpx.Client, identity: Any) -> None:
        body = {**plain_collection(), "id": identity}
        problem(client.post("/collections", json=body), 422, "/id")

    def test_kind_and_workspace_are_not_the_clients(self, client: httpx.Client) -> None:
        for field, value in (("mlops:kind", "model"), ("mlops:workspace", "alps")):
            body = {**plain_collection("new"), field: value}
            problem(client.post("/collections", json=body), 409, f"/{field}")
            patch = client.patch("/collections/imagery", json={field: value})
            problem(patch, 409, f"/{field}")

    def test_that_holds_items_is_not_deleted(self, client: httpx.Client) -> None:
        problem(client.delete("/collections/imagery"), 409)
        assert stored(client) == ["kept"]
        assert client.delete("/collections/imagery?force=true").status_code == 204
        problem(client.get("/collections/imagery"), 404)


class TestExtensions:
    MLOPS = "https://stac-mlops.github.io/mlops/v1.0.0/schema.json"

    def test_ours_is_checked_where_it_is_named(self, client: httpx.Client) -> None:
        item = plain_item()
        item["properties"] |= {"mlops:model": "x", "mlops:progress": 7}
        assert client.post(ITEMS, json=item).status_code == 201
        item = {**item, "id": "two", "stac_extensions": [self.MLOPS]}
        problem(client.post(ITEMS, json=item), 422, "/properties/mlops:progress")

    def test_unknown_ones_are_let_through(self, client: httpx.Client) -> None:
        item = {**plain_item(), "stac_extensions": ["https://x.example/v1/schema.json", "x"]}
        assert client.post(ITEMS, json=item).status_code == 201

    def test_those_in_the_folder_are_checked(
        self, api_server: ApiServer, client: httpx.Client, tmp_path: Path
    ) -> None:
        schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://stac-extensions.github.io/tree/v0.9.0/schema.json#",
            "properties": {"properties": {"properties": {"tree:height": {"type": "number"}}}},
        }
        (tmp_path / "tree-v1.0.0.json").write_text(json.dumps(schema))
        settings = api_server.settings.model_copy(update={"extension_schemas": tmp_path})
        url = "https://stac-extensions.github.io/tree/v1.0.0/schema.json"
        item = {**plain_item(), "stac_extensions": [url]}
        item["properties"]["tree:height"] = "tall"
        assert client.post(ITEMS, json={**item, "id": "elsewhere"}).status_code == 201
        with serving(settings) as address:
            problem(httpx.post(address + ITEMS, json=item), 422, "/properties/tree:height")


class TestWorkspace:
    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/id"),
            ({"id": "a/b"}, "/id"),
            ({"id": "new", "title": 0}, "/title"),
            ({"id": "new", "title": False}, "/title"),
            ({"id": "new", "description": []}, "/description"),
            ({"id": "new", "visibility": {}}, "/visibility"),
            ({"id": "new", "visibility": "PUBLIC"}, "/visibility"),
            ({"id": "new", "a/b~c": 1}, "/a~1b~0c"),
        ],
    )
    def test_that_is_wrong_is_refused(
        self, client: httpx.Client, body: Document, pointer: str
    ) -> None:
        problem(client.post("/workspaces", json=body), 422, pointer)
        assert client.get("/workspaces").json()["workspaces"] == []


class TestRequest:
    @pytest.mark.parametrize(
        ("method", "url", "status"),
        [
            ("GET", "/no/such/path", 404),
            ("GET", "/collections/imagery/items/none", 404),
            ("GET", "/collections/none", 404),
            ("DELETE", "/collections", 405),
            ("PUT", "/search", 405),
            ("POST", "/collections/imagery/items/kept", 405),
            ("GET", "/collections/imagery/items?limit=many", 400),
            ("GET", "/search?limit=0", 400),
            ("GET", "/search?limit=-1", 400),
            ("GET", "/search?bbox=1,2,3", 400),
            ("GET", "/search?bbox=a,b,c,d", 400),
            ("GET", "/search?datetime=yesterday", 400),
            ("GET", "/search?token=garbage", 400),
            ("GET", "/search?sortby=%00", 400),
            ("GET", "/search?filter=((", 400),
            ("GET", "/search?filter=a%20~~%20b", 400),
            ("GET", "/search?ids=%00", 400),
            ("DELETE", "/collections/imagery?force=perhaps", 400),
            ("DELETE", "/collections/imagery?force=false&force=true", 400),
        ],
    )
    def test_that_is_wrong_is_a_problem(
        self, client: httpx.Client, method: str, url: str, status: int
    ) -> None:
        problem(client.request(method, url), status)

    def test_jobs_write_only_to_their_run(
        self, api_server: ApiServer, client: httpx.Client
    ) -> None:
        token = issue_job_token(api_server.secret, "alps-training-runs", "x", 1, lifetime=60)
        headers = {"Authorization": f"Bearer {token}"}
        bulk = {"items": {"a": plain_item("a")}}
        problem(client.post(ITEMS, json=plain_item(), headers=headers), 403)
        answer = client.post("/collections/imagery/bulk_items", json=bulk, headers=headers)
        problem(answer, 403)
        problem(client.post("/collections", json=plain_collection("x"), headers=headers), 403)
        problem(client.delete("/collections/imagery", headers=headers), 403)


class TestAccepted:
    @pytest.mark.parametrize(
        ("geometry", "bbox"),
        [
            (polygon(CLOSED[::-1]), [15.0, 46.0, 15.1, 46.1]),
            (polygon([[*p, 100.5] for p in CLOSED]), [15.0, 46.0, 100.5, 15.1, 46.1, 100.5]),
            (polygon([[*p, 100.5] for p in CLOSED]), [15.0, 46.0, 15.1, 46.1]),
            (polygon(CLOSED), [15.0, 46.0, 0.0, 15.1, 46.1, 9.0]),
            ({"type": "Point", "coordinates": [180, -90]}, [180, -90, 180, -90]),
            (
                {
                    "type": "MultiPolygon",
                    "coordinates": [
                        [[[170, 0], [180, 0], [180, 10], [170, 10], [170, 0]]],
                        [[[-180, 0], [-170, 0], [-170, 10], [-180, 10], [-180, 0]]],
                    ],
                },
                [170, 0, -170, 10],
            ),
            ({"type": "LineString", "coordinates": [[170, 0], [-170, 0]]}, [-170, 0, 170, 0]),
        ],
    )
    def test_geometry_is_kept_as_it_is(
        self, client: httpx.Client, geometry: Document, bbox: list[float]
    ) -> None:
        item = {**plain_item(), "geometry": geometry, "bbox": bbox}
        answer = client.post(ITEMS, json=item)
        assert answer.status_code == 201, answer.text
        read = client.get(f"{ITEMS}/one").json()
        assert (read["geometry"], read["bbox"]) == (geometry, bbox)
        found = client.get("/search", params={"ids": "one"}).json()["features"]
        assert (found[0]["geometry"], found[0]["bbox"]) == (geometry, bbox)

    def test_geometry_that_is_not_cut_contradicts_a_box_across(self, client: httpx.Client) -> None:
        line = {"type": "LineString", "coordinates": [[170, 0], [-170, 0]]}
        item = {**plain_item(), "geometry": line, "bbox": [170, 0, -170, 0]}
        problem(client.post(ITEMS, json=item), 422, "/bbox")

    def test_run_of_a_workspace_is_checked_as_well(self, workspace: Any) -> None:
        url = f"{workspace.url}/collections/alps-training-runs/items"
        for change, pointer in (
            ({"links": 7}, "/links"),
            ({"id": 7}, "/id"),
            ({"properties": 7}, "/properties"),
            ({"assets": 7}, "/assets"),
        ):
            problem(httpx.post(url, json={**run_item(), **change}), 422, pointer)
            body = {"type": "FeatureCollection", "features": [run_item(), {**run_item(), **change}]}
            problem(httpx.post(url, json=body), 422, f"/features/1{pointer}")
        assert httpx.get(url).json()["features"] == []
