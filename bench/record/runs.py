"""The data of the bench: training runs as a team has them after some time.

One run goes through the front door of each server and is brought to its end; what lies in the
database then is the pattern of all the others. So the stored form is always the one that the server
itself makes, and a million items are there in minutes.
"""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

PATTERN = "pattern-of-all-runs"
MODELS = [f"landcover-{n}" for n in range(10)]
STOCK_COLLECTION = "stock-training-runs"
COLLECTION = "bench-training-runs"
PLAIN_COLLECTION = "bench-plain"
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.1], [15.0, 46.0]]],
}


def run_item(identity: str, **properties: Any) -> dict[str, Any]:
    """A run as a client posts it."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "geometry": SQUARE,
        "bbox": [15.0, 46.0, 15.1, 46.1],
        "properties": {
            "datetime": "2026-11-23T10:00:00Z",
            "title": f"learning rate 1e-3, {identity}",
            "description": "Land cover from a year of Sentinel-2, one pixel at a time.",
            "mlops:model": MODELS[0],
            "mlops:task": "classification",
            "mlops:framework": "pytorch",
            "mlops:recipe": "pixel-timeseries",
            "mlops:hyperparameters": {"epochs": 20, "learning_rate": 0.001, "batch_size": 256},
            "mlops:objective": {"metric": "val_f1", "goal": "maximize"},
            "mlops:compute": {"engine": "local", "max_runtime": 7200},
            **properties,
        },
        "links": [
            {
                "rel": "training-data",
                "type": "application/geo+json",
                "href": "../../bench-training-data/items/fields-v1",
            }
        ],
        "assets": {},
    }


def measured(identity: str) -> dict[str, Any]:
    """What the system writes back to a run that went well, as a merge patch."""
    files = f"bench/training-runs/{identity}/1/outputs"
    metrics = ("train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_f1")
    return {
        "properties": {
            "mlops:status": "successful",
            "mlops:progress": 1.0,
            "mlops:job": {"engine": "local", "id": f"{identity}-1"},
            "mlops:metrics": dict.fromkeys(metrics, 0.5),
            "mlops:objective_value": 0.5,
            "mlops:started": "2026-11-23T10:00:01Z",
            "mlops:finished": "2026-11-23T10:20:01Z",
            "mlops:exit": {"code": 0, "reason": "The job ended well."},
            "mlops:environment": {"python": "3.11.9", "torch": "2.13.0", "device": "cpu"},
            "mlops:cost": {"seconds": 1200, "instance": "local"},
        },
        "assets": {
            "log": {"href": f"../../../assets/{files}/log.txt", "type": "text/plain"},
            "metrics": {
                "href": f"../../../assets/{files}/metrics.parquet",
                "type": "application/vnd.apache.parquet",
            },
        },
    }


def dataset_item() -> dict[str, Any]:
    digest = "a" * 64
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": SQUARE,
        "properties": {
            "datetime": None,
            "start_datetime": "2016-01-01T00:00:00Z",
            "end_datetime": "2017-01-01T00:00:00Z",
            "mlops:dataset": "fields",
            "mlops:samples": 3,
            "mlops:manifest_digest": digest,
        },
        "links": [],
        "assets": {
            "manifest": {
                "href": f"../../../assets/bench/training-data/blobs/{digest[:2]}/{digest}",
                "type": "application/vnd.apache.parquet",
                "file:size": 10,
                "file:checksum": "1220" + digest,
            }
        },
    }


def make_patterns(ours: httpx.Client, system: dict[str, str], stock: httpx.Client) -> None:
    """The collections, and in each the run that the others are made from."""
    _send(ours, "POST", "/workspaces", {"id": "bench"})
    _send(ours, "POST", "/collections/bench-training-data/items", dataset_item())
    items = f"/collections/{COLLECTION}/items"
    _send(ours, "POST", items, run_item(PATTERN))
    for patch in ({"properties": {"mlops:status": "running"}}, measured(PATTERN)):
        _send(ours, "PATCH", f"{items}/{PATTERN}", patch, headers=system)
    collection = ours.get(f"/collections/{COLLECTION}").json()
    plain = {name: value for name, value in collection.items() if not name.startswith("mlops:")}
    plain |= {"links": [], "stac_extensions": []}
    _send(ours, "POST", "/collections", {**plain, "id": PLAIN_COLLECTION})
    _send(stock, "POST", "/collections", {**plain, "id": STOCK_COLLECTION})
    item = ours.get(f"{items}/{PATTERN}").json()
    item = {**item, "collection": STOCK_COLLECTION}
    item["links"] = [link for link in item["links"] if link["rel"] not in _OF_THE_SERVER]
    _send(stock, "POST", f"/collections/{STOCK_COLLECTION}/items", item)


_OF_THE_SERVER = ("self", "root", "parent", "collection")


def _send(client: httpx.Client, method: str, path: str, body: Any, **kwargs: Any) -> None:
    answer = client.request(method, path, json=body, **kwargs)
    if answer.is_error:
        raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")


@dataclass
class Loaded:
    """Seconds that loading took."""

    items: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.items / self.seconds


def load(connection: psycopg.Connection[Any], collection: str, first: int, number: int) -> Loaded:
    """Store runs ``first`` to ``first + number``, all different from the collection's pattern.

    No events are recorded: nobody waits for them.
    """
    connection.execute("ALTER TABLE pgstac.items DISABLE TRIGGER mlops_record_change")
    begin = time.perf_counter()
    step = 50_000
    for start in range(first, first + number, step):
        last = min(start + step, first + number) - 1
        connection.execute(_LOAD, {"collection": collection, "first": start, "last": last})
    seconds = time.perf_counter() - begin
    connection.execute("ALTER TABLE pgstac.items ENABLE TRIGGER mlops_record_change")
    return Loaded(number, seconds)


def load_with_events(
    connection: psycopg.Connection[Any], first: int, number: int
) -> tuple[Loaded, float]:
    """The same with events, rolled back; and the seconds of it that the outbox's trigger took.

    By PostgreSQL's own clocks: the difference of two loads would drown in their noise.
    """
    arguments = {"collection": COLLECTION, "first": first, "last": first + number - 1}
    with connection.transaction(force_rollback=True):
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {_LOAD}", arguments).fetchone()
    assert row is not None
    plan = row[0][0]
    # The trigger of every partition is named; only one has rows.
    trigger = sum(t["Time"] for t in plan["Triggers"] if t["Trigger Name"] == _TRIGGER)
    return Loaded(number, plan["Execution Time"] / 1000), trigger / 1000


def widen(connection: psycopg.Connection[Any], collection: str) -> None:
    """Give the stock collection the wide CHECK that ours have.

    Without it the stock application rebuilds the CHECK, over all rows, for every run that is newer
    than all others, which makes its POST eight times slower still at 100,000 items.
    """
    everything = "tstzrange('0001-01-01 00:00Z', '9999-12-31 23:59:59.999999Z', '[]')"
    connection.execute(
        f"SELECT pgstac.check_partition(%s, {everything}, {everything})", (collection,)
    )


_TRIGGER = "mlops_record_change"
# The pattern's own text with another id, so that every place that holds the id gets the new one.
_LOAD = f"""
    INSERT INTO pgstac.items (id, geometry, collection, datetime, end_datetime, content, private)
    SELECT id, public.ST_SetSRID(public.ST_MakeEnvelope(x, y, x + 0.1, y + 0.1), 4326),
        collection, at, at,
        content || jsonb_build_object(
            'bbox', jsonb_build_array(x, y, x + 0.1, y + 0.1),
            'properties', content->'properties' || jsonb_build_object(
                'datetime', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                'title', 'learning rate ' || (n %% 97) || 'e-4, ' || id,
                'mlops:model', 'landcover-' || (n %% {len(MODELS)}),
                'mlops:status', CASE n %% 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'dismissed'
                    ELSE 'successful' END,
                'mlops:metrics', jsonb_build_object(
                    'train_loss', round((1 - f1 + 0.01)::numeric, 6),
                    'val_loss', round((1.1 - f1)::numeric, 6),
                    'val_accuracy', round((f1 * 0.98)::numeric, 6),
                    'val_balanced_accuracy', round((f1 * 0.95)::numeric, 6),
                    'val_f1', round(f1::numeric, 6)),
                'mlops:objective_value', round(f1::numeric, 6))),
        NULL
    FROM (
        SELECT 'run-' || lpad(n::text, 9, '0') AS id, i.collection, n,
            timestamptz '2020-01-01 00:00Z' + n * interval '1 minute' AS at,
            ((n * 7919) %% 3400) / 10.0 - 170 AS x, ((n * 104729) %% 1600) / 10.0 - 80 AS y,
            -- Deterministic and without order: as many values as items.
            ((n * 2654435761) %% 4294967296) / 4294967296.0 AS f1,
            replace(i.content::text, '{PATTERN}', 'run-' || lpad(n::text, 9, '0'))::jsonb AS content
        FROM pgstac.items i, generate_series(%(first)s::bigint, %(last)s::bigint) AS n
        WHERE i.collection = %(collection)s AND i.id = '{PATTERN}'
    ) varied
"""
