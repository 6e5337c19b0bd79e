"""What is read back is what was written."""

import copy

import httpx
import pytest

from tests.integration.outbox import forget, told
from tests.integration.plain import (
    BULK,
    ITEMS,
    Document,
    plain_collection,
    plain_item,
    problem,
)


class TestFidelity:
    def test_what_is_read_is_what_was_written(self, telling: httpx.Client) -> None:
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
        created = telling.post(ITEMS, json=item)
        assert created.status_code == 201, created.text
        read = telling.get(f"{ITEMS}/one")
        found = telling.post("/search", json={"ids": ["one"]}).json()["features"][0]
        assert found == read.json()
        for answer in (created.json(), read.json(), found):
            # The database writes numbers without an exponent.
            numbers = answer["properties"]["x:numbers"]
            numbers[-1] = float(numbers[-1])
            for name in item.keys() - {"links"}:
                assert answer[name] == item[name], name
            assert answer["links"][4:] == item["links"]
        again = telling.put(f"{ITEMS}/one", json=read.json())
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
    def test_coordinates_are_exact(self, telling: httpx.Client, position: list[float]) -> None:
        item = plain_item()
        del item["bbox"]
        item["geometry"] = {"type": "Point", "coordinates": position}
        created = telling.post(ITEMS, json=item)
        assert created.status_code == 201, created.text
        assert telling.get(f"{ITEMS}/one").json()["geometry"] == item["geometry"]

    def test_links_of_a_collection(self, telling: httpx.Client) -> None:
        """Relative ones are resolved, all others are what they were."""
        base = f"{telling.base_url}/"
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
        created = telling.post("/collections", json=collection)
        read = telling.get("/collections/linked")
        for answer in (created.json(), read.json()):
            own = [link for link in answer["links"] if link["rel"] == "license"]
            assert [link["href"] for link in own] == [new or old for old, new in hrefs.items()]
            rels = [link["rel"] for link in answer["links"]]
            assert rels[-3:] == ["item", "collection", "my-queryables"]
        again = telling.put("/collections/linked", json=read.json())
        assert again.headers["ETag"] == read.headers["ETag"] == created.headers["ETag"]

    def test_a_box_is_kept_where_it_is_right(self, telling: httpx.Client) -> None:
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
            assert telling.post(ITEMS, json=item).status_code == 201
            turned = copy.deepcopy(geometry)
            turned["coordinates"].reverse()
            assert telling.patch(url, json={"geometry": turned}).json()["bbox"] == bbox
            assert telling.put(url, json=item).json()["bbox"] == bbox
            moved = {"type": "Point", "coordinates": [7, 8]}
            problem(telling.put(url, json={**item, "geometry": moved}), 422, "/bbox")
            assert telling.patch(url, json={"geometry": moved}).json()["bbox"] == [7, 8, 7, 8]

    def test_put_of_what_was_read_changes_nothing(
        self, telling: httpx.Client, database_url: str
    ) -> None:
        telling.post(ITEMS, json=plain_item())
        forget(database_url)
        read = telling.get(f"{ITEMS}/one")
        put = telling.put(f"{ITEMS}/one", json=read.json())
        assert (put.status_code, put.headers["ETag"]) == (200, read.headers["ETag"])
        assert telling.patch(f"{ITEMS}/one", json={}).headers["ETag"] == read.headers["ETag"]
        assert told(database_url) == []

    def test_a_number_is_no_truth(self, telling: httpx.Client) -> None:
        """1, 1.0 and true are equal in Python and different in JSON."""
        item = plain_item()
        item["properties"]["x"] = 1
        etags = {telling.post(ITEMS, json=item).headers["ETag"]}
        for value in (True, 1.0):
            answer = telling.patch(f"{ITEMS}/one", json={"properties": {"x": value}})
            assert type(telling.get(f"{ITEMS}/one").json()["properties"]["x"]) is type(value)
            etags.add(answer.headers["ETag"])
        assert len(etags) == 3

    def test_a_number_is_no_other_in_bulk(self, telling: httpx.Client, database_url: str) -> None:
        item = plain_item()
        for value in (1, 1.0, 1.0):
            item["properties"]["x"] = value
            telling.post(BULK, json={"items": {"one": item}, "method": "upsert"})
            assert type(telling.get(f"{ITEMS}/one").json()["properties"]["x"]) is type(value)
        assert told(database_url) == [("item.created", "one"), ("item.updated", "one")]
