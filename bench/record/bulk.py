"""How many items a second each way stores them together, and what the outbox adds."""

import json
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from cells import Target
from runs import COLLECTION, PLAIN_COLLECTION, STOCK_COLLECTION, load_with_events, run_item

BULK = 1000


def measure_bulk(target: Target) -> dict[str, float]:
    """Items a second of every way to store many at once; medians of 3."""
    results: dict[str, list[float]] = {}
    trigger: list[float] = []
    with target.client("ours") as ours, target.client("stock") as stock:
        for turn in range(3):
            prefix = f"bulk-{secrets.token_hex(4)}-{turn}"
            for name, rate in _all_ways(target, ours, stock, prefix):
                results.setdefault(name, []).append(rate)
            first = 500_000_000 + int.from_bytes(secrets.token_bytes(3), "big") * 10
            loaded, seconds = load_with_events(target.connection, first, 10 * BULK)
            results.setdefault("INSERT ... SELECT", []).append(loaded.per_second)
            trigger.append(seconds / loaded.items)
    rates = {name: round(statistics.median(values), 1) for name, values in results.items()}
    print(f"\n{'bulk, items/s':36}{'':>10}{'of create_items':>18}")
    for name, rate in rates.items():
        print(f"{name:36}{rate:>10.0f}{rate / rates['pgstac.create_items']:>17.1f}x")
    cost = statistics.median(trigger) * 1e6
    share = cost * rates["INSERT ... SELECT"] / 1e6
    print(f"{'the outbox trigger in it, an item':36}{cost:>8.0f}µs{share:>17.0%}")
    return rates


def _all_ways(
    target: Target, ours: httpx.Client, stock: httpx.Client, prefix: str
) -> Iterator[tuple[str, float]]:
    items = [run_item(f"{prefix}-{n}") for n in range(BULK)]
    theirs = [{**item, "collection": STOCK_COLLECTION} for item in items]
    ways: dict[str, Callable[[], None]] = {
        "ours, runs, HTTP": lambda: post_all(ours, COLLECTION, items),
        "ours, plain items, HTTP": lambda: post_all(ours, PLAIN_COLLECTION, items),
        "stock, bulk_items, HTTP": lambda: bulk_items(stock, theirs),
        "pgstac.create_items": lambda: create_items(target, prefix, theirs),
    }
    for name, act in ways.items():
        begin = time.perf_counter()
        act()
        yield name, BULK / (time.perf_counter() - begin)


def post_all(client: httpx.Client, collection: str, items: list[dict[str, Any]]) -> None:
    body = {"type": "FeatureCollection", "features": items}
    client.post(f"/collections/{collection}/items", json=body).raise_for_status()


def bulk_items(client: httpx.Client, items: list[dict[str, Any]]) -> None:
    body = {"items": {item["id"]: item for item in items}, "method": "insert"}
    client.post(f"/collections/{STOCK_COLLECTION}/bulk_items", json=body).raise_for_status()


def create_items(target: Target, prefix: str, items: list[dict[str, Any]]) -> None:
    named = [{**item, "id": f"sql-{prefix}-{n}"} for n, item in enumerate(items)]
    with target.connection.transaction():
        target.connection.execute("SET LOCAL search_path = pgstac, public")
        target.connection.execute("SELECT create_items(%s::text::jsonb)", (json.dumps(named),))
