"""The text that the database keeps beside an item is always the item's own, whoever writes it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from stac_api.hrefs import render
from tests.conftest import ApiServer
from tests.integration.outbox import call, forget, told
from tests.integration.plain import ITEMS, plain_collection, plain_item

ONE = f"{ITEMS}/one"
_KEPT = """
    SELECT private->>'mlops:text', mlops.text_of(i), mlops.document_json(i)
    FROM pgstac.items i WHERE id = %s
"""


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API whose collection `imagery` asks for events."""
    with httpx.Client(base_url=api_server.url, timeout=60) as client:
        collection = {**plain_collection(), "mlops:events": True}
        assert client.post("/collections", json=collection).status_code == 201
        yield client


def execute(database_url: str, statement: str, *, role: str | None = None) -> None:
    with psycopg.connect(database_url) as connection:
        if role:
            connection.execute(f"SET ROLE {role}")
        connection.execute("SET search_path = pgstac, public")
        connection.execute(statement)


def kept(database_url: str, identity: str = "one") -> tuple[str | None, str, bytes]:
    """An item's text: as it is kept, as it would be made anew, and as it is read."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET search_path = pgstac, public")
        row = connection.execute(_KEPT, (identity,)).fetchone()
    assert row is not None
    return row


def check_whole(client: httpx.Client, database_url: str) -> dict[str, Any]:
    """The item as it is read, which is what is kept and what it would be made of anew."""
    text, anew, read = kept(database_url)
    assert text == anew == read.decode()
    answer = client.get(ONE)
    assert answer.content == render(read, f"{client.base_url}/")
    document: dict[str, Any] = answer.json()
    return document


def test_every_write_of_the_api_keeps_it(client: httpx.Client, database_url: str) -> None:
    odd = 'a quote " and \x02, ü, 1e300'
    item = plain_item()
    item["properties"] |= {"title": odd, "x:number": 1.0, "x:none": None}
    assert client.post(ITEMS, json=item).status_code == 201
    read = check_whole(client, database_url)
    assert read["properties"]["title"] == odd
    assert read["properties"]["x:none"] is None
    assert client.patch(ONE, json={"properties": {"title": "patched"}}).is_success
    assert check_whole(client, database_url)["properties"]["title"] == "patched"
    moved = {"type": "Point", "coordinates": [7.5, 46.25]}
    assert client.put(ONE, json={**item, "geometry": moved, "bbox": None}).is_success
    assert check_whole(client, database_url)["geometry"] == moved
    item["properties"]["title"] = "in bulk"
    body = {"items": {"one": item}, "method": "upsert"}
    assert client.post(f"{ITEMS.removesuffix('items')}bulk_items", json=body).is_success
    assert check_whole(client, database_url)["properties"]["title"] == "in bulk"


def test_who_may_write_to_pgstac_alone_keeps_it_too(
    client: httpx.Client, database_url: str
) -> None:
    client.post(ITEMS, json=plain_item())
    etag = client.get(ONE).headers["ETag"]
    change = "UPDATE items SET content = jsonb_set(content, '{properties,title}', '\"by SQL\"')"
    execute(database_url, change, role="pgstac_ingest")
    assert check_whole(client, database_url)["properties"]["title"] == "by SQL"
    assert client.get(ONE).headers["ETag"] != etag
    execute(database_url, "UPDATE items SET geometry = ST_SetSRID(ST_Point(1, 2), 4326)")
    assert check_whole(client, database_url)["geometry"]["coordinates"] == [1, 2]


def test_what_operators_keep_beside_items_stays(client: httpx.Client, database_url: str) -> None:
    client.post(ITEMS, json=plain_item())
    execute(database_url, """UPDATE items SET private = '{"cost-centre": 7}'""")
    client.patch(ONE, json={"properties": {"title": "x"}})
    assert check_whole(client, database_url)["properties"]["title"] == "x"
    with psycopg.connect(database_url) as connection:
        query = "SELECT private - 'mlops:text' FROM pgstac.items"
        assert connection.execute(query).fetchone() == ({"cost-centre": 7},)


@pytest.mark.parametrize("private", ["NULL", "'[1]'", "'\"text\"'"])
def test_without_it_an_item_reads_the_same(
    client: httpx.Client, database_url: str, private: str
) -> None:
    client.post(ITEMS, json=plain_item())
    before = client.get(ONE)
    # As a replica of the database applies changes: no trigger runs.
    execute(
        database_url,
        f"SET session_replication_role = replica; UPDATE items SET private = {private}",
    )
    assert kept(database_url)[0] is None
    after = client.get(ONE)
    assert (after.content, after.headers["ETag"]) == (before.content, before.headers["ETag"])
    assert client.patch(ONE, json={"properties": {"title": "x"}}).is_success
    assert client.get(ONE).json()["properties"]["title"] == "x"


def test_items_of_other_tools_have_none(client: httpx.Client, database_url: str) -> None:
    """They are put together with their collection's part when they are read."""
    item = {**plain_item(), "collection": "imagery"}
    call(database_url, "create_item", item)
    text, anew, read = kept(database_url)
    assert text is None
    assert read.decode() == anew
    assert client.get(ONE).json()["properties"] == item["properties"]
    forget(database_url)
    call(database_url, "upsert_item", item)
    assert told(database_url) == []


def test_items_of_other_tools_may_be_of_another_version(
    client: httpx.Client, database_url: str
) -> None:
    """pgstac keeps their stac_version then, beside what differs from their collection's assets."""
    defined = {"type": "image/tiff", "roles": ["data"], "title": "Data"}
    collection = {**plain_collection("loaded"), "item_assets": {"data": defined}}
    assert client.post("/collections", json=collection).status_code == 201
    item = {**plain_item(), "collection": "loaded", "stac_version": "1.0.0"}
    item["assets"] = {"data": {"href": "s3://bucket/key.tif", **defined}}
    bare = {**item, "id": "bare", "assets": {"other": {"href": "s3://bucket/other.tif"}}}
    for loaded in (item, bare):
        call(database_url, "create_item", loaded)
        url = f"/collections/loaded/items/{loaded['id']}"
        read = client.get(url).json()
        assert (read["assets"], read["stac_version"]) == (loaded["assets"], "1.0.0")
        assert [link["rel"] for link in read["links"]] == ["self", "root", "parent", "collection"]
        assert client.patch(url, json={"properties": {"title": "x"}}).status_code == 204
        assert client.get(url).json()["assets"] == loaded["assets"]


@pytest.mark.parametrize("loaded_by_others", [True, False])
def test_pages_go_on_where_they_ended_whatever_the_value(
    client: httpx.Client, database_url: str, loaded_by_others: bool
) -> None:
    """A page ends at a value of its last item: of many digits, no number, or none at all."""
    values = ["0.1234567890123456781", "0.1234567890123456782", "0.1234567890123456783"]
    ranks = [*values, "null", '"text"', '{"a": [1.50, "é"]}', "1e3", "", "-7"]
    for number, rank in enumerate(ranks):
        item = {**plain_item(f"i{number}"), "collection": "imagery"}
        if loaded_by_others:
            text = json.dumps(item)
            if rank:
                text = text.replace('"properties": {', f'"properties": {{"x:rank": {rank}, ', 1)
            call_with_text(database_url, "create_item", text)
        elif rank and rank not in values:
            item["properties"]["x:rank"] = json.loads(rank)
            assert client.post(ITEMS, json=item).status_code == 201
        else:
            assert client.post(ITEMS, json=item).status_code == 201
    body = {"collections": ["imagery"], "sortby": [{"field": "x:rank"}], "limit": 1}
    whole = client.post("/search", json={**body, "limit": 100}).json()
    wanted = [item["id"] for item in whole["features"]]
    assert sorted(wanted) == [f"i{number}" for number in range(len(ranks))]
    found, links = [], {"next": {"body": body}}
    while "next" in links:
        page = client.post("/search", json=links["next"]["body"]).json()
        found += [item["id"] for item in page["features"]]
        links = {link["rel"]: link for link in page["links"]}
    assert found == wanted
    while "prev" in links:
        page = client.post("/search", json=links["prev"]["body"]).json()
        links = {link["rel"]: link for link in page["links"]}
        found.append(page["features"][0]["id"])
    assert found == [*wanted, *reversed(wanted[:-1])]


def call_with_text(database_url: str, function: str, text: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET search_path = pgstac, public")
        connection.execute(f"SELECT {function}(%s::jsonb)", (text,))
