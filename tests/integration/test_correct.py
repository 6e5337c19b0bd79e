"""Writes are whole or not at all, told exactly once, and read back as they were written."""

import copy
import functools
import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods

from mlops.api import ConflictError
from mlops.identity import issue_system_token
from tests.conftest import ApiServer, serving
from tests.integration.conftest import dataset_item, run_item
from tests.integration.test_strict import ITEMS, plain_collection, plain_item, problem

Document = dict[str, Any]
BULK = "/collections/imagery/bulk_items"


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API whose collection `imagery` asks for events."""
    prefer = {"Prefer": "return=representation"}
    with httpx.Client(base_url=api_server.url, timeout=60, headers=prefer) as client:
        collection = {**plain_collection(), "mlops:events": True}
        assert client.post("/collections", json=collection).status_code == 201
        yield client


def told(database_url: str) -> list[tuple[str, str]]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT detail_type, item FROM mlops.outbox ORDER BY seq")
        return [(str(kind), str(item)) for kind, item in rows.fetchall()]


def place(item: Document) -> tuple[str, str]:
    return item["collection"], item["id"]


def forget(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM mlops.outbox")


def call(database_url: str, function: str, document: Any) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET search_path = pgstac, public")
        connection.execute(f"SELECT {function}(%s::jsonb)", (json.dumps(document),))


def together(count: int, work: Any) -> list[Any]:
    """What ``work`` returns for each number when all of them start at once."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestPreconditions:
    @pytest.mark.parametrize("url", [f"{ITEMS}/one", "/collections/imagery"])
    def test_etag_guards_every_method(self, client: httpx.Client, url: str) -> None:
        client.post(ITEMS, json=plain_item())
        read = client.get(url)
        etag = read.headers["ETag"]
        assert etag.startswith('"')
        assert client.head(url).headers["ETag"] == etag
        assert client.get(url, headers={"If-None-Match": etag}).status_code == 304
        assert client.get(url, headers={"If-None-Match": f"W/{etag}"}).status_code == 304
        assert client.get(url, headers={"If-None-Match": f'"x", {etag}'}).status_code == 304
        assert client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
        for given in ('"stale"', f"W/{etag}", etag.strip('"'), ""):
            headers = {"If-Match": given}
            problem(client.put(url, json=read.json(), headers=headers), 412)
            problem(client.patch(url, json={"title": "x"}, headers=headers), 412)
            problem(client.delete(url, headers=headers), 412)
        problem(client.patch(url, json={"title": "x"}, headers={"If-None-Match": etag}), 412)
        lines = [("If-None-Match", '"x"'), ("If-None-Match", etag)]
        assert client.get(url, headers=lines).status_code == 304
        problem(client.patch(url, json={"title": "x"}, headers=lines), 412)
        present = client.get(url).headers["ETag"]
        lines = [("If-Match", '"x"'), ("If-Match", present)]
        assert client.patch(url, json={}, headers=lines).status_code == 200
        assert client.get(url).content == read.content
        headers = {"If-Match": f'"other", {etag}'}
        changed = client.patch(url, json={"title": "x"}, headers=headers)
        assert changed.status_code == 200
        assert changed.headers["ETag"] == client.get(url).headers["ETag"] != etag
        headers = {"If-Match": "*"}
        assert client.put(url, json=read.json(), headers=headers).headers["ETag"] == etag

    @pytest.mark.parametrize(
        ("url", "document"),
        [(f"{ITEMS}/new", plain_item("new")), ("/collections/new", plain_collection("new"))],
    )
    def test_put_may_create_and_only_create(
        self, client: httpx.Client, url: str, document: Document
    ) -> None:
        problem(client.put(url, json=document), 404)
        headers = {"If-None-Match": "*"}
        created = client.put(url, json=document, headers=headers)
        assert (created.status_code, created.headers["Location"][-4:]) == (201, "/new")
        problem(client.put(url, json={**document, "title": "x"}, headers=headers), 412)
        assert client.get(url).headers["ETag"] == created.headers["ETag"]

    @pytest.mark.parametrize("url", [f"{ITEMS}/one", "/collections/imagery"])
    def test_may_come_in_several_lines(self, client: httpx.Client, url: str) -> None:
        client.post(ITEMS, json=plain_item())
        etag = client.get(url).headers["ETag"]
        known = httpx.Headers([("If-None-Match", '"other"'), ("If-None-Match", etag)])
        assert client.get(url, headers=known).status_code == 304
        problem(client.patch(url, json={"title": "x"}, headers=known), 412)
        wanted = httpx.Headers([("If-Match", '"other"'), ("If-Match", etag)])
        assert client.patch(url, json={"title": "x"}, headers=wanted).status_code == 200

    def test_put_that_may_only_create_tells_why_it_does_not(
        self, client: httpx.Client, workspace: Any
    ) -> None:
        """412 says that there is one: what the rules refuse is not there."""
        headers = {"If-None-Match": "*"}
        owned = {**plain_collection("new"), "mlops:kind": "model"}
        problem(client.put("/collections/new", json=owned, headers=headers), 409, "/mlops:kind")
        run, _ = workspace.create_item("alps-training-runs", run_item())
        url = f"/collections/alps-training-runs/items/{run['id']}"
        again = {**run_item(), "id": run["id"]}
        problem(client.put(url, json=again, headers=headers), 412)
        there = {**owned, "id": "imagery"}
        problem(client.put("/collections/imagery", json=there, headers=headers), 412, "/mlops:kind")
        for number, status in ((1, 412), (7, 409)):
            version = {**dataset_item("b" * 64), "id": f"fields-v{number}"}
            data = f"/collections/alps-training-data/items/{version['id']}"
            refused = problem(client.put(data, json=version, headers=headers), status)
            assert "next version of fields is 2" in refused["detail"]
        for _ in ("dismissed", "deleted"):
            client.delete(url)
        problem(client.put(url, json=again, headers=headers), 409)

    @pytest.mark.parametrize("place", [f"{ITEMS}/new", "/collections/new"])
    def test_that_supposes_a_record_creates_none(self, client: httpx.Client, place: str) -> None:
        document = (
            plain_collection("new") if place.endswith("collections/new") else plain_item("new")
        )
        headers = {"If-Match": '"x"', "If-None-Match": "*"}
        problem(client.put(place, json=document, headers=headers), 412)
        assert client.get(place).status_code == 404

    def test_one_of_many_creates(self, client: httpx.Client) -> None:
        def create(_: int) -> int:
            headers = {"If-None-Match": "*"}
            url = str(client.base_url) + f"{ITEMS}/one"
            return httpx.put(url, json=plain_item(), headers=headers, timeout=60).status_code

        assert Counter(together(16, create)) == {201: 1, 412: 15}

    def test_one_of_many_with_the_same_etag_changes(self, client: httpx.Client) -> None:
        etag = client.post(ITEMS, json=plain_item()).headers["ETag"]
        url = str(client.base_url) + f"{ITEMS}/one"

        def change(number: int) -> int:
            patch = {"properties": {"n": number}}
            return httpx.patch(url, json=patch, headers={"If-Match": etag}, timeout=60).status_code

        assert Counter(together(16, change)) == {204: 1, 412: 15}

    def test_if_match_may_be_required(self, api_server: ApiServer, client: httpx.Client) -> None:
        client.post(ITEMS, json=plain_item())
        settings = api_server.settings.model_copy(update={"require_if_match": True})
        with serving(settings) as url:
            for path in (f"{ITEMS}/one", "/collections/imagery"):
                read = httpx.get(url + path)
                problem(httpx.put(url + path, json=read.json()), 428)
                headers = {"If-Match": read.headers["ETag"]}
                assert httpx.put(url + path, json=read.json(), headers=headers).status_code == 204


class TestFidelity:
    def test_what_is_read_is_what_was_written(self, client: httpx.Client) -> None:
        item = plain_item()
        item["properties"] |= {
            "datetime": "2026-01-01T12:34:56.123456789Z",
            "x:numbers": [
                0.1,
                1.0,
                1,
                -1,
                2**63 - 1,
                -(2**63),
                True,
                5e-324,
                1.7976931348623157e308,
            ],
            "x:texts": ["", "ä€😀", "\u2028", '\\u0000 "', "'; DROP TABLE items; --", "𝒳"],
            "x:nothing": None,
            "x:empty": [{}, [], ""],
            "pgstac:base_item": "x",
        }
        item["pgstac:base_item"] = 1
        item["properties"]["𒍅"] = {"𒍅": "𒍅"}
        item["x:foreign"] = {"pgstac:base_item": 1, "nested": [None]}
        item["assets"]["data"]["x:null"] = None
        item["assets"]["𒍅"] = {"href": "https://x.example/ä b"}
        item["links"] = [
            {"rel": "about", "href": "https://x.example/", "x": None},
            {"rel": "item", "href": "https://x.example/?#"},
            {"rel": "child", "href": "https://x.example/"},
        ]
        created = client.post(ITEMS, json=item)
        assert created.status_code == 201, created.text
        read = client.get(f"{ITEMS}/one")
        found = client.post("/search", json={"ids": ["one"]}).json()["features"][0]
        assert found == read.json()
        for answer in (created.json(), read.json(), found):
            # The database writes numbers without an exponent.
            numbers = answer["properties"]["x:numbers"]
            numbers[-1] = float(numbers[-1])
            for name in item.keys() - {"links"}:
                assert answer[name] == item[name], name
            assert answer["links"][4:] == item["links"]
        again = client.put(f"{ITEMS}/one", json=read.json())
        assert (again.status_code, again.headers["ETag"]) == (200, read.headers["ETag"])

    @pytest.mark.parametrize(
        "position",
        [
            [1.2345678901234567e-5, 1.2345678901234567e-7],
            [5e-324, -1e-21],
            [179.99999999999997, 0.30000000000000004],
            [1.0, 2.0, 9007199254740992.0],
        ],
    )
    def test_coordinates_are_exact(self, client: httpx.Client, position: list[float]) -> None:
        item = plain_item()
        del item["bbox"]
        item["geometry"] = {"type": "Point", "coordinates": position}
        created = client.post(ITEMS, json=item)
        assert created.status_code == 201, created.text
        assert client.get(f"{ITEMS}/one").json()["geometry"] == item["geometry"]

    def test_links_of_a_collection(self, client: httpx.Client) -> None:
        """Relative ones are resolved, all others are what they were."""
        base = f"{client.base_url}/"
        hrefs = {
            "http://x.example/a?": None,
            "http://x.example/#": None,
            f"{base}collections/linked/x#": None,
            f"{base}": None,
            "license.txt": f"{base}collections/license.txt",
            "../x": f"{base}x",
            "/x": f"{base}x",
            "?q": f"{base}collections/linked?q",
        }
        given = [{"rel": "license", "href": href, "x": None} for href in hrefs]
        given += [{"rel": rel, "href": base} for rel in ("item", "collection", "my-queryables")]
        collection = {**plain_collection("linked"), "links": given}
        created = client.post("/collections", json=collection)
        read = client.get("/collections/linked")
        for answer in (created.json(), read.json()):
            own = [link for link in answer["links"] if link["rel"] == "license"]
            assert [link["href"] for link in own] == [new or old for old, new in hrefs.items()]
            rels = [link["rel"] for link in answer["links"]]
            assert rels[-3:] == ["item", "collection", "my-queryables"]
        again = client.put("/collections/linked", json=read.json())
        assert again.headers["ETag"] == read.headers["ETag"] == created.headers["ETag"]

    def test_a_box_is_kept_where_it_is_right(self, client: httpx.Client) -> None:
        """One that crosses the antimeridian, or has heights, is not to be had from the geometry."""
        across: Document = {
            "type": "MultiLineString",
            "coordinates": [[[170, -9], [180, 9]], [[-180, 9], [-170, -9]]],
        }
        raised: Document = {"type": "LineString", "coordinates": [[0, 0, 1], [1, 1, 5]]}
        for name, geometry, bbox in (
            ("across", across, [170, -9, -170, 9]),
            ("raised", raised, [0, 0, 1, 1, 1, 5]),
        ):
            url = f"{ITEMS}/{name}"
            item = {**plain_item(name), "geometry": geometry, "bbox": bbox}
            assert client.post(ITEMS, json=item).status_code == 201
            turned = copy.deepcopy(geometry)
            turned["coordinates"].reverse()
            assert client.patch(url, json={"geometry": turned}).json()["bbox"] == bbox
            assert client.put(url, json=item).json()["bbox"] == bbox
            moved = {"type": "Point", "coordinates": [7, 8]}
            problem(client.put(url, json={**item, "geometry": moved}), 422, "/bbox")
            assert client.patch(url, json={"geometry": moved}).json()["bbox"] == [7, 8, 7, 8]

    def test_put_of_what_was_read_changes_nothing(
        self, client: httpx.Client, database_url: str
    ) -> None:
        client.post(ITEMS, json=plain_item())
        forget(database_url)
        read = client.get(f"{ITEMS}/one")
        put = client.put(f"{ITEMS}/one", json=read.json())
        assert (put.status_code, put.headers["ETag"]) == (200, read.headers["ETag"])
        assert client.patch(f"{ITEMS}/one", json={}).headers["ETag"] == read.headers["ETag"]
        assert told(database_url) == []

    def test_a_number_is_no_truth(self, client: httpx.Client) -> None:
        """1, 1.0 and true are equal in Python and different in JSON."""
        item = plain_item()
        item["properties"]["x"] = 1
        etags = {client.post(ITEMS, json=item).headers["ETag"]}
        for value in (True, 1.0):
            answer = client.patch(f"{ITEMS}/one", json={"properties": {"x": value}})
            assert type(client.get(f"{ITEMS}/one").json()["properties"]["x"]) is type(value)
            etags.add(answer.headers["ETag"])
        assert len(etags) == 3

    def test_a_number_is_no_other_in_bulk(self, client: httpx.Client, database_url: str) -> None:
        item = plain_item()
        for value in (1, 1.0, 1.0):
            item["properties"]["x"] = value
            client.post(BULK, json={"items": {"one": item}, "method": "upsert"})
            assert type(client.get(f"{ITEMS}/one").json()["properties"]["x"]) is type(value)
        assert told(database_url) == [("item.created", "one"), ("item.updated", "one")]


class TestBulk:
    def test_inserts_and_upserts(self, client: httpx.Client, database_url: str) -> None:
        items = {f"i{n}": plain_item(f"i{n}") for n in range(10)}
        answer = client.post(BULK, json={"items": items, "method": "insert"})
        assert (answer.status_code, answer.json()["created"]) == (201, list(items))
        single = client.post(ITEMS, json=plain_item("single")).json()
        many = client.get(f"{ITEMS}/i0").json()
        assert json.loads(json.dumps(many).replace("i0", "single")) == single
        forget(database_url)
        problem(client.post(BULK, json={"items": items}), 409)
        assert told(database_url) == []
        items["i3"]["properties"]["title"] = "changed"
        items["i4"]["geometry"] = {"type": "Point", "coordinates": [1, 2]}
        del items["i4"]["bbox"]
        items["new"] = plain_item("new")
        answer = client.post(BULK, json={"items": items, "method": "upsert"})
        assert (answer.status_code, answer.json()["created"]) == (201, ["new"])
        assert sorted(answer.json()["updated"]) == sorted(f"i{n}" for n in range(10))
        assert client.get(f"{ITEMS}/i3").json()["properties"]["title"] == "changed"
        assert client.get(f"{ITEMS}/i4").json()["bbox"] == [1, 2, 1, 2]
        expected = [("item.created", "new"), ("item.updated", "i3"), ("item.updated", "i4")]
        assert sorted(told(database_url)) == expected

    def test_upserts_at_once_are_all_done(self, client: httpx.Client, database_url: str) -> None:
        url = str(client.base_url) + BULK

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

    def test_of_the_same_in_other_orders(self, client: httpx.Client) -> None:
        """Who waits for one another is tried again: one creates all, others find them there."""
        url = str(client.base_url) + BULK

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
        self, client: httpx.Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One item is there already, and while the database says so a later one is found wrong."""
        client.post(ITEMS, json=plain_item("i0"))
        items = {f"i{n}": plain_item(f"i{n}") for n in range(400)}
        items["i300"]["geometry"] = None
        problem(client.post(BULK, json={"items": items}), 422, "/items/i300/geometry")
        gc.collect()
        assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []

    def test_ten_thousand(self, client: httpx.Client, database_url: str) -> None:
        client.post("/collections", json=plain_collection("many"))
        item = plain_item()
        item["properties"] |= {f"x:{n}": n + 0.5 for n in range(40)}
        features = [{**item, "id": f"i{n}"} for n in range(10_000)]
        start = time.perf_counter()
        body = {"type": "FeatureCollection", "features": features}
        answer = client.post("/collections/many/items", json=body)
        assert answer.status_code == 201
        # A hundred times what a machine with nothing else to do needs.
        assert time.perf_counter() - start < 120
        features.append({**item, "id": "one-more"})
        problem(client.post("/collections/many/items", json=body), 413)
        with psycopg.connect(database_url) as connection:
            query = "SELECT count(*) FROM pgstac.items WHERE collection = 'many'"
            assert connection.execute(query).fetchone() == (10_000,)


class TestEvents:
    def test_one_for_each_change(self, client: httpx.Client, database_url: str) -> None:
        client.post(ITEMS, json=plain_item())
        client.patch(f"{ITEMS}/one", json={"properties": {"title": "x"}})
        client.patch(f"{ITEMS}/one", json={"properties": {"title": "x"}})
        client.put(f"{ITEMS}/one", json=plain_item())
        client.delete(f"{ITEMS}/one")
        client.post(ITEMS, json=plain_item())
        expected = ["created", "updated", "updated", "deleted", "created"]
        assert told(database_url) == [(f"item.{kind}", "one") for kind in expected]

    def test_none_of_what_is_refused(self, client: httpx.Client, database_url: str) -> None:
        bad = {**plain_item("bad"), "geometry": None}
        body = {"type": "FeatureCollection", "features": [plain_item(), bad]}
        problem(client.post(ITEMS, json=body), 422)
        with psycopg.connect(database_url) as connection:
            connection.execute("SET search_path = pgstac, public")
            item = json.dumps({**plain_item(), "collection": "imagery"})
            connection.execute("SELECT create_item(%s::jsonb)", (item,))
            connection.rollback()
        assert told(database_url) == []

    def test_of_what_goes_with_its_collection(
        self, client: httpx.Client, database_url: str
    ) -> None:
        body = {"items": {n: plain_item(n) for n in ("a", "b")}}
        client.post(BULK, json=body)
        forget(database_url)
        problem(client.delete("/collections/imagery"), 409)
        assert told(database_url) == []
        whose = {"X-Request-Id": "whoever-deletes"}
        client.delete("/collections/imagery?force=true", headers=whose)
        assert told(database_url) == [("item.deleted", "a"), ("item.deleted", "b")]
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("SELECT DISTINCT request_id FROM mlops.outbox").fetchall()
        assert rows == [("whoever-deletes",)]

    @pytest.mark.parametrize("one_by_one", [True, False])
    def test_of_pgstacs_own_functions(
        self, client: httpx.Client, database_url: str, one_by_one: bool
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
        assert client.get(f"{ITEMS}/b").json()["properties"]["title"] == "y"
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
        self, client: httpx.Client, workspace: Any, database_url: str
    ) -> None:
        """Every row is inserted anew then, and nothing is changed."""
        client.post(ITEMS, json=plain_item())
        run, _ = workspace.create_item("alps-training-runs", run_item())
        before = [client.get(f"{ITEMS}/one").content, workspace.get_item(*place(run)).item]
        forget(database_url)
        for split in ("month", None):
            with psycopg.connect(database_url) as connection:
                connection.execute("UPDATE pgstac.collections SET partition_trunc = %s", (split,))
            assert told(database_url) == []
        after = [client.get(f"{ITEMS}/one").content, workspace.get_item(*place(run)).item]
        assert after == before
        workspace.delete_item(*place(run))
        client.post(ITEMS, json=plain_item("two"))
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

    def test_keep_the_order_of_an_item(self, client: httpx.Client, database_url: str) -> None:
        client.post(ITEMS, json=plain_item())
        base = str(client.base_url)

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
        assert client.get(f"{ITEMS}/one").headers["ETag"] == f'"{order[-1]}"'

    def test_of_items_with_a_property_like_a_runs(
        self, client: httpx.Client, database_url: str
    ) -> None:
        for number, attempt in enumerate([3, 5_000_000_000, 1e300, -1, 0.5, "x"]):
            item = plain_item(f"i{number}")
            item["properties"]["mlops:attempt"] = attempt
            assert client.post(ITEMS, json=item).status_code == 201
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("SELECT attempt FROM mlops.outbox ORDER BY seq").fetchall()
        assert [row[0] for row in rows] == [3, None, None, None, None, None]


class TestBesideOtherTools:
    """pgstac's loader binds the table of a collection to the times of the items in it."""

    @pytest.fixture
    def narrow(self, client: httpx.Client, database_url: str, tmp_path: Path) -> httpx.Client:
        client.post(ITEMS, json=plain_item())
        loaded = tmp_path / "items.ndjson"
        loaded.write_text(json.dumps({**plain_item("loaded"), "collection": "imagery"}))
        loader = Loader(PgstacDB(dsn=database_url))
        try:
            loader.load_items(str(loaded), Methods.upsert)
        finally:
            loader.db.close()
        forget(database_url)
        return client

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
        self, client: httpx.Client, database_url: str
    ) -> None:
        """An id would be unique in each of its parts only."""
        for item in (plain_item(), self.late("two")):
            client.post(ITEMS, json=item)
        client.post("/collections", json=plain_collection("empty"))
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE pgstac.collections SET partition_trunc = 'month'")
        forget(database_url)
        much_later = plain_item("three")
        much_later["properties"]["datetime"] = "2040-01-01T00:00:00Z"
        for item in (self.late("one"), much_later):
            assert "split" in problem(client.post(ITEMS, json=item), 409)["detail"]
            body = {"items": {item["id"]: item}}
            assert "split" in problem(client.post(BULK, json=body), 409)["detail"]
        problem(client.post("/collections/empty/items", json=plain_item()), 409)
        change = {"properties": much_later["properties"]}
        problem(client.patch(f"{ITEMS}/two", json=change), 409)
        assert told(database_url) == []
        assert client.patch(f"{ITEMS}/two", json={"properties": {"title": "x"}}).is_success
        assert client.delete(f"{ITEMS}/one").status_code == 204
        assert told(database_url) == [("item.updated", "two"), ("item.deleted", "one")]
        assert [item["id"] for item in client.get(ITEMS).json()["features"]] == ["two"]


class TestConcurrency:
    def test_collections_come_and_go(self, client: httpx.Client) -> None:
        """What one waits for to make a table, another must not hold while it waits too."""
        base = str(client.base_url)

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

    def test_first_items_of_a_collection(self, client: httpx.Client) -> None:
        base = str(client.base_url)

        def create(number: int) -> int:
            item = plain_item(f"i{number}")
            item["properties"]["datetime"] = f"{1950 + number * 2}-01-01T00:00:00Z"
            return httpx.post(f"{base}{ITEMS}", json=item, timeout=60).status_code

        assert Counter(together(64, create)) == {201: 64}

    def test_first_items_of_a_collection_that_another_tool_made(
        self, client: httpx.Client, database_url: str
    ) -> None:
        made = client.get("/collections/imagery").json() | {"id": "elsewhere", "links": []}
        call(database_url, "create_collection", made)
        url = f"{client.base_url}/collections/elsewhere/items"

        def create(number: int) -> int:
            return httpx.post(url, json=plain_item(f"i{number}"), timeout=60).status_code

        assert Counter(together(8, create)) == {201: 8}

    def test_no_write_of_many_is_lost(self, client: httpx.Client) -> None:
        client.post(ITEMS, json=plain_item())
        base = str(client.base_url)

        def change(number: int) -> set[int]:
            url = f"{base}{ITEMS}/one"
            with httpx.Client(timeout=60) as own:
                return {
                    own.patch(url, json={"properties": {f"n{number}.{n}": n}}).status_code
                    for n in range(20)
                }

        assert together(8, change) == [{204}] * 8
        properties = client.get(f"{ITEMS}/one").json()["properties"]
        assert sum(name.startswith("n") for name in properties) == 160

    def test_deleting_a_collection_loses_nothing(self, client: httpx.Client) -> None:
        """Items that come while their collection goes are refused, or keep it."""
        base = str(client.base_url)
        for round_ in range(5):
            name = f"c{round_}"
            client.post("/collections", json=plain_collection(name))

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
