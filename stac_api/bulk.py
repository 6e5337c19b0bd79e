"""Many items in one request: all of them are stored, or none.

Items that have nothing to do with one another, training runs among them, are checked here one by
one and stored together. Versions of datasets and models are written one after the other, because
each changes what the next one finds.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from mlops.identity import Role
from stac_api import records
from stac_api.documents import Document, too_large
from stac_api.items import (
    RULES,
    Caller,
    ItemWriter,
    Written,
    accepted,
    admit,
    pointing_into,
)
from stac_api.problems import Fault, Problem, invalid, pointer
from stac_api.records import Place
from stac_api.rules import Writing
from stac_api.settings import Settings
from stac_api.validation import check_item

# Other requests are served after so many items have been checked.
_SLICE = 32
# Large enough that a statement is worth its while, small enough that two work side by side.
_PART = 250
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
        lost: asyncpg.PostgresError
        for attempt in range(_ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    # Items are stored in the order of the request, and so are their events. Two
                    # requests with some of the same in other orders can wait for one another: the
                    # database ends one, and the next attempt waits until no other is under way.
                    await records.join_bulk(connection, collection, alone=attempt > 0)
                    writer = ItemWriter(self._pool, self._settings)
                    writing = await writer.writing(connection, caller, collection)
                    if writing.place.kind is None or RULES[writing.place.kind].alone:
                        return await self._write(writer, writing, entries, upsert=upsert)
                    return await _write_in_turn(writer, writing, entries, upsert=upsert)
            except asyncpg.DeadlockDetectedError as error:
                lost = error
            except asyncpg.CheckViolationError as error:
                lost = error
                await records.make_room(self._pool, collection)
            except asyncpg.UniqueViolationError as error:
                lost = error
                # Another writer made one of them in between: now it is there to be replaced.
                if not upsert:
                    break
        if not isinstance(lost, asyncpg.UniqueViolationError):
            raise lost
        raise await self._taken(lost, collection, [str(entry.item.get("id")) for entry in entries])

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

    async def _write(
        self, writer: ItemWriter, writing: Writing, entries: Sequence[Entry], *, upsert: bool
    ) -> Outcome:
        connection, collection = writing.connection, writing.place.collection
        there: frozenset[str] = frozenset()
        if upsert:
            ids = [str(entry.item.get("id")) for entry in entries]
            there = await records.lock_items(connection, collection, ids)
        if writing.place.kind is None:
            ids = await self._store(writing, entries, there)
            return Outcome([i for i in ids if i not in there], [i for i in ids if i in there])
        changed = [entry for entry in entries if entry.item.get("id") in there]
        for entry in changed:
            await _in_place(entry, writer.replace_in(writing, entry.item["id"], entry.item))
        new = [entry for entry in entries if entry.item.get("id") not in there]
        created = await self._store(writing, new, frozenset())
        return Outcome(created, [entry.item["id"] for entry in changed])

    async def _store(
        self, writing: Writing, entries: Sequence[Entry], there: frozenset[str]
    ) -> list[str]:
        """Store items and return their ids; those that are ``there`` are replaced.

        The database stores a part while the next is checked here.
        """
        ids: list[str] = []
        try:
            for start in range(0, len(entries), _PART):
                items = await self._checked(writing, entries[start : start + _PART])
                ids += [item["id"] for item in items]
                await writing.idle_connection()
                part = _store_part(writing.connection, writing.place, items, there)
                writing.storing = asyncio.create_task(part)
            await writing.idle_connection()
        except BaseException:
            if writing.storing is not None:
                # The connection must be free again before the transaction is undone.
                await asyncio.wait([writing.storing])
                if not writing.storing.cancelled():
                    # What failed there is of no interest any more, but must have been looked at.
                    writing.storing.exception()
            raise
        return ids

    async def _checked(self, writing: Writing, entries: Sequence[Entry]) -> list[Document]:
        """New items as they are to be stored; a problem that names the faults of all of them."""
        items: list[Document] = []
        faults: list[Fault] = []
        for index, entry in enumerate(entries):
            if index % _SLICE == 0:
                await asyncio.sleep(0)
            try:
                item = accepted(entry.item, writing.place.collection, writing.base_url)
                with pointing_into(entry.item):
                    await admit(writing, item)
                    check_item(item, self._settings.extension_schemas)
                items.append(item)
            except Problem as problem:
                if problem.status != 422 or not problem.faults:
                    raise _placed(problem, entry) from problem
                where = pointer(*entry.place)
                faults += [Fault(where + fault.pointer, fault.detail) for fault in problem.faults]
            if len(faults) > _MAX_FAULTS:
                break
        if faults:
            raise invalid("Not all of the items can be stored; none was.", *faults[:_MAX_FAULTS])
        return items

    async def _taken(
        self, error: asyncpg.UniqueViolationError, collection: str, ids: list[str]
    ) -> Problem:
        async with self._pool.acquire() as connection:
            there = await records.present_items(connection, collection, ids)
        shown = ", ".join(there[:10]) or "one of the items"
        detail = f"Collection {collection} has {shown} already; none was stored."
        return records.taken(error, detail)


async def _write_in_turn(
    writer: ItemWriter, writing: Writing, entries: Sequence[Entry], *, upsert: bool
) -> Outcome:
    created: list[str] = []
    updated: list[str] = []
    for entry in entries:
        if upsert and await _exists(writing, entry.item):
            writes = writer.replace_in(writing, entry.item["id"], entry.item)
        else:
            writes = writer.create_in(writing, entry.item)
        written = await _in_place(entry, writes)
        (created if written.created else updated).append(str(written.item["id"]))
    return Outcome(created, updated)


async def _in_place(entry: Entry, writes: Awaitable[Written]) -> Written:
    """What a write of one item gives; its problem as one of the request that it came in."""
    try:
        return await writes
    except Problem as problem:
        raise _placed(problem, entry) from problem


async def _exists(writing: Writing, item: Document) -> bool:
    identity = item.get("id")
    if not isinstance(identity, str):
        return False
    collection = writing.place.collection
    return await records.read_item(writing.connection, collection, identity) is not None


async def _store_part(
    connection: asyncpg.Connection,
    place: Place,
    items: list[Document],
    there: frozenset[str],
) -> None:
    body = "[" + ",".join([orjson.dumps(item).decode() for item in items]) + "]"
    present = [item["id"] for item in items if item["id"] in there]
    if present:
        await records.update_items(connection, place, body, present)
    if len(present) < len(items):
        await records.insert_items(connection, place, body, leave_out=present)


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
