"""Whatever comes in at a door that writes, the server does not fail, and reading goes on."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import bounded
from tests.fuzz.conftest import Target
from tests.fuzz.documents import RAW, dumped, json_patches, mutated, values
from tests.integration.conftest import dataset_item, run_item
from tests.integration.test_record import model_item
from tests.integration.test_strict import plain_collection, plain_item

ITEMS = "/collections/imagery/items"
RUNS = "/collections/alps-training-runs"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"

CROSSING = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[170, 0], [180, 0], [180, 10], [170, 10], [170, 0]]],
        [[[-180, 0], [-170, 0], [-170, 10], [-180, 10], [-180, 0]]],
    ],
}


def plain(**properties: Any) -> dict[str, Any]:
    item = plain_item("fuzzed")
    item["properties"] |= {"x:number": 1.5, **properties}
    item["links"] = [{"rel": "about", "href": "https://x.example/"}]
    return item


SEEDS = [
    plain(),
    {**plain(), "geometry": CROSSING, "bbox": [170, 0, -170, 10]},
    {
        **plain(),
        "geometry": {"type": "Point", "coordinates": [1, 2, 3]},
        "bbox": [1, 2, 3, 1, 2, 3],
    },
    plain(
        datetime=None, start_datetime="2020-01-01T00:00:00Z", end_datetime="2020-01-02T00:00:00Z"
    ),
]
MANY = [{"type": "FeatureCollection", "features": [seed, plain_item("other")]} for seed in SEEDS]
BULK = [{"items": {"fuzzed": seed}, "method": "upsert"} for seed in SEEDS]
POINT = {"name": "loss", "step": 1, "time": "2026-01-01T00:00:00Z", "value": 0.5}
BATCH = {"batch": "b", "attempt": 1, "points": [POINT], "progress": 0.5}


@bounded(150)
@given(
    value=values | st.sampled_from(SEEDS), raw=st.none() | st.sampled_from(RAW), door=st.integers(0)
)
def test_any_json_at_every_door(target: Target, value: Any, raw: bytes | None, door: int) -> None:
    doors = [
        ("POST", ITEMS, "application/json", {}),
        ("POST", "/collections/imagery/bulk_items", "application/json", {}),
        ("PUT", f"{ITEMS}/kept", "application/json", {}),
        ("PATCH", f"{ITEMS}/kept", MERGE, {}),
        ("PATCH", f"{ITEMS}/kept", JSON_PATCH, {}),
        ("POST", "/collections", "application/json", {}),
        ("PUT", "/collections/imagery", "application/json", {}),
        ("PATCH", "/collections/imagery", MERGE, {}),
        ("PATCH", "/collections/imagery", JSON_PATCH, {}),
        ("POST", f"{RUNS}/items", "application/json", {}),
        ("POST", f"{RUNS}/bulk_items", "application/json", {}),
        ("PATCH", f"{RUNS}/items/{target.run}", MERGE, target.job),
        ("POST", f"{RUNS}/items/{target.run}/metrics", "application/json", target.job),
        ("POST", f"{RUNS}/items/{target.run}/log?attempt=1&offset=0", "text/plain", target.job),
        ("POST", "/collections/alps-training-data/items", "application/json", {}),
        ("POST", "/collections/alps-models/items", "application/json", target.system),
        ("POST", "/workspaces", "application/json", {}),
        ("POST", "/workspaces/alps/uploads", "application/json", {}),
        ("POST", "/search", "application/json", {}),
    ]
    method, url, kind, token = doors[door % len(doors)]
    target.send(method, url, dumped(value) if raw is None else raw, kind, token)


@bounded(250)
@given(item=mutated(*SEEDS), put=st.booleans())
def test_items(target: Target, item: Any, put: bool) -> None:
    if put:
        answer = target.send("PUT", f"{ITEMS}/kept", dumped({**item, "id": "kept"}))
    else:
        target.send("DELETE", f"{ITEMS}/fuzzed")
        answer = target.send("POST", ITEMS, dumped(item))
    if answer.is_success:
        target.check_reading()
        kept = target.send("GET", f"{ITEMS}/kept")
        again = target.send("PUT", f"{ITEMS}/kept", kept.content)
        assert again.headers["ETag"] == kept.headers["ETag"]


@bounded(120)
@given(body=mutated(*MANY) | mutated(*BULK))
def test_many_items(target: Target, body: Any) -> None:
    for identity in ("fuzzed", "other"):
        target.send("DELETE", f"{ITEMS}/{identity}")
    url = ITEMS if isinstance(body, dict) and "items" not in body else ITEMS[:-5] + "bulk_items"
    if target.send("POST", url, dumped(body)).is_success:
        target.check_reading()


@bounded(200)
@given(
    merge=mutated({"properties": {"x:number": 2}, "assets": {"data": {"href": "x"}}, "bbox": [0]})
    | mutated(*SEEDS),
    operations=json_patches,
    as_operations=st.booleans(),
    url=st.sampled_from([f"{ITEMS}/kept", "/collections/imagery", "run"]),
    who=st.sampled_from(["user", "system", "job"]),
)
def test_patches(
    target: Target, merge: Any, operations: Any, as_operations: bool, url: str, who: str
) -> None:
    url = f"{RUNS}/items/{target.run}" if url == "run" else url
    token = {"user": {}, "system": target.system, "job": target.job}[who]
    patch, kind = (operations, JSON_PATCH) if as_operations else (merge, MERGE)
    if target.send("PATCH", url, dumped(patch), kind, token).is_success:
        target.check_reading()


@bounded(120)
@given(collection=mutated(plain_collection("fuzzed"), {**plain_collection("fuzzed"), "assets": {}}))
def test_collections(target: Target, collection: Any) -> None:
    target.send("DELETE", "/collections/fuzzed?force=true")
    if target.send("POST", "/collections", dumped(collection)).is_success:
        target.check_reading()


@bounded(200)
@given(
    run=mutated(run_item(**{"mlops:compute": {"engine": "local"}}), {**run_item(), "id": "r"}),
    dataset=mutated(dataset_item("b" * 64)),
    batch=mutated(BATCH),
    which=st.sampled_from(["run", "dataset", "model", "batch", "search"]),
    data=st.data(),
)
def test_workspaces(
    target: Target, run: Any, dataset: Any, batch: Any, which: str, data: st.DataObject
) -> None:
    if which == "run":
        target.send("POST", f"{RUNS}/items", dumped(run))
    elif which == "dataset":
        target.send("POST", "/collections/alps-training-data/items", dumped(dataset))
    elif which == "model":
        model = data.draw(mutated(model_item(target.run)))
        target.send("POST", "/collections/alps-models/items", dumped(model), token=target.system)
    elif which == "batch":
        url = f"{RUNS}/items/{target.run}/metrics"
        target.send("POST", url, dumped(batch), token=target.job)
    else:
        search = data.draw(mutated(*SEARCHES))
        target.send("POST", "/search", dumped(search))


SEARCHES: list[dict[str, Any]] = [
    {
        "collections": ["imagery"],
        "ids": ["kept"],
        "limit": 10,
        "datetime": "2020-01-01T00:00:00Z/..",
        "bbox": [-180, -90, 180, 90],
        "sortby": [{"field": "properties.x:number", "direction": "desc"}],
        "fields": {"include": ["id", "properties.x:number"], "exclude": ["links"]},
    },
    {
        "intersects": {"type": "Point", "coordinates": [15.05, 46.05]},
        "query": {"x:number": {"gt": 1}},
    },
    {
        "filter-lang": "cql2-json",
        "filter": {
            "op": "and",
            "args": [
                {"op": ">=", "args": [{"property": "x:number"}, 1]},
                {"op": "like", "args": [{"property": "title"}, "a%"]},
                {
                    "op": "s_intersects",
                    "args": [
                        {"property": "geometry"},
                        {"type": "Point", "coordinates": [15.05, 46.05]},
                    ],
                },
                {
                    "op": "t_after",
                    "args": [{"property": "datetime"}, {"timestamp": "2020-01-01T00:00:00Z"}],
                },
            ],
        },
    },
]
