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
        async with self._pool.acquire() as connection:
            place = await records.place_of(connection, collection)
        if place.kind is not None:
            return await self._write_by_rules(caller, collection, entries, upsert=upsert)
        items = await self._checked(caller, collection, entries)
        body = "[" + ",".join(orjson.dumps(item).decode() for item in items) + "]"
        for _ in range(_ATTEMPTS):
            try:
                return await self._store(collection, body, [i["id"] for i in items], upsert=upsert)
            except asyncpg.UniqueViolationError:
                # Another writer made one of them in between: now it is there to be replaced.
                if not upsert:
                    break
        raise await self._taken(collection, [item["id"] for item in items])

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

    async def _write_by_rules(
        self, caller: Caller, collection: str, entries: Sequence[Entry], *, upsert: bool
    ) -> Outcome:
        writer = ItemWriter(self._pool, self._settings)
        created: list[str] = []
        updated: list[str] = []
        async with self._pool.acquire() as connection, connection.transaction():
            writing = await writer.writing(connection, caller, collection)
            for entry in entries:
                try:
                    if upsert and await self._exists(writing, entry.item):
                        written = await writer.replace_in(writing, entry.item["id"], entry.item)
                    else:
                        written = await writer.create_in(writing, entry.item)
                except Problem as problem:
                    raise _placed(problem, entry) from problem
                (created if written.created else updated).append(str(written.item["id"]))
        return Outcome(created, updated)

    async def _exists(self, writing: Writing, item: Document) -> bool:
        identity = item.get("id")
        if not isinstance(identity, str):
            return False
        place = writing.place.collection
        return await records.read_item(writing.connection, place, identity) is not None

    async def _checked(
        self, caller: Caller, collection: str, entries: Sequence[Entry]
    ) -> list[Document]:
        items: list[Document] = []
        faults: list[Fault] = []
        for index, entry in enumerate(entries):
            if index % _SLICE == 0:
                await asyncio.sleep(0)
            try:
                item = prepared(entry.item, collection, caller.base_url)
                found: Sequence[Fault] = item_faults(item, self._settings.extension_schemas)
            except Problem as problem:
                found = problem.faults
            faults += [Fault(pointer(*entry.place) + f.pointer, f.detail) for f in found]
            if len(faults) > _MAX_FAULTS:
                break
            items.append(item)
        if faults:
            detail = "Not all of the items are valid STAC Items; none was stored."
            raise invalid(detail, *faults[:_MAX_FAULTS])
        return items

    async def _store(self, collection: str, body: str, ids: list[str], *, upsert: bool) -> Outcome:
        async with self._pool.acquire() as connection, connection.transaction():
            await records.place_of(connection, collection)
            if not upsert:
                await records.insert_items(connection, collection, body)
                return Outcome(ids, [])
            there = await records.lock_items(connection, collection, ids)
            if there:
                await records.update_items(connection, collection, body)
            if len(there) < len(ids):
                await records.insert_items(connection, collection, body, leave_out=sorted(there))
            return Outcome([i for i in ids if i not in there], [i for i in ids if i in there])

    async def _taken(self, collection: str, ids: list[str]) -> Problem:
        async with self._pool.acquire() as connection, connection.transaction():
            there = await records.lock_items(connection, collection, ids)
        shown = ", ".join(sorted(there)[:10]) or "one of the items"
        return Problem(409, f"Collection {collection} has {shown} already; none was stored.")


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
