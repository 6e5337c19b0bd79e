"""All SQL on pgstac's tables: reading rows under lock, storing items and collections.

pgstac's own ``update_item`` deletes and inserts, so two writers can lose one another's work; here a
row is locked, read, changed and updated in place in one transaction. Kept in one module, because
pgstac's tables change between its versions.

Items are written to the table of their collection, not to ``pgstac.items``, whose triggers look
after the ranges of time that pgstac keeps for its tables: three times the work of the write itself,
under a lock for each collection. Ours span all time from the start, so there is nothing to keep.
Triggers for each row, the outbox's among them, belong to every table.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import asyncpg
import orjson

from mlops import request_ids
from mlops.items.kinds import Kind
from stac_api.documents import Document
from stac_api.hrefs import ROOT, render
from stac_api.problems import Problem, not_found

EVERY_TABLE = "pgstac.items"
"""The items of all collections; the tables of collections are its parts."""
# pgstac keeps a CHECK of the times in a collection and rebuilds it, over all its rows, whenever
# an item falls outside. Wide from the start, it is never rebuilt.
_ALL_TIME = "tstzrange('0001-01-01 00:00Z', '9999-12-31 23:59:59.999999Z', '[]')"
# Who makes or drops a collection's table wants locks on pgstac's tables as a whole while holding
# weaker ones: two of them at once would wait for each other.
_TABLES_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('mlops.collections', 0))"
_BULK_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('mlops.bulk/' || $1, 0))"
_BULK = _BULK_ALONE.replace("_lock(", "_lock_shared(")


@dataclass(frozen=True)
class Stored:
    """A document as it lies in the database, as text in UTF-8, with its ETag."""

    text: bytes
    etag: str

    @property
    def document(self) -> Document:
        """The document, parsed anew: the caller may change it."""
        return self.rendered(ROOT)

    def rendered(self, base_url: str) -> Document:
        """The item as a reader gets it."""
        parsed: Document = orjson.loads(render(self.text, base_url))
        return parsed


@dataclass(frozen=True)
class Place:
    """The collection an item lies in: its kind and workspace where it has them."""

    collection: str
    table: str
    kind: Kind | None
    workspace: str | None
    is_split: bool
    """Whether another tool has split the table by time: an id is unique in each part only."""


async def place_of(
    connection: asyncpg.Connection, collection: str, *, writing: bool = False
) -> Place:
    """The place that a collection is; 404 when there is no such collection.

    The transaction is told whose request it serves: its events carry that on. With ``writing`` the
    collection stays until the transaction ends: who deletes it waits, and who comes while it is
    being deleted finds it gone, before any table of items is touched.
    """
    row = await connection.fetchrow(
        _PLACE_TO_WRITE if writing else _PLACE,
        collection,
        request_ids.current() or "",
    )
    if row is None:
        raise not_found(f"Collection {collection}")
    if writing and not row["prepared"]:
        # Another tool made it, and it has had no items yet.
        await _prepare(connection, collection)
    kind = Kind(row["kind"]) if row["kind"] else None
    table = f"pgstac._items_{row['key']:d}"
    return Place(collection, table, kind, row["workspace"], row["is_split"])


async def table_of(connection: asyncpg.Connection, collection: str) -> str | None:
    """The table to read a collection's items from, or None when there is no such collection."""
    row = await connection.fetchrow(_TABLE, collection)
    if row is None:
        return None
    return f"pgstac._items_{row['key']:d}" if row["prepared"] else EVERY_TABLE


async def make_room(pool: asyncpg.Pool, collection: str) -> None:
    """Let a collection's table take items of all times again.

    To be called after a write has failed with ``CheckViolationError``: pgstac's loader binds a
    table to the times of the items that are in it.
    """
    async with pool.acquire() as connection, connection.transaction():
        await _prepare(connection, collection)


async def read_item(
    connection: asyncpg.Connection, collection: str, item: str, *, table: str = EVERY_TABLE
) -> Stored | None:
    """An item, or None when there is none.

    Where the table of its collection is known, the right one is not looked for.
    """
    statement = _READ_ITEM.format(table)
    return _stored_item(await connection.fetchval(statement, collection, item))


async def lock_item(
    connection: asyncpg.Connection, collection: str, item: str, *, table: str = EVERY_TABLE
) -> Stored | None:
    """An item whose row is locked until the transaction ends, or None when there is none."""
    statement = _READ_ITEM.format(table) + " FOR UPDATE"
    return _stored_item(await connection.fetchval(statement, collection, item))


async def insert_item(connection: asyncpg.Connection, place: Place, item: Document) -> str:
    """Store a new item and return its ETag; 409 when its id is taken."""
    _refuse_split(place)
    try:
        return await _write_one(connection, _INSERT_ITEM, place, item)
    except asyncpg.UniqueViolationError as error:
        detail = f"Item {item['id']} exists already in collection {item['collection']}."
        raise taken(error, detail) from error


def taken(error: asyncpg.UniqueViolationError, detail: str) -> Problem:
    """409 for an id that cannot be had, with ``detail`` unless the database's own rules say why."""
    return Problem(409, detail if error.constraint_name else str(error))


async def update_item(connection: asyncpg.Connection, place: Place, item: Document) -> str:
    """Store a changed item over its locked row and return its new ETag."""
    return await _write_one(connection, _UPDATE_ITEM, place, item)


async def join_bulk(connection: asyncpg.Connection, collection: str, *, alone: bool) -> None:
    """Write many items of a collection side by side with others who do, or ``alone`` among them.

    To be called before the transaction holds any other lock.
    """
    await connection.execute(_BULK_ALONE if alone else _BULK, collection)


async def lock_items(
    connection: asyncpg.Connection, collection: str, items: list[str]
) -> frozenset[str]:
    """Which of these items there are; their rows are locked until the transaction ends."""
    # In order, so that two who lock some of the same do not wait for one another.
    rows = await connection.fetch(f"{_PRESENT} ORDER BY id FOR UPDATE", collection, items)
    return frozenset(row["id"] for row in rows)


async def present_items(
    connection: asyncpg.Connection, collection: str, items: list[str]
) -> list[str]:
    """Which of these items there are now, by id."""
    rows = await connection.fetch(f"{_PRESENT} ORDER BY id", collection, items)
    return [row["id"] for row in rows]


async def insert_items(
    connection: asyncpg.Connection, place: Place, items: str, leave_out: Sequence[str] = ()
) -> None:
    """Store the new items of a JSON array, but for those with the ids to leave out."""
    _refuse_split(place)
    statement = _INSERT_ITEMS.format(place.table)
    await connection.execute(statement, items, place.collection, leave_out)


async def update_items(
    connection: asyncpg.Connection, place: Place, items: str, present: Sequence[str]
) -> None:
    """Store the items of a JSON array whose rows are ``present``, and locked, where they differ."""
    statement = _UPDATE_ITEMS.format(place.table)
    await connection.execute(statement, items, place.collection, present)


async def delete_item(connection: asyncpg.Connection, place: Place, item: str) -> None:
    """Remove an item and all that was tracked of it."""
    await connection.execute(_DELETE_ITEM.format(place.table), place.collection, item)
    for statement in _DELETE_TRACKED:
        await connection.execute(statement, place.collection, item)


async def set_links(
    connection: asyncpg.Connection,
    place: Place,
    items: list[str],
    links: Mapping[str, Document | None],
) -> None:
    """Give items a link, or none, of each relation type, in place of those they have of it."""
    statement = _SET_LINKS.format(place.table)
    new = _text([link for link in links.values() if link])
    await connection.execute(statement, place.collection, items, list(links), new)


async def footprint_of(
    connection: asyncpg.Connection, items: list[tuple[str, str]]
) -> Document | None:
    """The footprint of items, given by collection and id: a polygon around all of them."""
    collections, ids = [c for c, _ in items], [i for _, i in items]
    text = await connection.fetchval(_FOOTPRINT, collections, ids)
    return cast(Document, orjson.loads(text)) if text else None


async def read_collection(
    connection: asyncpg.Connection, collection: str, *, lock: bool = False
) -> Stored | None:
    """A collection, its row locked if asked, or None when there is none."""
    query = (
        "SELECT convert_to(c.content::text, 'UTF8') AS document, mlops.etag(c) AS etag"
        " FROM pgstac.collections c WHERE c.id = $1"
    )
    row = await connection.fetchrow(query + (" FOR UPDATE" if lock else ""), collection)
    return None if row is None else Stored(row["document"], row["etag"])


async def insert_collection(connection: asyncpg.Connection, collection: Document) -> str:
    """Store a new collection, ready for items, and return its ETag; 409 when its id is taken."""
    await connection.execute(_TABLES_LOCK)
    try:
        etag = await connection.fetchval(
            "INSERT INTO pgstac.collections AS c (content) VALUES ($1::text::jsonb)"
            " RETURNING mlops.etag(c)",
            _text(collection),
        )
    except asyncpg.UniqueViolationError as error:
        raise Problem(409, f"Collection {collection['id']} exists already.") from error
    await _prepare(connection, collection["id"])
    if collection.get("mlops:kind"):
        await connection.execute(
            "SELECT mlops.index_collection($1, $2)", collection["id"], collection["mlops:kind"]
        )
    return cast(str, etag)


async def update_collection(connection: asyncpg.Connection, collection: Document) -> str:
    """Store a changed collection and return its new ETag."""
    return cast(
        str,
        await connection.fetchval(
            "UPDATE pgstac.collections c SET content = $2::text::jsonb WHERE c.id = $1"
            " RETURNING mlops.etag(c)",
            collection["id"],
            _text(collection),
        ),
    )


async def delete_collection(
    connection: asyncpg.Connection, collection: str, *, with_items: bool
) -> None:
    """Remove a collection whose row is locked; 409 when it holds items, unless ``with_items``.

    As in :func:`place_of`, the events of its items carry on whose request it is.
    """
    # Before any look at items: who makes a table waits for all that have looked.
    await connection.execute(_TABLES_LOCK)
    if not with_items and await _holds_items(connection, collection):
        detail = f"Collection {collection} holds items. Delete them, or add ?force=true."
        raise Problem(409, detail)
    await connection.execute(_SERVE, request_ids.current() or "")
    await connection.execute("SELECT pgstac.delete_collection($1)", collection)


async def _holds_items(connection: asyncpg.Connection, collection: str) -> bool:
    query = "SELECT EXISTS (SELECT FROM pgstac.items WHERE collection = $1)"
    return bool(await connection.fetchval(query, collection))


_SERVE = "SELECT set_config('mlops.request_id', $1, true)"
_PREPARED = "to_regclass(format('pgstac._items_%s', key)) IS NOT NULL AS prepared"
_TABLE = f"SELECT key, {_PREPARED} FROM pgstac.collections WHERE id = $1"  # noqa: S608
_PLACE = f"""
    SELECT key, content->>'mlops:kind' AS kind, content->>'mlops:workspace' AS workspace,
           {_PREPARED}, partition_trunc IS NOT NULL AS is_split,
           set_config('mlops.request_id', $2, true){{}}
    FROM pgstac.collections WHERE id = $1
"""  # noqa: S608 - constants only
# What a write does in one table needs no plan for each value, as searches do (see pool).
_PLACE_TO_WRITE = _PLACE.format(", set_config('plan_cache_mode', 'auto', true)") + "FOR KEY SHARE"
_PLACE = _PLACE.format("")
_READ_ITEM = """
    SELECT mlops.document_json(i) FROM {} i WHERE i.collection = $1 AND i.id = $2
"""
_PRESENT = "SELECT id FROM pgstac.items WHERE collection = $1 AND id = ANY($2)"
# The rows that the documents of a JSON array are stored as; the reverse of mlops.document. Written
# out here: a function for it, called for each row, costs as much as the rest.
_ROWS = """
    SELECT document->>'id' AS id, public.ST_GeomFromGeoJSON(document->>'geometry') AS geometry,
        CASE WHEN ranged THEN document->'properties'->>'start_datetime'
            ELSE document->'properties'->>'datetime' END::timestamptz AS datetime,
        CASE WHEN ranged THEN document->'properties'->>'end_datetime'
            ELSE document->'properties'->>'datetime' END::timestamptz AS end_datetime,
        document - '{{id,geometry,collection,type}}'::text[] AS content
    FROM jsonb_array_elements($1::text::jsonb) document,
        LATERAL (SELECT document->'properties'->>'start_datetime' IS NOT NULL
            AND document->'properties'->>'end_datetime' IS NOT NULL AS ranged) times
"""
_INSERT_ITEM = f"""
    INSERT INTO {{}} AS i (id, geometry, collection, datetime, end_datetime, content)
    SELECT id, geometry, $2, datetime, end_datetime, content FROM ({_ROWS}) rows
    RETURNING mlops.etag(i)
"""  # noqa: S608 - constants only
_INSERT_ITEMS = f"""
    INSERT INTO {{}} (id, geometry, collection, datetime, end_datetime, content)
    SELECT id, geometry, $2, datetime, end_datetime, content FROM ({_ROWS}) rows
    WHERE id <> ALL($3::text[])
"""  # noqa: S608 - constants only
_UPDATE = f"""
    UPDATE {{}} i
    SET content = d.content, geometry = d.geometry,
        datetime = d.datetime, end_datetime = d.end_datetime
    FROM ({_ROWS}) d
    WHERE i.collection = $2 AND i.id = d.id
"""  # noqa: S608 - constants only
_UPDATE_ITEM = f"{_UPDATE} RETURNING mlops.etag(i)"
# 1 and 1.0 are equal as JSON values, and differ as texts.
_UPDATE_ITEMS = f"""{_UPDATE} AND i.id = ANY($3::text[]) AND (
        i.content IS DISTINCT FROM d.content
        OR i.content::text IS DISTINCT FROM d.content::text
        OR public.ST_AsBinary(i.geometry) IS DISTINCT FROM public.ST_AsBinary(d.geometry))
"""
_SET_LINKS = """
    UPDATE {} i
    SET content = jsonb_set(i.content, '{{links}}', (
        SELECT coalesce(jsonb_agg(link) FILTER (WHERE link->>'rel' <> ALL($3::text[])), '[]')
        FROM jsonb_array_elements(i.content->'links') link
    ) || $4::text::jsonb)
    WHERE i.collection = $1 AND i.id = ANY($2)
"""
_FOOTPRINT = """
    SELECT public.ST_AsGeoJSON(CASE count(*)
        WHEN 1 THEN (array_agg(i.geometry))[1]
        ELSE public.ST_ConvexHull(public.ST_Collect(i.geometry)) END, 9)
    FROM unnest($1::text[], $2::text[]) AS wanted(collection, id)
    JOIN pgstac.items i USING (collection, id)
"""
_DELETE_ITEM = "DELETE FROM {} WHERE collection = $1 AND id = $2"
_DELETE_TRACKED = (
    "DELETE FROM mlops.metrics WHERE collection = $1 AND item = $2",
    "DELETE FROM mlops.metric_batches WHERE collection = $1 AND item = $2",
    "DELETE FROM mlops.log_chunks WHERE collection = $1 AND item = $2",
    "DELETE FROM mlops.heartbeats WHERE collection = $1 AND item = $2",
    "UPDATE mlops.versions SET origin = NULL WHERE collection = $1 AND item = $2",
)


def _stored_item(document: bytes | None) -> Stored | None:
    if document is None:
        return None
    # What mlops.etag makes of it; here the document is at hand.
    return Stored(document, hashlib.md5(document, usedforsecurity=False).hexdigest())


async def _prepare(connection: asyncpg.Connection, collection: str) -> None:
    """Make the table for a collection's items, if there is none, and have it take all times."""
    await connection.execute(_TABLES_LOCK)
    try:
        await connection.execute(
            f"SELECT pgstac.check_partition($1, {_ALL_TIME}, {_ALL_TIME})", collection
        )
    except asyncpg.RaiseError as error:
        raise _split(collection) from error


def _refuse_split(place: Place) -> None:
    if place.is_split:
        raise _split(place.collection)


def _split(collection: str) -> Problem:
    return Problem(
        409,
        f"Collection {collection} is split by time (partition_trunc) and takes nothing new here: "
        "leave that to the tool that has split it, or have it put together again.",
    )


async def _write_one(
    connection: asyncpg.Connection, statement: str, place: Place, item: Document
) -> str:
    etag = await connection.fetchval(
        statement.format(place.table), f"[{_text(item)}]", place.collection
    )
    return cast(str, etag)


def _text(document: Document | list[Document]) -> str:
    return orjson.dumps(document).decode()
