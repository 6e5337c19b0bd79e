"""Each change that is committed is told of exactly once, whoever made it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods

from mlops.api import ConflictError
from tests.conftest import ApiServer
from tests.integration.conftest import dataset_item, run_item
from tests.integration.outbox import call, forget, told
from tests.integration.plain import (
    BULK,
    ITEMS,
    Document,
    plain_collection,
    plain_item,
    problem,
    together,
)


def place(item: Document) -> tuple[str, str]:
    return item["collection"], item["id"]


class TestEvents:
    def test_one_for_each_change(self, telling: httpx.Client, database_url: str) -> None:
        telling.post(ITEMS, json=plain_item())
        telling.patch(f"{ITEMS}/one", json={"properties": {"title": "x"}})
        telling.patch(f"{ITEMS}/one", json={"properties": {"title": "x"}})
        telling.put(f"{ITEMS}/one", json=plain_item())
        telling.delete(f"{ITEMS}/one")
        telling.post(ITEMS, json=plain_item())
        expected = ["created", "updated", "updated", "deleted", "created"]
        assert told(database_url) == [(f"item.{kind}", "one") for kind in expected]

    def test_none_of_what_is_refused(self, telling: httpx.Client, database_url: str) -> None:
        bad = {**plain_item("bad"), "geometry": None}
        body = {"type": "FeatureCollection", "features": [plain_item(), bad]}
        problem(telling.post(ITEMS, json=body), 422)
        with psycopg.connect(database_url) as connection:
            connection.execute("SET search_path = pgstac, public")
            item = json.dumps({**plain_item(), "collection": "imagery"})
            connection.execute("SELECT create_item(%s::jsonb)", (item,))
            connection.rollback()
        assert told(database_url) == []

    def test_of_what_goes_with_its_collection(
        self, telling: httpx.Client, database_url: str
    ) -> None:
        body = {"items": {n: plain_item(n) for n in ("a", "b")}}
        telling.post(BULK, json=body)
        forget(database_url)
        problem(telling.delete("/collections/imagery"), 409)
        assert told(database_url) == []
        whose = {"X-Request-Id": "whoever-deletes"}
        telling.delete("/collections/imagery?force=true", headers=whose)
        assert told(database_url) == [("item.deleted", "a"), ("item.deleted", "b")]
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("SELECT DISTINCT request_id FROM mlops.outbox").fetchall()
        assert rows == [("whoever-deletes",)]

    @pytest.mark.parametrize("one_by_one", [True, False])
    def test_of_pgstacs_own_functions(
        self, telling: httpx.Client, database_url: str, one_by_one: bool
    ) -> None:
        def write(function: str, *items: Document) -> list[tuple[str, str]]:
            forget(database_url)
            written = [{**item, "collection": "imagery"} for item in items]
            if one_by_one:
                for item in written:
                    call(database_url, function, item)
            else:
                call(database_url, f"{function}s", written)
            return told(database_url)

        a, b = plain_item("a"), plain_item("b")
        assert write("create_item", a, b) == [("item.created", "a"), ("item.created", "b")]
        assert write("upsert_item", a, b) == []
        b["properties"]["title"] = "x"
        assert write("upsert_item", a, b) == [("item.updated", "b")]
        b["properties"]["title"] = "y"
        function = "update_item" if one_by_one else "upsert_item"
        assert write(function, b) == [("item.updated", "b")]
        assert write("upsert_item", b) == []
        assert telling.get(f"{ITEMS}/b").json()["properties"]["title"] == "y"
        forget(database_url)
        with psycopg.connect(database_url) as connection:
            connection.execute("SET search_path = pgstac, public")
            connection.execute("SELECT delete_item('a', 'imagery')")
        assert told(database_url) == [("item.deleted", "a")]

    def test_of_pgstacs_own_functions_in_a_workspace(
        self, workspace: Any, database_url: str
    ) -> None:
        """What update_item deletes and inserts was neither accepted nor created once more."""
        run, _ = workspace.create_item("alps-training-runs", run_item())
        dataset = workspace.get_item("alps-training-data", "fields-v1").item
        forget(database_url)
        for item in (run, dataset):
            item["properties"]["title"] = "by other hands"
            call(database_url, "update_item", item)
            call(database_url, "upsert_items", [item])
        assert told(database_url) == []
        run["properties"]["mlops:status"] = "failed"
        call(database_url, "update_item", run)
        assert told(database_url) == [("run.failed", run["id"])]
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT item FROM mlops.open_runs").fetchall() == []

    @pytest.mark.parametrize(
        "properties",
        [
            {},
            {"mlops:status": "accepted"},
            {"mlops:status": "done", "mlops:attempt": 1},
            {"mlops:status": ["running"], "mlops:attempt": 1},
            {"mlops:status": "running", "mlops:attempt": "x"},
        ],
    )
    def test_of_runs_that_another_tool_loaded(
        self, workspace: Any, api_server: ApiServer, database_url: str, properties: Document
    ) -> None:
        """What was never submitted has no status to change; it can be read and deleted."""
        loaded = {**plain_item("loaded"), "collection": "alps-training-runs"}
        loaded["properties"] |= properties
        call(database_url, "create_item", loaded)
        url = f"{workspace.url}/collections/alps-training-runs/items/loaded"
        assert httpx.get(url).json()["properties"] == loaded["properties"]
        change = {"properties": {"title": "x"}}
        assert "submitted" in problem(httpx.patch(url, json=change), 409)["detail"]
        assert (
            "submitted"
            in problem(httpx.put(url, json={**run_item(), "id": "loaded"}), 409)["detail"]
        )
        system = api_server.system()
        with pytest.raises(ConflictError, match="submitted"):
            system.request("PATCH", url.removeprefix(system.url), json=change)
        assert httpx.delete(url).status_code == 204
        problem(httpx.get(url), 404)

    def test_none_of_a_table_that_is_split_or_put_together(
        self, telling: httpx.Client, workspace: Any, database_url: str
    ) -> None:
        """Every row is inserted anew then, and nothing is changed."""
        telling.post(ITEMS, json=plain_item())
        run, _ = workspace.create_item("alps-training-runs", run_item())
        before = [telling.get(f"{ITEMS}/one").content, workspace.get_item(*place(run)).item]
        forget(database_url)
        for split in ("month", None):
            with psycopg.connect(database_url) as connection:
                connection.execute("UPDATE pgstac.collections SET partition_trunc = %s", (split,))
            assert told(database_url) == []
        after = [telling.get(f"{ITEMS}/one").content, workspace.get_item(*place(run)).item]
        assert after == before
        workspace.delete_item(*place(run))
        telling.post(ITEMS, json=plain_item("two"))
        assert told(database_url) == [("run.dismissed", run["id"]), ("item.created", "two")]

    def test_of_versions_that_are_linked_anew(self, workspace: Any, database_url: str) -> None:
        """A new version changes those before it, and each of them once; so does one that goes."""
        data = "alps-training-data"
        workspace.request("PATCH", f"/collections/{data}", json={"mlops:events": True})
        for digest in "bc":
            workspace.create_item(data, dataset_item(digest * 64))
        forget(database_url)
        workspace.create_item(data, dataset_item("d" * 64))
        assert sorted(told(database_url)) == [
            ("item.updated", "fields-v1"),
            ("item.updated", "fields-v2"),
            ("item.updated", "fields-v3"),
            ("training-data.created", "fields-v4"),
        ]
        for gone, changed in ("fields-v2", [1, 3]), ("fields-v4", [1, 3]):
            forget(database_url)
            workspace.delete_item(data, gone)
            updated = [("item.updated", f"fields-v{number}") for number in changed]
            assert sorted(told(database_url)) == [("item.deleted", gone), *updated]

    def test_keep_the_order_of_an_item(self, telling: httpx.Client, database_url: str) -> None:
        telling.post(ITEMS, json=plain_item())
        base = str(telling.base_url)

        def change(number: int) -> list[str]:
            etags = []
            for n in range(10):
                patch = {"properties": {"n": f"{number}.{n}"}}
                answer = httpx.patch(f"{base}{ITEMS}/one", json=patch, timeout=60)
                etags.append(answer.headers["ETag"].strip('"'))
            return etags

        acknowledged = together(8, change)
        with psycopg.connect(database_url) as connection:
            rows = connection.execute(
                "SELECT etag FROM mlops.outbox WHERE detail_type = 'item.updated' ORDER BY seq"
            ).fetchall()
        order = [str(row[0]) for row in rows]
        assert sorted(order) == sorted(etag for etags in acknowledged for etag in etags)
        for etags in acknowledged:
            assert [etag for etag in order if etag in etags] == etags
        assert telling.get(f"{ITEMS}/one").headers["ETag"] == f'"{order[-1]}"'

    def test_of_items_with_a_property_like_a_runs(
        self, telling: httpx.Client, database_url: str
    ) -> None:
        for number, attempt in enumerate([3, 5_000_000_000, 1e300, -1, 0.5, "x"]):
            item = plain_item(f"i{number}")
            item["properties"]["mlops:attempt"] = attempt
            assert telling.post(ITEMS, json=item).status_code == 201
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("SELECT attempt FROM mlops.outbox ORDER BY seq").fetchall()
        assert [row[0] for row in rows] == [3, None, None, None, None, None]


class TestBesideOtherTools:
    """pgstac's loader binds the table of a collection to the times of the items in it."""

    @pytest.fixture
    def narrow(self, telling: httpx.Client, database_url: str, tmp_path: Path) -> httpx.Client:
        telling.post(ITEMS, json=plain_item())
        loaded = tmp_path / "items.ndjson"
        loaded.write_text(json.dumps({**plain_item("loaded"), "collection": "imagery"}))
        loader = Loader(PgstacDB(dsn=database_url))
        try:
            loader.load_items(str(loaded), Methods.upsert)
        finally:
            loader.db.close()
        forget(database_url)
        return telling

    @staticmethod
    def late(identity: str) -> Document:
        item = plain_item(identity)
        item["properties"]["datetime"] = "2031-01-01T00:00:00Z"
        return item

    def test_items_of_other_times_are_written(
        self, narrow: httpx.Client, database_url: str
    ) -> None:
        assert narrow.post(ITEMS, json=self.late("two")).status_code == 201
        assert told(database_url) == [("item.created", "two")]

    @pytest.mark.parametrize("name", ["one", "loaded"])
    def test_items_change_their_time(
        self, narrow: httpx.Client, database_url: str, name: str
    ) -> None:
        change = {"properties": {"datetime": "2031-01-01T00:00:00Z"}}
        assert narrow.patch(f"{ITEMS}/{name}", json=change).status_code == 200
        assert narrow.put(f"{ITEMS}/{name}", json=plain_item(name)).status_code == 200
        assert told(database_url) == [("item.updated", name)] * 2

    def test_they_are_replaced(self, narrow: httpx.Client) -> None:
        answer = narrow.put(f"{ITEMS}/one", json=self.late("one"))
        assert answer.json()["properties"]["datetime"] == "2031-01-01T00:00:00Z"

    @pytest.mark.parametrize("method", ["insert", "upsert"])
    def test_many_are_written(self, narrow: httpx.Client, database_url: str, method: str) -> None:
        items = {name: self.late(name) for name in ("a", "b", "loaded")[: 2 + (method == "upsert")]}
        answer = narrow.post(BULK, json={"items": items, "method": method})
        assert answer.json()["created"] == ["a", "b"]
        assert sorted(name for _, name in told(database_url)) == sorted(items)

    def test_many_at_once(self, narrow: httpx.Client) -> None:
        url = f"{narrow.base_url}{ITEMS}"

        def create(number: int) -> int:
            return httpx.post(url, json=self.late(f"i{number}"), timeout=60).status_code

        assert Counter(together(8, create)) == {201: 8}

    def test_a_table_that_is_split_takes_nothing_new(
        self, telling: httpx.Client, database_url: str
    ) -> None:
        """An id would be unique in each of its parts only."""
        for item in (plain_item(), self.late("two")):
            telling.post(ITEMS, json=item)
        telling.post("/collections", json=plain_collection("empty"))
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE pgstac.collections SET partition_trunc = 'month'")
        forget(database_url)
        much_later = plain_item("three")
        much_later["properties"]["datetime"] = "2040-01-01T00:00:00Z"
        for item in (self.late("one"), much_later):
            assert "split" in problem(telling.post(ITEMS, json=item), 409)["detail"]
            body = {"items": {item["id"]: item}}
            assert "split" in problem(telling.post(BULK, json=body), 409)["detail"]
        problem(telling.post("/collections/empty/items", json=plain_item()), 409)
        change = {"properties": much_later["properties"]}
        problem(telling.patch(f"{ITEMS}/two", json=change), 409)
        assert told(database_url) == []
        assert telling.patch(f"{ITEMS}/two", json={"properties": {"title": "x"}}).is_success
        assert telling.delete(f"{ITEMS}/one").status_code == 204
        assert told(database_url) == [("item.updated", "two"), ("item.deleted", "one")]
        assert [item["id"] for item in telling.get(ITEMS).json()["features"]] == ["two"]
