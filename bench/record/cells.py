"""What the bench asks of each side: the same question in the words of each."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from load import COUNTER, HOST
from runs import COLLECTION, MODELS, STOCK_COLLECTION, run_item

SIDES = ("ours", "stock", "raw", "http")
_PATTERNS = 320
"""Different requests of a cell; those that write differ each time besides."""


def client(port: int) -> httpx.Client:
    """A client of one of the servers."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600)


@dataclass
class Target:
    """Where the sides are reached."""

    ports: dict[str, int]
    database: str
    connection: psycopg.Connection[Any]
    secret: str
    items: int
    turn: str
    """Part of new items' ids, another in every run of the bench: the database may be kept."""
    accept_encoding: str = "identity"
    """What clients say that they can unpack."""

    def client(self, side: str) -> httpx.Client:
        """A client of a side's server."""
        return client(self.ports[side])

    def table(self) -> str:
        """The part of ``pgstac.items`` that holds our collection: SQL that names it is planned
        once, and in less time."""
        query = "SELECT key FROM pgstac.collections WHERE id = %s"
        row = self.connection.execute(query, (COLLECTION,)).fetchone()
        assert row is not None
        return f"pgstac._items_{row[0]}"

    def ids(self) -> list[str]:
        """Runs, spread over all of them; the same ones for every side."""
        chosen = random.Random(1).sample(range(self.items), min(_PATTERNS, self.items))
        return [f"run-{n:09d}" for n in chosen]


Requests = Callable[[Target, str, str], list[str]]
Arguments = Callable[[Target], list[list[Any]]]


@dataclass(frozen=True)
class Cell:
    """One question: HTTP requests to a collection of a server, or a statement with arguments."""

    name: str
    requests: Requests
    statement: str
    arguments: Arguments

    @property
    def reads(self) -> bool:
        """Whether the same request may be made twice."""
        return self.name.startswith(("GET", "search", "leaderboard", "rare"))

    def size(self, target: Target) -> int:
        """How many bytes our answer to the first request has."""
        head, _, body = self.requests(target, COLLECTION, "ours")[0].partition("\r\n\r\n")
        method, path, _ = head.split(" ", 2)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        with target.client("ours") as server:
            answer = server.request(method, path, content=body or None, headers=headers)
            return len(answer.raise_for_status().content)

    def job(self, side: str, target: Target) -> dict[str, Any]:
        """The load generator's job, without how much of it."""
        if side == "http":
            size = self.size(target)
            requests = [_http("GET", f"/{size}")]
            return {"port": target.ports[side], "requests": requests * 16}
        if side == "raw":
            return {
                "database": target.database,
                "statement": self.statement.replace("pgstac.items", target.table()),
                "arguments": self.arguments(target),
            }
        collection = COLLECTION if side == "ours" else STOCK_COLLECTION
        header = f"\r\nAccept-Encoding: {target.accept_encoding}\r\n"
        requests = [
            request.replace("\r\n", header, 1)
            for request in self.requests(target, collection, side)
        ]
        return {"port": target.ports[side], "requests": requests}


def _http(method: str, path: str, body: Any = None, content_type: str = "application/json") -> str:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n"
    if body is None:
        return head + "\r\n"
    text = json.dumps(body)
    return (
        f"{head}Content-Type: {content_type}\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}"
    )


def _get(target: Target, collection: str, _: str) -> list[str]:
    return [_http("GET", f"/collections/{collection}/items/{i}") for i in target.ids()]


def _post(target: Target, collection: str, side: str) -> list[str]:
    item = run_item(f"new-{side}-{target.turn}-{COUNTER}")
    # The stock application takes an item as it is to be stored.
    item["collection"] = collection
    return [_http("POST", f"/collections/{collection}/items", item)] * 16


def _put(target: Target, collection: str, side: str) -> list[str]:
    requests = []
    with target.client(side) as server:
        for identity in target.ids():
            path = f"/collections/{collection}/items/{identity}"
            item = server.get(path).raise_for_status().json()
            item["properties"]["title"] = f"changed {COUNTER}"
            requests.append(_http("PUT", path, item))
    return requests


def _patch(target: Target, collection: str, _: str) -> list[str]:
    patch = {"properties": {"title": f"patched {COUNTER}"}}
    return [
        _http(
            "PATCH", f"/collections/{collection}/items/{i}", patch, "application/merge-patch+json"
        )
        for i in target.ids()
    ]


def _search(limit: int) -> Requests:
    def requests(_: Target, collection: str, __: str) -> list[str]:
        return [
            _http(
                "POST",
                "/search",
                {
                    "collections": [collection],
                    "filter-lang": "cql2-json",
                    "filter": {"op": "=", "args": [{"property": "mlops:model"}, model]},
                    "sortby": [{"field": "properties.datetime", "direction": "desc"}],
                    "limit": limit,
                },
            )
            for model in MODELS
            for _ in range(16)
        ]

    return requests


def _leaderboard(_: Target, collection: str, __: str) -> list[str]:
    body = {
        "collections": [collection],
        "filter-lang": "cql2-json",
        "filter": {"op": "=", "args": [{"property": "mlops:status"}, "successful"]},
        "sortby": [{"field": "properties.mlops:metrics.val_f1", "direction": "desc"}],
        "limit": 100,
    }
    return [_http("POST", "/search", body)] * 16


def _rare(_: Target, collection: str, __: str) -> list[str]:
    """Newest items with a value that none has: all are read where no index says so."""
    condition = {"op": "=", "args": [{"property": "mlops:framework"}, "tensorflow"]}
    body = {"collections": [collection], "filter-lang": "cql2-json", "filter": condition}
    return [_http("POST", "/search", body)] * 16


def _rare_word(_: Target, collection: str, __: str) -> list[str]:
    return [_http("GET", f"/search?collections={collection}&q=glacier")] * 16


# What an answer is made of, as text. Put together by the client, who has no other work.
_ROW = "SELECT i.id, i.content::text, public.ST_AsGeoJSON(i.geometry) FROM pgstac.items i"
_OF = f"{_ROW} WHERE i.collection = '{COLLECTION}'"


def _search_sql(limit: int) -> str:
    return (
        f"{_OF} AND i.content->'properties'->'mlops:model' = $1::text::jsonb"
        f" ORDER BY i.datetime DESC, i.id DESC LIMIT {limit}"
    )


def _models(_: Target) -> list[list[Any]]:
    return [[json.dumps(model)] for model in MODELS for _ in range(16)]


def _ids(target: Target) -> list[list[Any]]:
    return [[identity] for identity in target.ids()]


def _titles(target: Target) -> list[list[Any]]:
    return [[identity, f'"raw {COUNTER}"'] for identity in target.ids()]


def _contents(target: Target) -> list[list[Any]]:
    rows = target.connection.execute(
        "SELECT id, jsonb_set(content, '{properties,title}', to_jsonb(%s::text))::text"
        " FROM pgstac.items WHERE collection = %s AND id = ANY(%s)",
        (f"raw {COUNTER}", COLLECTION, target.ids()),
    ).fetchall()
    return [list(row) for row in rows]


def _new_rows(target: Target) -> list[list[Any]]:
    return [[f"raw-{target.turn}-{COUNTER}", content] for _, content in _contents(target)[:16]]


_UPDATE = "UPDATE pgstac.items SET content = {} WHERE collection = '" + COLLECTION + "' AND id = $1"
CELLS = (
    Cell("GET item", _get, f"{_OF} AND i.id = $1", _ids),
    Cell("search 10", _search(10), _search_sql(10), _models),
    Cell("search 100", _search(100), _search_sql(100), _models),
    Cell("search 1000", _search(1000), _search_sql(1000), _models),
    Cell(
        "leaderboard 100",
        _leaderboard,
        f"{_OF} AND i.content->'properties'->'mlops:status' = $1::text::jsonb"
        " AND i.content->'properties'->'mlops:metrics'->'val_f1' IS NOT NULL"
        " ORDER BY i.content->'properties'->'mlops:metrics'->'val_f1' DESC LIMIT 100",
        lambda _: [['"successful"']] * 16,
    ),
    Cell(
        "rare value",
        _rare,
        "SELECT count(*) FROM pgstac.items i WHERE"
        " i.content->'properties'->'mlops:framework' = $1::text::jsonb",
        lambda _: [['"tensorflow"']] * 16,
    ),
    Cell(
        "rare word",
        _rare_word,
        "SELECT count(*) FROM pgstac.items i"
        " WHERE mlops.words(i.content) @@ to_tsquery('english', $1)",
        lambda _: [["glacier"]] * 16,
    ),
    Cell(
        "PATCH",
        _patch,
        _UPDATE.format("jsonb_set(content, '{properties,title}', $2::text::jsonb)")
        + " RETURNING id",
        _titles,
    ),
    Cell("PUT", _put, _UPDATE.format("$2::text::jsonb") + " RETURNING id", _contents),
    Cell(
        "POST",
        _post,
        "INSERT INTO pgstac.items (id, geometry, collection, datetime, end_datetime, content)"
        " SELECT $1, public.ST_MakeEnvelope(15, 46, 15.1, 46.1, 4326),"
        f" '{COLLECTION}', now(), now(), $2::text::jsonb RETURNING id",
        _new_rows,
    ),
)
