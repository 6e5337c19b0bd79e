"""Items: whatever is wrong is refused with a problem that points to it; nothing is stored."""

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.conftest import ApiServer, serving
from tests.integration.conftest import run_item
from tests.integration.plain import (
    BAD_IDS,
    ITEMS,
    SQUARE,
    Document,
    plain_collection,
    plain_item,
    problem,
    stored,
)


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


OPEN = [[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.1]]

CLOSED = [*OPEN, [15.0, 46.0]]

BAD_ITEMS: list[tuple[str, Any, str]] = [
    ("/type", "Collection", "/type"),
    ("/type", ..., "/type"),
    ("/stac_version", "0.9.0", "/stac_version"),
    ("/stac_version", 1.1, "/stac_version"),
    ("/stac_extensions", "x", "/stac_extensions"),
    ("/stac_extensions", [7], "/stac_extensions"),
    ("/stac_extensions", ["eo"], "/stac_extensions"),
    ("/stac_extensions", ["javascript:alert(1)"], "/stac_extensions"),
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
    ("/assets/data/created", "yesterday, Z", "/assets/data/created"),
    (
        "/assets/data",
        {
            "href": "x",
            "start_datetime": "2026-01-02T00:00:00Z",
            "end_datetime": "2026-01-01T00:00:00Z",
        },
        "/assets/data/end_datetime",
    ),
    (
        "/assets/data/providers",
        [{"name": "x", "url": "javascript:alert(1)"}],
        "/assets/data/providers/0/url",
    ),
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


class TestItem:
    @pytest.fixture
    def reference(self, imagery: httpx.Client) -> bytes:
        return imagery.get(f"{ITEMS}/kept").content

    # One database serves all of them: a case costs milliseconds so, not a second.
    def test_that_is_wrong_is_refused_at_every_door(
        self, imagery: httpx.Client, reference: bytes, subtests: pytest.Subtests
    ) -> None:
        for place, value, pointer in BAD_ITEMS:
            item = changed(place, value)
            with subtests.test(place=place, value=value):
                problem(imagery.post(ITEMS, json=item), 422, pointer)
                body = {"type": "FeatureCollection", "features": [plain_item("ok"), item]}
                problem(imagery.post(ITEMS, json=body), 422, f"/features/1{pointer}")
                if place != "/id":
                    bulk = {"items": {"ok": plain_item("ok"), "one": item}, "method": "upsert"}
                    answer = imagery.post("/collections/imagery/bulk_items", json=bulk)
                    problem(answer, 422, f"/items/one{pointer}")
                    put = imagery.put(f"{ITEMS}/kept", json={**item, "id": "kept"})
                    problem(put, 422, pointer)
                assert stored(imagery) == ["kept"]
                assert imagery.get(f"{ITEMS}/kept").content == reference

    def test_that_is_no_strict_json_is_refused(
        self, imagery: httpx.Client, reference: bytes, subtests: pytest.Subtests
    ) -> None:
        for text, pointer in BAD_TEXTS:
            body = json.dumps(plain_item()).replace('"datetime"', '"x": @, "datetime"')
            content = body.replace("@", text).encode()
            headers = {"Content-Type": "application/json"}
            with subtests.test(text=text[:40]):
                problem(imagery.post(ITEMS, content=content, headers=headers), 400, pointer)
                put = imagery.put(f"{ITEMS}/kept", content=content, headers=headers)
                problem(put, 400, pointer)
                patch = b'{"properties": {"x": ' + text.encode() + b"}}"
                patched = imagery.patch(f"{ITEMS}/kept", content=patch, headers=headers)
                problem(patched, 400, pointer)
                assert stored(imagery) == ["kept"]
                assert imagery.get(f"{ITEMS}/kept").content == reference

    @pytest.mark.parametrize("content", [b"\xff", b'{"id": "\xc3\x28"}', b"\xef\xbb\xbf{}", b"[]"])
    def test_malformed_utf8_and_what_is_no_object(
        self, imagery: httpx.Client, content: bytes
    ) -> None:
        headers = {"Content-Type": "application/json"}
        problem(imagery.post(ITEMS, content=content, headers=headers), 400, "")

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "*/*"]
    )
    def test_wrong_content_type(self, imagery: httpx.Client, kind: str) -> None:
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
            answer = imagery.request(method, url, content=content, headers={"Content-Type": kind})
            problem(answer, 415, "")
        assert stored(imagery) == ["kept"]

    def test_compressed_body(self, imagery: httpx.Client) -> None:
        content = gzip.compress(json.dumps(plain_item()).encode())
        for method, url in (
            ("POST", ITEMS),
            ("PUT", f"{ITEMS}/kept"),
            ("PATCH", f"{ITEMS}/kept"),
            ("POST", "/search"),
            ("POST", "/workspaces"),
        ):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            answer = imagery.request(method, url, content=content, headers=headers)
            assert "as it is" in problem(answer, 415, "")["detail"]
            assert answer.headers["accept-encoding"] == "identity"
        # Nor is the header of a body that is none of it taken for nothing.
        headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
        problem(imagery.patch(f"{ITEMS}/kept", content=b"{}", headers=headers), 415)
        assert stored(imagery) == ["kept"]

    def test_answers_to_many_faults_are_short(self, imagery: httpx.Client) -> None:
        item = {**plain_item(), "links": [7] * 200_000}
        answer = imagery.post(ITEMS, json=item)
        assert len(problem(answer, 422)["errors"]) == 100
        content = b'{"x": [' + b"NaN," * 200_000 + b"1]}"
        headers = {"Content-Type": "application/json"}
        answer = imagery.post(ITEMS, content=content, headers=headers)
        assert len(problem(answer, 400)["errors"]) == 100

    def test_unknown_collection(self, imagery: httpx.Client) -> None:
        for url in ("/collections/none/items", "/collections/a%00b/items"):
            answer = imagery.post(url, json=plain_item())
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
    def test_bad_ids_in_urls(self, imagery: httpx.Client, identity: str) -> None:
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            for url in (f"{ITEMS}/{identity}", f"/collections/{identity}"):
                body = plain_item() if method in ("PUT", "PATCH") else None
                answer = imagery.request(method, url, json=body)
                if method == "DELETE" and answer.status_code == 204:
                    continue  # what was never there is gone
                assert answer.status_code in (400, 404, 405, 422), (method, url)
                if method != "HEAD":
                    problem(answer, answer.status_code)
        assert stored(imagery) == ["kept"]

    def test_id_that_differs_from_the_url(self, imagery: httpx.Client) -> None:
        problem(imagery.put(f"{ITEMS}/kept", json=plain_item()), 422, "/id")
        patch = imagery.patch(f"{ITEMS}/kept", json={"id": "other"})
        problem(patch, 422, "/id")
        patch = imagery.patch(f"{ITEMS}/kept", json={"collection": "other"})
        problem(patch, 422, "/collection")

    def test_taken_id(self, imagery: httpx.Client) -> None:
        problem(imagery.post(ITEMS, json=plain_item("kept")), 409)
        features = [plain_item("new"), plain_item("kept")]
        body = {"type": "FeatureCollection", "features": features}
        assert "kept" in problem(imagery.post(ITEMS, json=body), 409)["detail"]
        twice = {"type": "FeatureCollection", "features": [plain_item(), plain_item()]}
        problem(imagery.post(ITEMS, json=twice), 422, "/features/1/id")
        assert stored(imagery) == ["kept"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"type": "FeatureCollection"}, "/features"),
            ({"type": "FeatureCollection", "features": {}}, "/features"),
            ({"type": "FeatureCollection", "features": [7]}, "/features/0"),
        ],
    )
    def test_bad_feature_collection(
        self, imagery: httpx.Client, body: Document, pointer: str
    ) -> None:
        problem(imagery.post(ITEMS, json=body), 422, pointer)

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
    def test_bad_bulk_request(self, imagery: httpx.Client, body: Document, pointer: str) -> None:
        problem(imagery.post("/collections/imagery/bulk_items", json=body), 422, pointer)


class TestSize:
    def test_is_limited(self, imagery: httpx.Client) -> None:
        large = plain_item()
        large["properties"]["x"] = "x" * (2 << 20)
        problem(imagery.post(ITEMS, json=large), 413, "")
        problem(imagery.put(f"{ITEMS}/kept", json=large), 413, "")
        problem(imagery.patch(f"{ITEMS}/kept", json=large), 413, "")
        body = {"type": "FeatureCollection", "features": [plain_item("ok"), large]}
        problem(imagery.post(ITEMS, json=body), 413, "/features/1")
        collection = {**plain_collection("x"), "x": "x" * (2 << 20)}
        problem(imagery.post("/collections", json=collection), 413, "")
        half = {"properties": {"x": "x" * (3 << 19)}}
        assert imagery.patch(f"{ITEMS}/kept", json=half).status_code == 200
        problem(imagery.patch(f"{ITEMS}/kept", json={"y": "x" * (1 << 20)}), 413, "")
        assert stored(imagery) == ["kept"]

    def test_of_what_is_full_is_no_hindrance(self, imagery: httpx.Client) -> None:
        """With the links of its place an item may be larger than one that is accepted."""
        full = plain_item("full")
        full["properties"] |= {"title": "one", "x": ""}
        full["properties"]["x"] = "x" * ((2 << 20) - len(json.dumps(full)))
        assert imagery.post(ITEMS, json=full).status_code == 201
        problem(imagery.patch(f"{ITEMS}/full", json={"properties": {"title": "three"}}), 413)
        changed = imagery.patch(f"{ITEMS}/full", json={"properties": {"title": "two"}})
        assert changed.json()["properties"]["title"] == "two"
        operation = {"op": "replace", "path": "/properties/title", "value": "one"}
        headers = {"Content-Type": "application/json-patch+json"}
        changed = imagery.patch(f"{ITEMS}/full", json=[operation], headers=headers)
        assert changed.json()["properties"] == full["properties"]

    def test_of_many_items_is_limited(self, imagery: httpx.Client) -> None:
        features: list[Document] = [{}] * 10_001
        body = {"type": "FeatureCollection", "features": features}
        problem(imagery.post(ITEMS, json=body), 413, "/features")
        bulk = {"items": {str(number): {} for number in range(10_001)}}
        problem(imagery.post("/collections/imagery/bulk_items", json=bulk), 413, "/items")
        patch = [{"op": "test", "path": "/id", "value": "kept"}] * 1001
        headers = {"Content-Type": "application/json-patch+json"}
        problem(imagery.patch(f"{ITEMS}/kept", json=patch, headers=headers), 413, "")

    def test_of_a_body_without_a_length(self, imagery: httpx.Client) -> None:
        answer = imagery.put(
            f"{ITEMS}/kept",
            content=(b"x" * 65536 for _ in range(40)),
            headers={"Content-Type": "application/json"},
        )
        problem(answer, 413)

    @pytest.mark.usefixtures("imagery")
    def test_is_configurable(self, api_server: ApiServer) -> None:
        settings = api_server.settings.model_copy(update={"max_body_bytes": 1000})
        with serving(settings) as url:
            small = plain_item("small")
            assert httpx.post(url + ITEMS, json=small).status_code == 201
            small["properties"]["x"] = "x" * 1000
            problem(httpx.post(url + ITEMS, json=small), 413)

    def test_of_numbers_written_out(self, imagery: httpx.Client) -> None:
        """1e300 takes 5 bytes in a request and 301 in what the database writes."""
        item = plain_item()
        item["properties"]["x"] = [1e300] * 10_000
        problem(imagery.post(ITEMS, json=item), 413)


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
        self, imagery: httpx.Client, geometry: Document, bbox: list[float]
    ) -> None:
        item = {**plain_item(), "geometry": geometry, "bbox": bbox}
        answer = imagery.post(ITEMS, json=item)
        assert answer.status_code == 201, answer.text
        read = imagery.get(f"{ITEMS}/one").json()
        assert (read["geometry"], read["bbox"]) == (geometry, bbox)
        found = imagery.get("/search", params={"ids": "one"}).json()["features"]
        assert (found[0]["geometry"], found[0]["bbox"]) == (geometry, bbox)

    def test_geometry_that_is_not_cut_contradicts_a_box_across(self, imagery: httpx.Client) -> None:
        line = {"type": "LineString", "coordinates": [[170, 0], [-170, 0]]}
        item = {**plain_item(), "geometry": line, "bbox": [170, 0, -170, 0]}
        problem(imagery.post(ITEMS, json=item), 422, "/bbox")

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
