"""Links, methods and headers that browsers and clients of a STAC API rely on."""

import hashlib
from typing import Any, ClassVar

import httpx
import pytest

from mlops.api import Api
from stac_api import browsing
from tests.integration.conftest import run_item
from tests.integration.test_pystac_client import collection

RUNS, DATA = "alps-training-runs", "alps-training-data"

PAGES = [
    "/",
    "/conformance",
    "/queryables",
    "/collections",
    f"/collections/{DATA}",
    f"/collections/{DATA}/queryables",
    f"/collections/{DATA}/browse",
    f"/collections/{DATA}/items",
    f"/collections/{DATA}/items/fields-v1",
    "/search",
    "/workspaces",
    "/workspaces/alps",
    "/recipes",
    "/api",
    "/api.html",
]


def links_of(document: dict[str, Any]) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in document["links"]}


def hrefs_in(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [document["href"]] if isinstance(document.get("href"), str) else []
        return own + [href for value in document.values() for href in hrefs_in(value)]
    if isinstance(document, list):
        return [href for value in document for href in hrefs_in(value)]
    return []


class TestPlaces:
    def test_documents_say_where_they_are(self, http: httpx.Client) -> None:
        root = f"{http.base_url}/"
        collection = f"{root}collections/{DATA}"
        expected = {
            "/": {"self": root, "root": root, "data": f"{root}collections"},
            "/collections": {"self": f"{root}collections", "root": root, "parent": root},
            f"/collections/{DATA}": {
                "self": collection,
                "root": root,
                "parent": root,
                "items": f"{collection}/items",
                "child": f"{collection}/browse",
            },
            f"/collections/{DATA}/items": {
                "self": f"{collection}/items",
                "root": root,
                "parent": collection,
                "collection": collection,
            },
            f"/collections/{DATA}/items/fields-v1": {
                "self": f"{collection}/items/fields-v1",
                "root": root,
                "parent": collection,
                "collection": collection,
            },
            "/search?limit=3": {"self": f"{root}search?limit=3", "root": root},
            f"/collections/{DATA}/browse": {
                "self": f"{collection}/browse",
                "root": root,
                "parent": collection,
                "item": f"{collection}/items/fields-v1",
            },
        }
        for path, links in expected.items():
            assert links.items() <= links_of(http.get(path).json()).items(), path

    def test_every_link_of_the_landing_page_leads_somewhere(self, http: httpx.Client) -> None:
        page = http.get("/").json()
        for link in page["links"]:
            if link.get("method", "GET") == "GET":
                answer = http.get(link["href"])
                assert answer.status_code == 200, link
                assert answer.headers["Content-Type"].split(";")[0] == link["type"].split(";")[0]
        assert http.get("/conformance").json()["conformsTo"] == page["conformsTo"]
        children = {link["title"]: link["href"] for link in page["links"] if link["rel"] == "child"}
        assert children["alps: models"] == f"{http.base_url}/collections/alps-models"

    def test_queryables_are_schemas_of_their_own_url(self, http: httpx.Client) -> None:
        for path in ("/queryables", f"/collections/{RUNS}/queryables"):
            answer = http.get(path)
            assert answer.headers["Content-Type"] == "application/schema+json"
            assert answer.json()["$id"] == f"{http.base_url}{path}"
            assert answer.json()["$schema"] == "https://json-schema.org/draft/2019-09/schema"
        runs = http.get(f"/collections/{RUNS}/queryables").json()["properties"]
        data = http.get(f"/collections/{DATA}/queryables").json()["properties"]
        assert runs["mlops:objective_value"]["type"] == "number"
        assert runs["mlops:compute.instance_count"]["type"] == "integer"
        assert "running" in runs["mlops:status"]["enum"]
        assert "mlops:manifest_digest" in data
        assert "mlops:manifest_digest" not in runs
        assert http.get("/collections/none/queryables").status_code == 404


class TestBrowsing:
    def test_all_items_are_reached_by_links(
        self, http: httpx.Client, workspace: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(browsing, "_PAGE", 4)
        ids = {workspace.create_item(RUNS, run_item())[0]["id"] for _ in range(11)}
        top = http.get(f"/collections/{RUNS}/browse").json()
        pages = [link["href"] for link in top["links"] if link["rel"] == "child"]
        assert len(pages) == 3
        found = []
        for page in pages:
            catalog = http.get(page).json()
            assert links_of(catalog)["self"] == page
            assert links_of(catalog)["parent"] == f"{http.base_url}/collections/{RUNS}/browse"
            found += [link["title"] for link in catalog["links"] if link["rel"] == "item"]
        assert sorted(found) == sorted(ids)
        assert http.get("/collections/none/browse").status_code == 404


class TestMethods:
    @pytest.mark.parametrize("path", PAGES)
    def test_head_is_get_without_a_body(self, http: httpx.Client, path: str) -> None:
        got, headed = http.get(path), http.head(path)
        assert (headed.status_code, headed.content) == (200, b"")
        for name in ("Content-Type", "Content-Length", "ETag", "Content-Encoding"):
            assert headed.headers.get(name) == got.headers.get(name), name

    @pytest.mark.parametrize("path", PAGES)
    def test_options_tell_what_is_allowed(self, http: httpx.Client, path: str) -> None:
        answer = http.options(path)
        assert answer.status_code == 204
        assert {"GET", "HEAD", "OPTIONS"} <= set(answer.headers["Allow"].split(", "))

    def test_allow_is_whole(self, http: httpx.Client) -> None:
        item = f"/collections/{DATA}/items/fields-v1"
        allowed = "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
        assert http.options(item).headers["Allow"] == allowed
        refused = http.post(item, json={})
        assert (refused.status_code, refused.headers["Allow"]) == (405, allowed)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert http.options("/search").headers["Allow"] == "GET, POST, HEAD, OPTIONS"
        assert http.options("/nowhere").status_code == 404
        assert http.head("/nowhere").status_code == 404
        assert http.head(f"/collections/{DATA}/items/none").content == b""


class TestDescription:
    """What ``/api`` says of an answer is what is answered."""

    ITEM = f"/collections/{DATA}/items/fields-v1"
    RUN_LOG = f"/collections/{RUNS}/items/a-run/log"
    WHOLE: ClassVar = {"Prefer": "return=representation"}

    @pytest.mark.parametrize(
        ("method", "path", "route", "headers", "status"),
        [
            ("GET", ITEM, "/collections/{collection_id}/items/{item_id}", {}, 200),
            (
                "GET",
                ITEM,
                "/collections/{collection_id}/items/{item_id}",
                {"If-None-Match": "*"},
                304,
            ),
            ("PATCH", ITEM, "/collections/{collection_id}/items/{item_id}", {}, 204),
            ("PATCH", ITEM, "/collections/{collection_id}/items/{item_id}", WHOLE, 200),
            ("PATCH", "/collections/scenes", "/collections/{collection_id}", {}, 204),
            ("GET", f"/collections/{DATA}/items", "/collections/{collection_id}/items", {}, 200),
            ("GET", "/search", "/search", {}, 200),
            ("GET", "/queryables", "/queryables", {}, 200),
            ("GET", RUN_LOG, "/collections/{collection_id}/items/{item_id}/log", {}, 200),
            ("GET", "/healthz", "/healthz", {}, 200),
        ],
    )
    def test_of_answers(
        self,
        http: httpx.Client,
        workspace: Api,
        method: str,
        path: str,
        route: str,
        headers: dict[str, str],
        status: int,
    ) -> None:
        workspace.create_item(RUNS, {**run_item(), "id": "a-run"})
        http.post("/collections", json=collection("scenes")).raise_for_status()
        body = {"title": "x"} if path == "/collections/scenes" else {"properties": {"title": "x"}}
        sent = body if method == "PATCH" else None
        answer = http.request(method, path, headers=headers, json=sent)
        assert answer.status_code == status
        operation = http.get("/api").json()["paths"][route][method.lower()]
        content = operation["responses"][str(status)].get("content", {})
        given = answer.headers.get("Content-Type", "").split(";")[0]
        assert list(content) == ([given] if given else [])
        told = {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}
        assert headers.keys() <= told

    def test_of_the_parameters_of_collections(self, http: httpx.Client) -> None:
        operation = http.get("/api").json()["paths"]["/collections"]["get"]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert http.get("/collections", params={"offset": 1}).status_code == 200
        assert http.get("/collections", params={"token": "x"}).status_code == 400
        assert {"offset", "ids", "query"} <= names
        assert "token" not in names


class TestFiles:
    def test_a_file_is_sent_as_it_is(self, http: httpx.Client) -> None:
        """Not compressed: it is packed already, and parts of it are asked for by their bytes."""
        content = b"a row of a table\n" * 500
        digest = hashlib.sha256(content).hexdigest()
        path = f"/assets/alps/training-data/blobs/{digest[:2]}/{digest}"
        assert http.put(path, content=content).status_code == 201
        got, headed = http.get(path), http.head(path)
        assert got.content == content
        assert "Content-Encoding" not in got.headers
        assert got.headers["Content-Length"] == str(len(content))
        for name in ("Content-Type", "Content-Length", "ETag", "Accept-Ranges", "Vary"):
            assert headed.headers.get(name) == got.headers.get(name), name
        part = http.get(path, headers={"Range": "bytes=2-5", "If-Range": got.headers["ETag"]})
        assert (part.status_code, part.content) == (206, content[2:6])
        for ranges in ("bytes=-6", "bytes=8494-", "bytes=8494-9999", "bytes=8494-8495,8496-"):
            part = http.get(path, headers={"Range": ranges})
            assert part.status_code == 206, ranges
        for ranges in ("chars=1-2", "bytes=6-2", "bytes=", "bytes=a-b", "bytes=-", "2-5"):
            whole = http.get(path, headers={"Range": ranges})
            assert (whole.status_code, whole.content) == (200, content), ranges
        beyond = http.get(path, headers={"Range": "bytes=9999-"})
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */8500")


class TestPreferences:
    def test_a_write_answers_with_the_record_when_asked(self, http: httpx.Client) -> None:
        item = f"/collections/{DATA}/items/fields-v1"
        for change in ({"title": "one"}, {"title": "two"}):
            short = http.patch(item, json={"properties": change})
            assert (short.status_code, short.content) == (204, b"")
            assert short.headers["ETag"] == http.get(item).headers["ETag"]
        change = {"properties": {"title": "three"}}
        prefer = {"Prefer": "respond-async, return=representation"}
        whole = http.patch(item, json=change, headers=prefer)
        assert (whole.status_code, whole.json()) == (200, http.get(item).json())
        assert whole.headers["Preference-Applied"] == "return=representation"
        again = http.put(item, json=whole.json())
        assert (again.status_code, again.content) == (204, b"")

    def test_what_is_not_there_is_deleted_already(self, http: httpx.Client) -> None:
        item = f"/collections/{DATA}/items/none"
        assert http.delete(item).status_code == 204
        assert http.delete(item, headers={"If-Match": "*"}).status_code == 412
        assert http.delete("/collections/none/items/none").status_code == 404
