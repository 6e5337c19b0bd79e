"""Writes are whole or not at all, and none of many at once is lost."""

import copy
import functools
import gc
import json
import time
from collections import Counter
from typing import Any

import httpx
import psycopg
import pytest

from mlops.identity import issue_system_token
from tests.conftest import ApiServer, serving
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


class TestPreconditions:
    @pytest.mark.parametrize("url", [f"{ITEMS}/one", "/collections/imagery"])
    def test_etag_guards_every_method(self, telling: httpx.Client, url: str) -> None:
        telling.post(ITEMS, json=plain_item())
        read = telling.get(url)
        etag = read.headers["ETag"]
        assert etag.startswith('"')
        assert telling.head(url).headers["ETag"] == etag
        assert telling.get(url, headers={"If-None-Match": etag}).status_code == 304
        assert telling.get(url, headers={"If-None-Match": f"W/{etag}"}).status_code == 304
        assert telling.get(url, headers={"If-None-Match": f'"x", {etag}'}).status_code == 304
        assert telling.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
        for given in ('"stale"', f"W/{etag}", etag.strip('"'), ""):
            headers = {"If-Match": given}
            problem(telling.put(url, json=read.json(), headers=headers), 412)
            problem(telling.patch(url, json={"title": "x"}, headers=headers), 412)
            problem(telling.delete(url, headers=headers), 412)
        problem(telling.patch(url, json={"title": "x"}, headers={"If-None-Match": etag}), 412)
        lines = [("If-None-Match", '"x"'), ("If-None-Match", etag)]
        assert telling.get(url, headers=lines).status_code == 304
        problem(telling.patch(url, json={"title": "x"}, headers=lines), 412)
        present = telling.get(url).headers["ETag"]
        lines = [("If-Match", '"x"'), ("If-Match", present)]
        assert telling.patch(url, json={}, headers=lines).status_code == 200
        assert telling.get(url).content == read.content
        headers = {"If-Match": f'"other", {etag}'}
        changed = telling.patch(url, json={"title": "x"}, headers=headers)
        assert changed.status_code == 200
        assert changed.headers["ETag"] == telling.get(url).headers["ETag"] != etag
        headers = {"If-Match": "*"}
        assert telling.put(url, json=read.json(), headers=headers).headers["ETag"] == etag

    @pytest.mark.parametrize(
        ("url", "document"),
        [(f"{ITEMS}/new", plain_item("new")), ("/collections/new", plain_collection("new"))],
    )
    def test_put_may_create_and_only_create(
        self, telling: httpx.Client, url: str, document: Document
    ) -> None:
        problem(telling.put(url, json=document), 404)
        headers = {"If-None-Match": "*"}
        created = telling.put(url, json=document, headers=headers)
        assert (created.status_code, created.headers["Location"][-4:]) == (201, "/new")
        problem(telling.put(url, json={**document, "title": "x"}, headers=headers), 412)
        assert telling.get(url).headers["ETag"] == created.headers["ETag"]

    @pytest.mark.parametrize("url", [f"{ITEMS}/one", "/collections/imagery"])
    def test_may_come_in_several_lines(self, telling: httpx.Client, url: str) -> None:
        telling.post(ITEMS, json=plain_item())
        etag = telling.get(url).headers["ETag"]
        known = httpx.Headers([("If-None-Match", '"other"'), ("If-None-Match", etag)])
        assert telling.get(url, headers=known).status_code == 304
        problem(telling.patch(url, json={"title": "x"}, headers=known), 412)
        wanted = httpx.Headers([("If-Match", '"other"'), ("If-Match", etag)])
        assert telling.patch(url, json={"title": "x"}, headers=wanted).status_code == 200

    def test_put_that_may_only_create_tells_why_it_does_not(
        self, telling: httpx.Client, workspace: Any
    ) -> None:
        """412 says that there is one: what the rules refuse is not there."""
        headers = {"If-None-Match": "*"}
        owned = {**plain_collection("new"), "mlops:kind": "model"}
        problem(telling.put("/collections/new", json=owned, headers=headers), 409, "/mlops:kind")
        run, _ = workspace.create_item("alps-training-runs", run_item())
        url = f"/collections/alps-training-runs/items/{run['id']}"
        again = {**run_item(), "id": run["id"]}
        problem(telling.put(url, json=again, headers=headers), 412)
        there = {**owned, "id": "imagery"}
        problem(
            telling.put("/collections/imagery", json=there, headers=headers), 412, "/mlops:kind"
        )
        for number, status in ((1, 412), (7, 409)):
            version = {**dataset_item("b" * 64), "id": f"fields-v{number}"}
            data = f"/collections/alps-training-data/items/{version['id']}"
            refused = problem(telling.put(data, json=version, headers=headers), status)
            assert "next version of fields is 2" in refused["detail"]
        for _ in ("dismissed", "deleted"):
            telling.delete(url)
        problem(telling.put(url, json=again, headers=headers), 409)

    @pytest.mark.parametrize("place", [f"{ITEMS}/new", "/collections/new"])
    def test_that_supposes_a_record_creates_none(self, telling: httpx.Client, place: str) -> None:
        document = (
            plain_collection("new") if place.endswith("collections/new") else plain_item("new")
        )
        headers = {"If-Match": '"x"', "If-None-Match": "*"}
        problem(telling.put(place, json=document, headers=headers), 412)
        assert telling.get(place).status_code == 404

    def test_one_of_many_creates(self, telling: httpx.Client) -> None:
        def create(_: int) -> int:
            headers = {"If-None-Match": "*"}
            url = str(telling.base_url) + f"{ITEMS}/one"
            return httpx.put(url, json=plain_item(), headers=headers, timeout=60).status_code

        assert Counter(together(16, create)) == {201: 1, 412: 15}

    def test_one_of_many_with_the_same_etag_changes(self, telling: httpx.Client) -> None:
        etag = telling.post(ITEMS, json=plain_item()).headers["ETag"]
        url = str(telling.base_url) + f"{ITEMS}/one"

        def change(number: int) -> int:
            patch = {"properties": {"n": number}}
            return httpx.patch(url, json=patch, headers={"If-Match": etag}, timeout=60).status_code

        assert Counter(together(16, change)) == {204: 1, 412: 15}

    def test_if_match_may_be_required(self, api_server: ApiServer, telling: httpx.Client) -> None:
        telling.post(ITEMS, json=plain_item())
        settings = api_server.settings.model_copy(update={"require_if_match": True})
        with serving(settings) as url:
            for path in (f"{ITEMS}/one", "/collections/imagery"):
                read = httpx.get(url + path)
                problem(httpx.put(url + path, json=read.json()), 428)
                headers = {"If-Match": read.headers["ETag"]}
                assert httpx.put(url + path, json=read.json(), headers=headers).status_code == 204


class TestBulk:
    def test_inserts_and_upserts(self, telling: httpx.Client, database_url: str) -> None:
        items = {f"i{n}": plain_item(f"i{n}") for n in range(10)}
        answer = telling.post(BULK, json={"items": items, "method": "insert"})
        assert (answer.status_code, answer.json()["created"]) == (201, list(items))
        single = telling.post(ITEMS, json=plain_item("single")).json()
        many = telling.get(f"{ITEMS}/i0").json()
        assert json.loads(json.dumps(many).replace("i0", "single")) == single
        forget(database_url)
        problem(telling.post(BULK, json={"items": items}), 409)
        assert told(database_url) == []
        items["i3"]["properties"]["title"] = "changed"
        items["i4"]["geometry"] = {"type": "Point", "coordinates": [1, 2]}
        del items["i4"]["bbox"]
        items["new"] = plain_item("new")
        answer = telling.post(BULK, json={"items": items, "method": "upsert"})
        assert (answer.status_code, answer.json()["created"]) == (201, ["new"])
        assert sorted(answer.json()["updated"]) == sorted(f"i{n}" for n in range(10))
        assert telling.get(f"{ITEMS}/i3").json()["properties"]["title"] == "changed"
        assert telling.get(f"{ITEMS}/i4").json()["bbox"] == [1, 2, 1, 2]
        expected = [("item.created", "new"), ("item.updated", "i3"), ("item.updated", "i4")]
        assert sorted(told(database_url)) == expected

    def test_upserts_at_once_are_all_done(self, telling: httpx.Client, database_url: str) -> None:
        url = str(telling.base_url) + BULK

        def upsert(number: int) -> int:
            items = {f"i{n}": plain_item(f"i{n}") for n in range(20)}
            ordered = dict(sorted(items.items(), reverse=bool(number % 2)))
            for item in ordered.values():
                item["properties"]["n"] = number
            body = {"items": ordered, "method": "upsert"}
            return httpx.post(url, json=body, timeout=60).status_code

        assert set(together(8, upsert)) <= {200, 201}
        counts = Counter(told(database_url))
        assert all(counts[("item.created", f"i{n}")] == 1 for n in range(20))
        assert all(counts[("item.updated", f"i{n}")] == 7 for n in range(20))

    def test_of_the_same_in_other_orders(self, telling: httpx.Client) -> None:
        """Who waits for one another is tried again: one creates all, others find them there."""
        url = str(telling.base_url) + BULK

        def write(number: int, prefix: str) -> int:
            names = [f"{prefix}-{n}" for n in range(400)]
            items = {n: plain_item(n) for n in (reversed(names) if number % 2 else names)}
            body = {"items": items, "method": "insert" if number < 3 else "upsert"}
            return httpx.post(url, json=body, timeout=60).status_code

        for prefix in ("a", "b", "c"):
            statuses = together(6, functools.partial(write, prefix=prefix))
            assert set(statuses) <= {200, 201, 409}
            assert statuses.count(201) == 1

    def test_rules_hold_for_every_item(self, workspace: Any, database_url: str) -> None:
        runs = f"{workspace.url}/collections/alps-training-runs"
        forget(database_url)
        bad = run_item(**{"mlops:status": "successful"})
        body = {"type": "FeatureCollection", "features": [run_item(), bad]}
        pointer = "/features/1/properties/mlops:status"
        problem(httpx.post(f"{runs}/items", json=body), 422, pointer)
        bulk = {"items": {"a": run_item(), "b": bad}}
        answer = httpx.post(f"{runs}/bulk_items", json=bulk)
        problem(answer, 422, "/items/b/properties/mlops:status")
        assert httpx.get(f"{runs}/items").json()["features"] == []
        assert told(database_url) == []
        created = httpx.post(
            f"{runs}/bulk_items", json={"items": {"a": run_item(), "b": run_item()}}
        )
        assert created.json()["created"] == ["a", "b"]
        assert told(database_url) == [("run.accepted", "a"), ("run.accepted", "b")]
        forget(database_url)
        kept = httpx.get(f"{runs}/items/a").json()
        asked = copy.deepcopy(kept)
        asked["properties"]["mlops:model"] = "other"
        answer = httpx.post(f"{runs}/bulk_items", json={"items": {"a": asked}, "method": "upsert"})
        problem(answer, 409, "/items/a/properties/mlops:model")
        titled = copy.deepcopy(kept)
        titled["properties"]["title"] = "Titled"
        body = {"items": {"c": run_item(), "a": titled}, "method": "upsert"}
        answer = httpx.post(f"{runs}/bulk_items", json=body)
        assert answer.json() == {"created": ["c"], "updated": ["a"]}
        assert told(database_url) == [("run.accepted", "c")]
        models = f"{workspace.url}/collections/alps-models"
        problem(httpx.post(f"{models}/bulk_items", json={"items": {"m": plain_item("m")}}), 403)
        data = f"{workspace.url}/collections/alps-training-data/items"
        features = [dataset_item("b" * 64), dataset_item("c" * 64)]
        answer = httpx.post(data, json={"type": "FeatureCollection", "features": features})
        assert answer.json()["created"] == ["fields-v2", "fields-v3"]

    def test_rules_may_ask_while_others_are_stored(self, workspace: Any, database_url: str) -> None:
        """A later part of a request names a dataset that no earlier one did."""
        workspace.create_item("alps-training-data", dataset_item("b" * 64))
        runs = f"{workspace.url}/collections/alps-training-runs/items"
        forget(database_url)
        features = [{**run_item(), "id": f"r{n}"} for n in range(1_200)]
        for run in features[700:]:
            run["links"][0]["href"] = "../../alps-training-data/items/fields-v2"
        features[1_100]["links"][0]["href"] = "../../alps-training-data/items/fields-v9"
        body = {"type": "FeatureCollection", "features": features}
        problem(httpx.post(runs, json=body, timeout=60), 422, "/features/1100/links/0/href")
        assert told(database_url) == []
        features[1_100]["links"][0]["href"] = "../../alps-training-data/items/fields-v1"
        assert httpx.post(runs, json=body, timeout=60).status_code == 201
        assert told(database_url) == [("run.accepted", f"r{n}") for n in range(1_200)]
        for run in features[1:]:
            run["id"] += "-again"
        problem(httpx.post(runs, json=body, timeout=60), 409)
        assert len(told(database_url)) == 1_200

    def test_faults_point_into_what_was_given(self, workspace: Any) -> None:
        """The server's own links stand before those of a client when the rules see an item."""
        runs = f"{workspace.url}/collections/alps-training-runs"
        run = run_item()
        missing = {"rel": "training-data", "href": "../../alps-training-data/items/fields-v9"}
        run["links"] = [{"rel": "self", "href": "x"}, *run["links"], missing]
        problem(httpx.post(f"{runs}/items", json=run), 422, "/links/2/href")
        bulk = {"items": {"a": run_item(), "b": run}}
        problem(httpx.post(f"{runs}/bulk_items", json=bulk), 422, "/items/b/links/2/href")

    def test_two_faults_are_one_answer(
        self, telling: httpx.Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One item is there already, and while the database says so a later one is found wrong."""
        telling.post(ITEMS, json=plain_item("i0"))
        items = {f"i{n}": plain_item(f"i{n}") for n in range(400)}
        items["i300"]["geometry"] = None
        problem(telling.post(BULK, json={"items": items}), 422, "/items/i300/geometry")
        gc.collect()
        assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []

    def test_ten_thousand(self, telling: httpx.Client, database_url: str) -> None:
        telling.post("/collections", json=plain_collection("many"))
        item = plain_item()
        item["properties"] |= {f"x:{n}": n + 0.5 for n in range(40)}
        features = [{**item, "id": f"i{n}"} for n in range(10_000)]
        start = time.perf_counter()
        body = {"type": "FeatureCollection", "features": features}
        answer = telling.post("/collections/many/items", json=body)
        assert answer.status_code == 201
        # A hundred times what a machine with nothing else to do needs.
        assert time.perf_counter() - start < 120
        features.append({**item, "id": "one-more"})
        problem(telling.post("/collections/many/items", json=body), 413)
        with psycopg.connect(database_url) as connection:
            query = "SELECT count(*) FROM pgstac.items WHERE collection = 'many'"
            assert connection.execute(query).fetchone() == (10_000,)


class TestConcurrency:
    def test_collections_come_and_go(self, telling: httpx.Client) -> None:
        """What one waits for to make a table, another must not hold while it waits too."""
        base = str(telling.base_url)

        def make(number: int) -> int:
            if number % 4 == 0:
                body: Document = {"id": f"w{number}"}
                return httpx.post(f"{base}/workspaces", json=body, timeout=60).status_code
            body = plain_collection(f"c{number}")
            return httpx.post(f"{base}/collections", json=body, timeout=60).status_code

        assert together(16, make) == [201] * 16

        def work(number: int) -> int:
            if number % 4 == 0:
                body = {"collections": ["c1", "c2", "c3"]}
                return httpx.post(f"{base}/search", json=body, timeout=60).status_code
            if number % 2:
                return httpx.delete(f"{base}/collections/c{number}", timeout=60).status_code
            body = plain_collection(f"d{number}")
            return httpx.post(f"{base}/collections", json=body, timeout=60).status_code

        expected = {0: 200, 1: 204, 2: 201, 3: 204}
        assert together(16, work) == [expected[number % 4] for number in range(16)]

    def test_first_items_of_a_collection(self, telling: httpx.Client) -> None:
        base = str(telling.base_url)

        def create(number: int) -> int:
            item = plain_item(f"i{number}")
            item["properties"]["datetime"] = f"{1950 + number * 2}-01-01T00:00:00Z"
            return httpx.post(f"{base}{ITEMS}", json=item, timeout=60).status_code

        assert Counter(together(64, create)) == {201: 64}

    def test_first_items_of_a_collection_that_another_tool_made(
        self, telling: httpx.Client, database_url: str
    ) -> None:
        made = telling.get("/collections/imagery").json() | {"id": "elsewhere", "links": []}
        call(database_url, "create_collection", made)
        url = f"{telling.base_url}/collections/elsewhere/items"

        def create(number: int) -> int:
            return httpx.post(url, json=plain_item(f"i{number}"), timeout=60).status_code

        assert Counter(together(8, create)) == {201: 8}

    def test_no_write_of_many_is_lost(self, telling: httpx.Client) -> None:
        telling.post(ITEMS, json=plain_item())
        base = str(telling.base_url)

        def change(number: int) -> set[int]:
            url = f"{base}{ITEMS}/one"
            with httpx.Client(timeout=60) as own:
                return {
                    own.patch(url, json={"properties": {f"n{number}.{n}": n}}).status_code
                    for n in range(20)
                }

        assert together(8, change) == [{204}] * 8
        properties = telling.get(f"{ITEMS}/one").json()["properties"]
        assert sum(name.startswith("n") for name in properties) == 160

    def test_deleting_a_collection_loses_nothing(self, telling: httpx.Client) -> None:
        """Items that come while their collection goes are refused, or keep it."""
        base = str(telling.base_url)
        for round_ in range(5):
            name = f"c{round_}"
            telling.post("/collections", json=plain_collection(name))

            def work(number: int, name: str = name) -> int:
                if number == 0:
                    return httpx.delete(f"{base}/collections/{name}", timeout=60).status_code
                url = f"{base}/collections/{name}/items"
                return httpx.post(url, json=plain_item(f"i{number}"), timeout=60).status_code

            deleted, *created = together(9, work)
            assert set(created) <= {201, 404, 409}
            assert deleted == (409 if 201 in created else 204)


def test_the_system_writes_in_bulk_too(api_server: ApiServer, workspace: Any) -> None:
    """A system's token changes nothing of what an item must be."""
    headers = {"Authorization": f"Bearer {issue_system_token(api_server.secret, 'tests')}"}
    url = f"{workspace.url}/collections/alps-training-runs/bulk_items"
    bad = run_item(**{"mlops:attempt": 3})
    answer = httpx.post(url, json={"items": {"a": bad}}, headers=headers)
    problem(answer, 422, "/items/a/properties/mlops:attempt")
