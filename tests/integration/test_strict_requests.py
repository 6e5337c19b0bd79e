"""Collections, extensions, workspaces, requests: what is wrong is refused and stores nothing."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops.identity import issue_job_token
from tests.conftest import ApiServer, serving
from tests.integration.plain import (
    BAD_IDS,
    ITEMS,
    Document,
    plain_collection,
    plain_item,
    problem,
    stored,
)


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
            ({"extent": {"spatial": {"bbox": [[0, 0, 9, 1, 1, 8]]}}}, "/extent/spatial/bbox/0/2"),
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
            ({"stac_extensions": ["eo"]}, "/stac_extensions"),
            ({"summaries": {"x": 7}}, "/summaries/x"),
        ],
    )
    def test_that_is_wrong_is_refused(
        self, imagery: httpx.Client, change: Document, pointer: str
    ) -> None:
        extent = {**plain_collection()["extent"], **(change.get("extent") or {})}
        body = {**plain_collection("new"), **change}
        if change.get("extent"):
            body["extent"] = extent
        before = imagery.get("/collections/imagery").content
        problem(imagery.post("/collections", json=body), 422, pointer)
        problem(imagery.put("/collections/imagery", json={**body, "id": "imagery"}), 422, pointer)
        patch = {**change, "extent": extent} if change.get("extent") else change
        problem(imagery.patch("/collections/imagery", json=patch), 422, pointer)
        assert imagery.get("/collections/imagery").content == before
        assert imagery.get("/collections/new").status_code == 404

    @pytest.mark.parametrize("identity", BAD_IDS)
    def test_bad_ids(self, imagery: httpx.Client, identity: Any) -> None:
        body = {**plain_collection(), "id": identity}
        problem(imagery.post("/collections", json=body), 422, "/id")

    def test_kind_and_workspace_are_not_the_clients(self, imagery: httpx.Client) -> None:
        for field, value in (("mlops:kind", "model"), ("mlops:workspace", "alps")):
            body = {**plain_collection("new"), field: value}
            problem(imagery.post("/collections", json=body), 409, f"/{field}")
            patch = imagery.patch("/collections/imagery", json={field: value})
            problem(patch, 409, f"/{field}")

    def test_that_holds_items_is_not_deleted(self, imagery: httpx.Client) -> None:
        problem(imagery.delete("/collections/imagery"), 409)
        assert stored(imagery) == ["kept"]
        assert imagery.delete("/collections/imagery?force=true").status_code == 204
        problem(imagery.get("/collections/imagery"), 404)


class TestExtensions:
    MLOPS = "https://stac-mlops.github.io/mlops/v1.0.0/schema.json"

    def test_ours_is_checked_where_it_is_named(self, imagery: httpx.Client) -> None:
        item = plain_item()
        item["properties"] |= {"mlops:model": "x", "mlops:progress": 7}
        assert imagery.post(ITEMS, json=item).status_code == 201
        item = {**item, "id": "two", "stac_extensions": [self.MLOPS]}
        problem(imagery.post(ITEMS, json=item), 422, "/properties/mlops:progress")

    def test_unknown_ones_are_let_through(self, imagery: httpx.Client) -> None:
        item = {**plain_item(), "stac_extensions": ["https://x.example/v1/schema.json"]}
        assert imagery.post(ITEMS, json=item).status_code == 201

    def test_those_in_the_folder_are_checked(
        self, api_server: ApiServer, imagery: httpx.Client, tmp_path: Path
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
        assert imagery.post(ITEMS, json={**item, "id": "elsewhere"}).status_code == 201
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
        self, imagery: httpx.Client, body: Document, pointer: str
    ) -> None:
        problem(imagery.post("/workspaces", json=body), 422, pointer)
        assert imagery.get("/workspaces").json()["workspaces"] == []


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
            ("GET", "/search?conf=%7B%7D", 400),
            ("DELETE", "/collections/imagery?force=perhaps", 400),
            ("DELETE", "/collections/imagery?force=false&force=true", 400),
        ],
    )
    def test_that_is_wrong_is_a_problem(
        self, imagery: httpx.Client, method: str, url: str, status: int
    ) -> None:
        problem(imagery.request(method, url), status)

    @pytest.mark.parametrize("text", ["%FF", "caf%E9", "%C3%28", "%ED%A0%80"])
    def test_malformed_utf8_in_parameters(self, imagery: httpx.Client, text: str) -> None:
        """What would be read as another character finds what nobody asked for."""
        for path in ("/search", ITEMS, "/collections"):
            problem(imagery.get(f"{path}?q={text}"), 400, "/q")
            problem(imagery.get(f"{path}?limit=1&filter=title%3D'{text}'"), 400, "/filter")
            assert "�" in problem(imagery.get(f"{path}?{text}=1"), 400)["errors"][0]["pointer"]
            assert imagery.get(f"{path}?q=caf%C3%A9").status_code == 200
        problem(imagery.get(f"/collections/imagery/browse?start={text}"), 400, "/start")

    def test_jobs_write_only_to_their_run(
        self, api_server: ApiServer, imagery: httpx.Client
    ) -> None:
        token = issue_job_token(api_server.secret, "alps-training-runs", "x", 1, lifetime=60)
        headers = {"Authorization": f"Bearer {token}"}
        bulk = {"items": {"a": plain_item("a")}}
        problem(imagery.post(ITEMS, json=plain_item(), headers=headers), 403)
        answer = imagery.post("/collections/imagery/bulk_items", json=bulk, headers=headers)
        problem(answer, 403)
        problem(imagery.post("/collections", json=plain_collection("x"), headers=headers), 403)
        problem(imagery.delete("/collections/imagery", headers=headers), 403)
