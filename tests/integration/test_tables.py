"""Reads know the table of a collection and its plan, and find out when either is not right."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from mlops.api import Api
from stac_api.pool import BoundedPool, Planning, create_pool
from stac_api.search.plans import NEWEST_OF, planning_of
from stac_api.search.query import Page, run
from stac_api.search.request import read_search
from stac_api.settings import Settings
from stac_api.tables import Tables
from tests.conftest import ApiServer
from tests.integration.conftest import run_item
from tests.integration.plain import ITEMS, plain_collection, plain_item, problem

RUNS = "alps-training-runs"
NEWEST = [{"field": "datetime", "direction": "desc"}]


def of_model(name: object, **more: Any) -> dict[str, Any]:
    condition = {"op": "=", "args": [{"property": "mlops:model"}, name]}
    return {"collections": [RUNS], "filter": condition, "sortby": NEWEST, **more}


def with_pool(database_url: str, work: Callable[[BoundedPool], Awaitable[None]]) -> None:
    """Do something with a pool of one connection."""

    async def main() -> None:
        settings = Settings(
            database_url=SecretStr(database_url),
            storage="/nowhere",
            token_secret=SecretStr("of no use here, and long enough"),
            pool_size=1,
        )
        pool = await create_pool(settings)
        try:
            await work(pool)
        finally:
            await pool.close()

    asyncio.run(main())


class TestTables:
    @pytest.fixture
    def client(self, api_server: ApiServer) -> httpx.Client:
        client = httpx.Client(base_url=api_server.url, timeout=60)
        assert client.post("/collections", json=plain_collection()).status_code == 201
        assert client.post(ITEMS, json=plain_item()).status_code == 201
        assert client.get(f"{ITEMS}/one").status_code == 200
        assert client.get(ITEMS).json()["numberReturned"] == 1
        return client

    def test_of_a_collection_that_another_process_deletes(
        self, client: httpx.Client, database_url: str
    ) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT pgstac.delete_collection('imagery')")
        problem(client.get(f"{ITEMS}/one"), 404)
        problem(client.get(ITEMS), 404)
        assert client.get("/search?collections=imagery").json()["features"] == []

    def test_of_a_collection_that_is_made_anew(self, client: httpx.Client) -> None:
        assert client.delete("/collections/imagery?force=true").status_code == 204
        assert client.post("/collections", json=plain_collection()).status_code == 201
        assert client.get(ITEMS).json()["features"] == []
        problem(client.get(f"{ITEMS}/one"), 404)
        client.post(ITEMS, json=plain_item("two"))
        assert client.get(f"{ITEMS}/two").status_code == 200
        for url in (ITEMS, "/search?collections=imagery"):
            assert [item["id"] for item in client.get(url).json()["features"]] == ["two"]

    def test_of_a_collection_that_got_its_first_item(
        self, client: httpx.Client, database_url: str
    ) -> None:
        with psycopg.connect(database_url) as connection:
            made = client.get("/collections/imagery").text.replace("imagery", "elsewhere")
            connection.execute("SELECT pgstac.create_collection(%s::jsonb)", (made,))
        url = "/collections/elsewhere/items"
        assert client.get(url).json()["features"] == []
        problem(client.get(f"{url}/one"), 404)
        assert client.post(url, json=plain_item()).status_code == 201
        assert client.get(f"{url}/one").status_code == 200
        assert len(client.get(url).json()["features"]) == 1

    def test_of_no_collection(self, client: httpx.Client) -> None:
        problem(client.get("/collections/none/items"), 404)
        problem(client.get("/collections/none/items/one"), 404)
        for _ in range(2):
            assert client.get("/search?collections=none").json()["features"] == []


class TestKeptSearches:
    def test_speak_of_the_host_they_came_to(self, api_server: ApiServer) -> None:
        body = {"limit": 5}
        for host in ("one.example", "two.example"):
            answer = httpx.post(f"{api_server.url}/search", json=body, headers={"Host": host})
            links = {link["rel"]: link["href"] for link in answer.json()["links"]}
            assert links["self"] == f"http://{host}/search"

    def test_find_what_is_there_now(self, workspace: Api) -> None:
        url, body = f"{workspace.url}/search", of_model("landcover")
        for number in range(3):
            assert httpx.post(url, json=body).json()["numberReturned"] == number
            workspace.create_item(RUNS, run_item())
        by_parameters = f"{workspace.url}/collections/{RUNS}/items?limit=2"
        first = httpx.get(by_parameters).json()
        assert httpx.get(by_parameters).json() == first

    def test_are_not_mistaken_for_one_another(self, workspace: Api) -> None:
        """The same text is a filter of one path, and not of another."""
        workspace.create_item(RUNS, run_item())
        runs = httpx.get(f"{workspace.url}/collections/{RUNS}/items?limit=5").json()["features"]
        data = httpx.get(f"{workspace.url}/collections/alps-training-data/items?limit=5").json()
        every = httpx.get(f"{workspace.url}/search?limit=5").json()["features"]
        assert (len(runs), len(data["features"]), len(every)) == (1, 1, 2)


class TestPlanning:
    def test_knows_the_indexes(self, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            rows = connection.execute("SELECT path FROM mlops.indexed_fields WHERE newest")
            assert {row[0] for row in rows} == NEWEST_OF

    @pytest.mark.parametrize(
        "body",
        [
            {"collections": [RUNS]},
            {"collections": [RUNS], "sortby": [*NEWEST, {"field": "id", "direction": "desc"}]},
            {"collections": [RUNS], "sortby": [{"field": "properties.datetime"}]},
            of_model("landcover"),
            of_model("landcover", token="any"),
            {"collections": [RUNS], "query": {"mlops:model": {"eq": "landcover"}}},
            {"collections": [RUNS], "filter": "mlops:status = 'running'"},
        ],
    )
    def test_once_where_an_index_serves_any_value(self, body: dict[str, Any]) -> None:
        assert planning_of(read_search(body)) is Planning.ONCE

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"collections": [RUNS, "other"]},
            of_model("landcover", limit=1),
            of_model("landcover", ids=["a"]),
            of_model("landcover", datetime="2026-01-01T00:00:00Z/.."),
            of_model("landcover", bbox=[0, 0, 1, 1]),
            of_model("landcover", q="winter"),
            of_model("landcover", query={"mlops:status": {"eq": "failed"}}),
            of_model("landcover", sortby=[{"field": "mlops:metrics.val_f1"}]),
            of_model("landcover", sortby=[*NEWEST, {"field": "id", "direction": "asc"}]),
            of_model(3),
            {"collections": [RUNS], "filter": "title = 'winter'"},
            {"collections": [RUNS], "filter": "mlops:model > 'a'"},
            {"collections": [RUNS], "filter": "id = 'a'"},
        ],
    )
    def test_for_each_value_elsewhere(self, body: dict[str, Any]) -> None:
        assert planning_of(read_search(body)) is Planning.EACH

    def test_takes_the_index_of_a_table_that_is_small_yet(
        self, workspace: Api, database_url: str
    ) -> None:
        """One plan is made for all values, and it is right also when many items have come."""
        search = read_search(of_model("landcover", limit=10))

        async def work(pool: BoundedPool) -> None:
            tables = Tables(pool)

            async def find(connection: Any, table: str | None) -> Page:
                assert table is not None
                return await run(connection, search, table)

            for number in range(3):
                page = await tables.read(RUNS, find, planning_of(search))
                assert len(page.items) == number
                await asyncio.to_thread(workspace.create_item, RUNS, run_item())
            async with pool.acquire(planning=Planning.ONCE) as connection:
                name, once, each = await connection.fetchrow(
                    "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements"
                    " WHERE statement LIKE 'SELECT mlops.%'"
                )
                assert (once, each) == (3, 0)
                explain = f"EXPLAIN EXECUTE \"{name}\" ('{RUNS}', '\"landcover\"')"
                plan = "\n".join(row[0] for row in await connection.fetch(explain))
            assert "Index Scan" in plan
            assert "mlops:model" in plan.split("Index Cond:")[1].splitlines()[0]
            assert "Sort" not in plan

        with_pool(database_url, work)

    def test_is_of_a_connection_as_long_as_asked_for(self, database_url: str) -> None:
        query = (
            "SELECT current_setting('plan_cache_mode'), current_setting('enable_seqscan'),"
            " current_setting('enable_bitmapscan'), current_setting('enable_sort')"
        )

        async def work(pool: BoundedPool) -> None:
            for planning, settings in (
                (Planning.EACH, ("force_custom_plan", "on", "on", "on")),
                (Planning.ONCE, ("force_generic_plan", "off", "off", "off")),
                (Planning.ONCE, ("force_generic_plan", "off", "off", "off")),
                (Planning.EACH, ("force_custom_plan", "on", "on", "on")),
            ):
                async with pool.acquire(planning=planning) as connection:
                    assert tuple(await connection.fetchrow(query)) == settings

        with_pool(database_url, work)
