"""What filters and sort keys name has an index: no search of a kind reads all of its items."""

import asyncio
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest

from mlops.api import Api
from stac_api.search.query import run
from stac_api.search.request import read_search
from tests.integration.conftest import run_item

RUNS, DATA, MODELS = "alps-training-runs", "alps-training-data", "alps-models"

NESTED = ("mlops:compute.engine", "mlops:compute.instance_type", "mlops:cost.seconds")
METRICS = ("mlops:metrics.val_f1", "mlops:metrics.val_mean_iou", "mlops:metrics.test_rmse")


def plan_of(database_url: str, collection: str, **search: Any) -> list[str]:
    """How the database reads the first part of a search's first page, if any index can serve it.

    A table of few rows is read in any way, so what would do without the index in question is put
    aside: to read all rows, and for a filter to read them in the order of the answer, for a sort
    to bring them into it.
    """
    ways = "seqscan indexscan" if search.keys() - {"sortby"} else "seqscan bitmapscan sort"

    async def explain() -> list[str]:
        connection = await asyncpg.connect(database_url)
        try:
            for way in ways.split():
                await connection.execute(f"SET enable_{way} = off")
            key = await connection.fetchval(
                "SELECT key FROM pgstac.collections WHERE id = $1", collection
            )
            request = read_search({"collections": [collection], **search})
            await run(connection, request, f"pgstac._items_{key}")
            statement, values = next(iter(request.statements.values()))
            rows = await connection.fetch(f"EXPLAIN {statement}", *values)
            return [str(row[0]).strip() for row in rows]
        finally:
            await connection.close()

    return asyncio.run(explain())


def condition_of(plan: list[str]) -> str:
    """The condition by which an index was entered."""
    return " ".join(line for line in plan if line.startswith("Index Cond:"))


def fields_of(workspace: Api, collection: str) -> dict[str, dict[str, Any]]:
    """The queryables of a collection that are ours and hold one value each."""
    properties = workspace.get_json(f"/collections/{collection}/queryables")["properties"]
    return {
        name: schema
        for name, schema in properties.items()
        if name.startswith("mlops:") and "." not in name and schema["type"] != "array"
    }


@pytest.mark.parametrize("collection", [RUNS, DATA, MODELS])
def test_each_field_of_one_value_has_a_type_and_an_index(
    workspace: Api, database_url: str, collection: str
) -> None:
    fields = fields_of(workspace, collection)
    assert len(fields) >= 3
    values = {"string": "x", "number": 0.5, "integer": 2, "boolean": True}
    for name, schema in fields.items():
        filter_ = {"op": "=", "args": [{"property": name}, values[schema["type"]]]}
        plan = plan_of(database_url, collection, filter=filter_)
        assert name in condition_of(plan), (name, plan)
        by_name = [{"field": f"properties.{name}", "direction": "desc"}]
        plan = plan_of(database_url, collection, sortby=by_name)
        assert any("Index Scan Backward" in line for line in plan), (name, plan)
        assert not any("->  Sort" in line for line in plan), (name, plan)


@pytest.mark.parametrize("name", [*NESTED, *METRICS])
def test_nested_fields_that_runs_are_compared_by(
    workspace: Api, database_url: str, name: str
) -> None:
    assert workspace.get_json(f"/collections/{RUNS}")["mlops:kind"] == "training-run"
    filter_ = {"op": ">", "args": [{"property": name}, 0.5]}
    last = name.rpartition(".")[2]
    assert last in condition_of(plan_of(database_url, RUNS, filter=filter_))


def test_a_leaderboard_is_read_in_the_order_of_its_index(workspace: Api, database_url: str) -> None:
    """Sorted by a nested metric, without a sort of all runs."""
    assert workspace.get_json(f"/collections/{RUNS}")["mlops:kind"] == "training-run"
    value = "i.content->'properties'->'mlops:metrics'->'val_f1'"
    with psycopg.connect(database_url) as connection:
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.execute(f"SET enable_{way} = off")
        plan = connection.execute(
            f"EXPLAIN SELECT * FROM pgstac.items i WHERE collection = '{RUNS}'"
            f" AND {value} IS NOT NULL ORDER BY {value} DESC LIMIT 100"
        ).fetchall()
    lines = [str(line[0]) for line in plan]
    assert any("Index Scan Backward" in line for line in lines), lines
    assert not any("Sort" in line for line in lines), lines


def test_rare_words_are_found_by_an_index(workspace: Api, database_url: str) -> None:
    for number in range(20):
        title = "glacier" if number == 7 else "meadow"
        workspace.create_item(RUNS, {**run_item(title=title), "id": f"run-{number}"})
    plan = plan_of(database_url, RUNS, q="glacier")
    assert "@@ '''glacier'''::tsquery" in condition_of(plan), plan
    found = httpx.get(f"{workspace.url}/search", params={"q": "glacier"}).json()["features"]
    assert [item["id"] for item in found] == ["run-7"]


def test_an_operator_adds_fields_to_what_is_there_and_what_comes(
    workspace: Api, database_url: str
) -> None:
    by_kappa = [{"field": "properties.mlops:metrics.val_kappa", "direction": "desc"}]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(
                "SELECT mlops.index_field('training-run', 'mlops:metrics/val_kappa')"
            )
    workspace.request("POST", "/workspaces", json={"id": "jura"})
    for collection in (RUNS, "jura-training-runs"):
        plan = plan_of(database_url, collection, sortby=by_kappa)
        assert not any("->  Sort" in line for line in plan), plan
        assert any("Index Scan Backward" in line for line in plan), plan
