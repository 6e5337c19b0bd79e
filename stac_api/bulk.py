"""Many items in one request: all of them are stored, or none.

Items of a workspace are written one after the other, because each is held to the rules of its kind
and may change what the next one finds. Items of any other collection depend on nothing but
themselves: they are checked here and stored by one statement.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from mlops.identity import Role
from stac_api import records
from stac_api.documents import Document, too_large
from stac_api.items import Caller, ItemWriter, prepared
from stac_api.problems import Fault, Problem, invalid, pointer
from stac_api.rules import Writing
from stac_api.settings import Settings
from stac_api.validation import item_faults

# Other requests are served after so many items have been checked.
_SLICE = 32
# Large enough that a statement is worth its while, small enough that two work side by side.
_PART = 500
_MAX_FAULTS = 20
_ATTEMPTS = 3


@dataclass(frozen=True)
class Entry:
    """An item of a request, and where it stands there: the path of a JSON Pointer."""

    item: Document
    place: tuple[object, ...]


@dataclass(frozen=True)
class Outcome:
    """Ids of what was created, and of what was there and is changed now."""

    created: list[str]
    updated: list[str]


class BulkWriter:
    """Writes many items at once."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def write(
        self, caller: Caller, collection: str, entries: Sequence[Entry], *, upsert: bool
    ) -> Outcome:
        """Create the items; with ``upsert``, replace those that exist.

        Without it an id that is taken is refused with 409, and nothing is stored.
        """
        if caller.principal.role is Role.JOB:
            raise Problem(403, "A job may not create items.")
        self._check_sizes(entries)
        for _ in range(_ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    writer = ItemWriter(self._pool, self._settings)
                    writing = await writer.writing(connection, caller, collection)
                    if writing.place.kind is not None:
                        return await _write_by_rules(writer, writing, entries, upsert=upsert)
                    return await self._write(writing, entries, upsert=upsert)
            except asyncpg.UniqueViolationError:
                # Another writer made one of them in between: now it is there to be replaced.
                if not upsert:
                    break
        raise await self._taken(collection, [entry.item["id"] for entry in entries])

    def _check_sizes(self, entries: Sequence[Entry]) -> None:
        limit = self._settings.max_body_bytes
        seen: set[str] = set()
        for entry in entries:
            if len(orjson.dumps(entry.item)) > limit:
                raise _placed(too_large("item", limit), entry)
            identity = entry.item.get("id")
            if isinstance(identity, str):
                if identity in seen:
                    detail = f"Item {identity} stands twice in the request."
                    raise invalid(detail, Fault(pointer(*entry.place, "id"), "appears twice"))
                seen.add(identity)

    async def _write(self, writing: Writing, entries: Sequence[Entry], *, upsert: bool) -> Outcome:
        connection, collection = writing.connection, writing.place.collection
        ids = [str(entry.item.get("id")) for entry in entries]
        there: frozenset[str] = frozenset()
        if upsert:
            there = await records.lock_items(connection, collection, ids)
        # The database stores a part while the next is checked here.
        storing: asyncio.Task[None] | None = None
        try:
            for start in range(0, len(entries), _PART):
                items = await self._checked(writing, entries[start : start + _PART])
                if storing is not None:
                    await storing
                storing = asyncio.create_task(_store(connection, collection, items, there))
            if storing is not None:
                await storing
        except BaseException:
            if storing is not None and not storing.done():
                # The connection must be free again before the transaction is undone.
                await asyncio.wait([storing])
            raise
        return Outcome([i for i in ids if i not in there], [i for i in ids if i in there])

    async def _checked(self, writing: Writing, entries: Sequence[Entry]) -> list[Document]:
        items: list[Document] = []
        faults: list[Fault] = []
        for index, entry in enumerate(entries):
            if index % _SLICE == 0:
                await asyncio.sleep(0)
            try:
                item = prepared(entry.item, writing.place.collection, writing.base_url)
                found: Sequence[Fault] = item_faults(item, self._settings.extension_schemas)
                items.append(item)
            except Problem as problem:
                found = problem.faults
            faults += [Fault(pointer(*entry.place) + f.pointer, f.detail) for f in found]
            if len(faults) > _MAX_FAULTS:
                break
        if faults:
            detail = "Not all of the items are valid STAC Items; none was stored."
            raise invalid(detail, *faults[:_MAX_FAULTS])
        return items

    async def _taken(self, collection: str, ids: list[str]) -> Problem:
        async with self._pool.acquire() as connection, connection.transaction():
            there = await records.lock_items(connection, collection, ids)
        shown = ", ".join(sorted(there)[:10]) or "one of the items"
        return Problem(409, f"Collection {collection} has {shown} already; none was stored.")


async def _write_by_rules(
    writer: ItemWriter, writing: Writing, entries: Sequence[Entry], *, upsert: bool
) -> Outcome:
    created: list[str] = []
    updated: list[str] = []
    for entry in entries:
        try:
            if upsert and await _exists(writing, entry.item):
                written = await writer.replace_in(writing, entry.item["id"], entry.item)
            else:
                written = await writer.create_in(writing, entry.item)
        except Problem as problem:
            raise _placed(problem, entry) from problem
        (created if written.created else updated).append(str(written.item["id"]))
    return Outcome(created, updated)


async def _exists(writing: Writing, item: Document) -> bool:
    identity = item.get("id")
    if not isinstance(identity, str):
        return False
    collection = writing.place.collection
    return await records.read_item(writing.connection, collection, identity) is not None


async def _store(
    connection: asyncpg.Connection,
    collection: str,
    items: list[Document],
    there: frozenset[str],
) -> None:
    body = "[" + ",".join([orjson.dumps(item).decode() for item in items]) + "]"
    present = [item["id"] for item in items if item["id"] in there]
    if present:
        await records.update_items(connection, collection, body)
    if len(present) < len(items):
        await records.insert_items(connection, collection, body, leave_out=present)


def _placed(problem: Problem, entry: Entry) -> Problem:
    """The problem of one item as one of the request that it came in."""
    where = pointer(*entry.place)
    faults = problem.faults or (Fault("", problem.detail),)
    return Problem(
        problem.status,
        f"{problem.detail} (at {where}; none of the items was stored)",
        [Fault(where + fault.pointer, fault.detail) for fault in faults],
        problem.headers,
    )
