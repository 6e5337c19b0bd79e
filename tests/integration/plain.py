"""Items and collections of nobody's workspace, and what the API answers about them."""

import copy
import threading
from typing import Any

import httpx

Document = dict[str, Any]

ITEMS = "/collections/imagery/items"
BULK = "/collections/imagery/bulk_items"

SQUARE = {
    "type": "Polygon",
    "coordinates": [[[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.1], [15.0, 46.0]]],
}

BAD_IDS: list[Any] = [
    "a/b",
    "a b",
    "a\tb",
    "a\nb",
    "a\x7fb",
    "a" * 300,
    "..",
    ".",
    "../../etc/passwd",
    "-a",
    "",
    "ä",
    "a?b",
    "a#b",
    "a%2fb",
    None,
    7,
    True,
    [],
    {},
]


def plain_item(identity: str = "one") -> Document:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "geometry": copy.deepcopy(SQUARE),
        "bbox": [15.0, 46.0, 15.1, 46.1],
        "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "links": [],
        "assets": {"data": {"href": "s3://bucket/key.tif"}},
    }


def plain_collection(identity: str = "imagery") -> Document:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "description": "Imagery",
        "license": "CC-BY-4.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [],
    }


def problem(answer: httpx.Response, status: int, pointer: str | None = None) -> Document:
    """The problem document of an answer, which must be one."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body: Document = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= body.keys()
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return body


def stored(client: httpx.Client) -> list[str]:
    return [item["id"] for item in client.get(ITEMS).json()["features"]]


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
