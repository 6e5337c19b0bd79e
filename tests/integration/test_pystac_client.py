"""A real pystac-client against the API: what it finds, counts and pages through."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pystac_client import Client

from tests.conftest import ApiServer

SCENES, MANY = "scenes", "many"
START = datetime(2020, 1, 1, tzinfo=UTC)


def collection(identity: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "description": f"Items called {identity}.",
        "license": "CC-BY-4.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [],
        **fields,
    }


def point_item(identity: str, number: int, **properties: Any) -> dict[str, Any]:
    """An item at a place and a time of its own."""
    x, y = -170 + number % 340, -80 + number // 340 % 160
    taken = START + timedelta(hours=number)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "geometry": {"type": "Point", "coordinates": [x, y]},
        "bbox": [x, y, x, y],
        "properties": {"datetime": taken.isoformat().replace("+00:00", "Z"), **properties},
        "links": [],
        "assets": {},
    }


@pytest.fixture
def http(api_server: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_server.url, timeout=60) as client:
        yield client


@pytest.fixture
def client(http: httpx.Client) -> Client:
    """A client of an API with twenty scenes."""
    europe = {"spatial": {"bbox": [[0, 40, 20, 60]]}}
    temporal = {"temporal": {"interval": [["2010-01-01T00:00:00Z", "2012-01-01T00:00:00Z"]]}}
    for body in (
        collection(SCENES, title="Alpine glaciers", keywords=["snow", "ice"]),
        collection("older", title="Old maps of meadows", extent=europe | temporal),
    ):
        http.post("/collections", json=body).raise_for_status()
    items = [
        point_item(
            f"scene-{n:02}",
            n,
            title=f"The {'north' if n % 2 else 'south'} face number {n}",
            score=n % 5,
            metrics={"f1": n / 20},
        )
        for n in range(20)
    ]
    body = {"type": "FeatureCollection", "features": items}
    http.post(f"/collections/{SCENES}/items", json=body).raise_for_status()
    return Client.open(str(http.base_url))


def ids(client: Client, **search: Any) -> list[str]:
    return [item.id for item in client.search(**search).items()]


class TestSearch:
    def test_knows_what_the_api_can_do(self, client: Client) -> None:
        for name in (
            *("core", "collections", "features", "item_search", "fields", "sort", "query"),
            *("filter", "transaction", "collection_search", "collection_search_free_text"),
        ):
            assert client.conforms_to(name), name
        assert {child.id for child in client.get_collections()} == {SCENES, "older"}
        scenes = client.get_collection(SCENES)
        item = scenes.get_item("scene-03")
        assert item is not None
        assert item.get_links("collection")[0].href == scenes.self_href
        assert len(list(scenes.get_items())) == 20

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ({"bbox": [-168.5, -81, -165.5, -79]}, [4, 3, 2]),
            ({"bbox": [-168.5, -81, -10, -165.5, -79, 10]}, [4, 3, 2]),
            ({"datetime": "2020-01-01T02:00:00Z/2020-01-01T04:00:00Z"}, [4, 3, 2]),
            ({"datetime": "2020-01-01T18:00:00Z/.."}, [19, 18]),
            ({"ids": ["scene-07", "scene-01"]}, [7, 1]),
            ({"sortby": "properties.score,-id", "max_items": 3}, [15, 10, 5]),
            ({"sortby": ["-properties.metrics.f1"], "max_items": 2}, [19, 18]),
            ({"query": {"score": {"gte": 4}}}, [19, 14, 9, 4]),
            ({"query": ["score>=4", "id<>scene-14"]}, [19, 9, 4]),
            ({"collections": ["older"]}, []),
        ],
    )
    def test_finds(
        self, client: Client, method: str, search: dict[str, Any], found: list[int]
    ) -> None:
        assert ids(client, method=method, **search) == [f"scene-{n:02}" for n in found]

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_filters(self, client: Client, method: str) -> None:
        text = "score = 1 AND metrics.f1 > 0.5"
        as_json = {
            "op": "and",
            "args": [
                {"op": "=", "args": [{"property": "score"}, 1]},
                {"op": ">", "args": [{"property": "properties.metrics.f1"}, 0.5]},
            ],
        }
        assert ids(client, method=method, filter=text) == ["scene-16", "scene-11"]
        assert ids(client, method=method, filter=as_json) == ["scene-16", "scene-11"]

    def test_finds_by_shape_and_chooses_fields(self, client: Client) -> None:
        square = {
            "type": "Polygon",
            "coordinates": [[[-166.5, -81], [-164.5, -81], [-164.5, -79], [-166.5, -81]]],
        }
        assert ids(client, intersects=square) == ["scene-05"]
        fields = ["id", "properties.score", "-geometry"]
        [item] = client.search(ids=["scene-08"], fields=fields).items_as_dicts()
        assert item["properties"] == {"score": 3}
        assert "geometry" not in item

    @pytest.mark.usefixtures("client")
    def test_finds_by_words(self, http: httpx.Client) -> None:
        # pystac-client has words for collections only.
        assert http.get("/search", params={"q": "north"}).json()["numberMatched"] == 10
        found = http.post("/search", json={"q": ["17", "18"]}).json()["features"]
        assert [item["id"] for item in found] == ["scene-18", "scene-17"]

    def test_counts(self, client: Client) -> None:
        assert client.search(collections=[SCENES]).matched() == 20
        assert client.search(filter="score = 1").matched() == 4
        assert client.search(ids=["none"]).matched() == 0
        assert client.search(method="GET", bbox=[-168.5, -81, -165.5, -79]).matched() == 3

    def test_finds_collections(self, client: Client) -> None:
        def found(**search: Any) -> list[str]:
            return sorted(c.id for c in client.collection_search(**search).collections())

        assert found() == ["older", SCENES]
        assert found(q="glaciers") == [SCENES]
        assert found(q="meadows,snow") == ["older", SCENES]
        assert found(bbox=[-100, -10, -90, 0]) == [SCENES]
        assert found(datetime="2011-01-01T00:00:00Z/2011-02-01T00:00:00Z") == ["older"]
        assert found(filter="id = 'older'") == ["older"]
        assert found(limit=1) == ["older", SCENES]
        assert client.collection_search(q="glaciers").matched() == 1
        assert client.collection_search().matched() == 2

    def test_queryables(self, client: Client) -> None:
        assert "datetime" in client.get_queryables()["properties"]
        assert "datetime" in client.get_collection(SCENES).get_queryables()["properties"]


class Disturbance:
    """Somebody who adds, changes and removes items while others read."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.writes = 0
        self.faults: list[str] = []

    def __enter__(self) -> "Disturbance":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        items = f"/collections/{MANY}/items"
        number = 0
        while not self._stop.is_set():
            number += 1
            # Among the others by time: before, on and behind the page that is being read.
            item = point_item(f"new-{number:06}", number * 37 % 10_000, score=number % 7)
            change = {"properties": {"title": f"changed {number}"}}
            for answer in (
                self._http.post(items, json=item),
                self._http.patch(f"{items}/kept-{number * 41 % 9_000:06}", json=change),
                self._http.delete(f"{items}/doomed-{9_000 + number * 43 % 1_000:06}"),
            ):
                if answer.is_error:
                    self.faults.append(answer.text)
                self.writes += 1


class TestPaging:
    @pytest.fixture
    def many(self, http: httpx.Client) -> Client:
        """A client of an API with ten thousand items, one thousand of which will be deleted."""
        http.post("/collections", json=collection(MANY)).raise_for_status()
        for first in range(0, 10_000, 2_000):
            items = [
                point_item(f"{'kept' if n < 9_000 else 'doomed'}-{n:06}", n, score=n % 7)
                for n in range(first, first + 2_000)
            ]
            body = {"items": {item["id"]: item for item in items}, "method": "insert"}
            http.post(f"/collections/{MANY}/bulk_items", json=body).raise_for_status()
        return Client.open(str(http.base_url))

    @pytest.mark.timeout(120)
    def test_both_ways_while_others_write(self, many: Client, http: httpx.Client) -> None:
        begin = time.monotonic()
        assert many.search(collections=[MANY]).matched() == 10_000
        with Disturbance(str(http.base_url)) as disturbance:
            for method, sortby in (("POST", None), ("GET", "properties.score")):
                search = many.search(
                    method=method, collections=[MANY], sortby=sortby, limit=500, max_items=None
                )
                pages = list(search.pages_as_dicts())
                self.check([item["id"] for page in pages for item in page["features"]])
                back = self.back_from(http, pages[-1])
                self.check([item["id"] for page in back for item in page["features"]])
        assert disturbance.faults == []
        assert disturbance.writes > 30
        assert time.monotonic() - begin < 60

    def check(self, seen: list[str]) -> None:
        """All that was there from beginning to end, each once, and nothing twice."""
        assert len(seen) == len(set(seen))
        kept = {identity for identity in seen if identity.startswith("kept")}
        assert len(kept) == 9_000

    def back_from(self, http: httpx.Client, page: dict[str, Any]) -> list[dict[str, Any]]:
        """The pages that links ``prev`` lead through, from ``page`` to the first."""
        pages = [page]
        while previous := [link for link in pages[-1]["links"] if link["rel"] == "prev"]:
            [link] = previous
            body = link.get("body")
            answer = http.request(link.get("method", "GET"), link["href"], json=body)
            answer.raise_for_status()
            pages.append(answer.json())
        return pages
