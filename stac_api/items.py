"""Writing items: every write is one transaction that locks, checks, applies, validates the result
and stores it; the event is recorded by the database in the same transaction."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg

from mlops.identity import Principal, Role
from mlops.items.kinds import Kind
from mlops.items.status import OPEN, Status
from stac_api import hrefs, records
from stac_api.documents import Document
from stac_api.geometry import bbox_of, contradicts
from stac_api.problems import Fault, Problem, invalid, not_found, pointer
from stac_api.records import Stored
from stac_api.rules import Rules, Writing, now, versions
from stac_api.rules.model import ModelRules
from stac_api.rules.training_data import TrainingDataRules
from stac_api.rules.training_run import TrainingRunRules, known_status
from stac_api.settings import Settings
from stac_api.strict_json import equal_json, same_json
from stac_api.validation import check_item, check_shape

RULES: dict[Kind, Rules] = {
    Kind.TRAINING_RUN: TrainingRunRules(),
    Kind.TRAINING_DATA: TrainingDataRules(),
    Kind.MODEL: ModelRules(),
}

Check = Callable[[str | None], None]
"""Raises when the ETag of a row, None for no row, is not the one that the request supposes."""


@dataclass(frozen=True)
class Caller:
    """Who writes, and the API's root as they see it."""

    principal: Principal
    base_url: str


@dataclass(frozen=True)
class Written:
    """The outcome of a write; ``created`` is False when the item was there."""

    item: Document
    etag: str
    created: bool = False


class ItemWriter:
    """Creates, changes and removes items."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def create(self, caller: Caller, collection: str, item: Document) -> Written:
        """Create an item."""

        async def create(writing: Writing) -> Written:
            return await self.create_in(writing, item)

        return await self._write(caller, collection, create)

    async def replace(
        self, caller: Caller, collection: str, item_id: str, item: Document, check: Check
    ) -> Written:
        """Put another document in an item's place."""

        async def replace(writing: Writing) -> Written:
            before = await self._locked(writing, item_id)
            check(before.etag)
            return await self._store_change(writing, before, item)

        return await self._write(caller, collection, replace)

    async def change(
        self,
        caller: Caller,
        collection: str,
        item_id: str,
        apply: Callable[[Document], Document],
        check: Check,
    ) -> Written:
        """Change an item by ``apply``, which gets it as a reader sees it and returns the result."""

        async def change(writing: Writing) -> Written:
            before = await self._locked(writing, item_id)
            check(before.etag)
            old = before.rendered(caller.base_url)
            changed = apply(old)
            if changed.get("bbox") == old.get("bbox") and not equal_json(
                changed.get("geometry"), old.get("geometry")
            ):
                _forget_old_bbox(changed)
            return await self._store_change(writing, before, changed)

        return await self._write(caller, collection, change)

    async def remove(
        self, caller: Caller, collection: str, item_id: str, check: Check
    ) -> Written | None:
        """Remove an item; an open run is dismissed instead, and what it is now is returned.

        An item that is not there is as it shall be.
        """
        if caller.principal.role is Role.JOB:
            raise Problem(403, "A job may not delete items, nor dismiss its run.")
        async with self._pool.acquire() as connection, connection.transaction():
            writing = await self.writing(connection, caller, collection)
            kind = writing.place.kind
            is_version = kind is not None and not RULES[kind].alone
            if is_version:
                await versions.lock_name_of(writing, item_id)
            before = await self._lock(writing, item_id)
            check(before.etag if before else None)
            if before is None:
                return None
            if _is_open_run(writing, before.document):
                dismissed = before.rendered(caller.base_url)
                dismissed["properties"] = {
                    **dismissed["properties"],
                    "mlops:status": Status.DISMISSED.value,
                }
                return await self._store_change(writing, before, dismissed)
            await records.delete_item(connection, writing.place, item_id)
            if is_version:
                await versions.close_gap(writing, item_id)
            return None

    async def _write(
        self, caller: Caller, collection: str, write: Callable[[Writing], Awaitable[Written]]
    ) -> Written:
        """Do ``write`` in a transaction; again, where its table had to be made to take the item."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                return await write(await self.writing(connection, caller, collection))
        except asyncpg.CheckViolationError:
            await records.make_room(self._pool, collection)
        async with self._pool.acquire() as connection, connection.transaction():
            return await write(await self.writing(connection, caller, collection))

    async def writing(
        self, connection: asyncpg.Connection, caller: Caller, collection: str
    ) -> Writing:
        """A write in the transaction that a connection is in."""
        place = await records.place_of(connection, collection, writing=True)
        if caller.principal.role is Role.JOB and place.kind is not Kind.TRAINING_RUN:
            raise Problem(403, "A job may write to its own run only.")
        return Writing(connection, caller.principal, place, caller.base_url, self._settings)

    async def _locked(self, writing: Writing, item_id: str) -> Stored:
        stored = await self._lock(writing, item_id)
        if stored is None:
            raise not_found(f"Item {item_id} in collection {writing.place.collection}")
        return stored

    async def _lock(self, writing: Writing, item_id: str) -> Stored | None:
        collection = writing.place.collection
        principal = writing.principal
        if principal.role is Role.JOB and not principal.measures(collection, item_id):
            raise Problem(403, "A job may write to its own run only.")
        return await records.lock_item(
            writing.connection, collection, item_id, table=writing.place.table
        )

    async def replace_in(self, writing: Writing, item_id: str, item: Document) -> Written:
        """Put another document in an item's place, as part of a write."""
        return await self._store_change(writing, await self._locked(writing, item_id), item)

    async def create_in(self, writing: Writing, item: Document) -> Written:
        """Create an item, as part of a write."""
        if writing.principal.role is Role.JOB:
            raise Problem(403, "A job may not create items.")
        given = item
        item = accepted(item, writing.place.collection, writing.base_url)
        with pointing_into(given):
            existing = await admit(writing, item)
            if existing is not None:
                return Written(existing.document, existing.etag)
            check_item(item, self._settings.extension_schemas)
        etag = await records.insert_item(writing.connection, writing.place, item)
        if writing.place.kind is not None:
            await RULES[writing.place.kind].settle(writing, item)
        return Written(item, etag, created=True)

    async def _store_change(self, writing: Writing, stored: Stored, changed: Document) -> Written:
        _fill_shape(changed)
        before = stored.document
        for field in ("id", "collection"):
            if changed.setdefault(field, before[field]) != before[field]:
                fault = Fault(pointer(field), f"must be {before[field]}")
                raise invalid(f"The {field} of an item cannot be changed.", fault)
        check_shape(changed)
        after = hrefs.strip_item(changed, writing.base_url)
        _fill_bbox(after)
        if same_json(after, before):
            return Written(after, stored.etag)
        with pointing_into(changed):
            if writing.place.kind is not None:
                await RULES[writing.place.kind].check_change(writing, before, after)
                after["properties"]["updated"] = now()
            check_item(after, self._settings.extension_schemas)
        etag = await records.update_item(writing.connection, writing.place, after)
        return Written(after, etag)


def _is_open_run(writing: Writing, item: Document) -> bool:
    return writing.place.kind is Kind.TRAINING_RUN and known_status(item) in OPEN


def accepted(item: Document, collection: str, base_url: str) -> Document:
    """A new item as far as it can be judged alone, as it would be stored in ``collection``."""
    _fill_shape(item)
    if item.setdefault("collection", collection) != collection:
        fault = Fault("/collection", f"must be {collection}, or left out")
        raise invalid("The item says that it is in another collection.", fault)
    check_shape(item)
    return hrefs.strip_item(item, base_url)


@contextmanager
def pointing_into(given: Document) -> Iterator[None]:
    """Let the faults of a stored item point into the document that it was ``given`` as."""
    try:
        yield
    except Problem as problem:
        faults = [Fault(hrefs.as_given(f.pointer, given), f.detail) for f in problem.faults]
        raise Problem(problem.status, problem.detail, faults, problem.headers) from problem


async def admit(writing: Writing, item: Document) -> Stored | None:
    """Hold a new item to the rules of its kind, and fill in place what it leaves to the server.

    Returns what is stored already where the rules find that the item asks for just that.
    """
    if writing.place.kind is not None:
        given = item.get("id")
        existing = await RULES[writing.place.kind].admit(writing, item)
        if existing is not None:
            return existing
        if item["id"] != given:
            # The id is the server's: links of its place are made from it.
            hrefs.link_place(item)
    _fill_bbox(item)
    return None


def _fill_shape(item: Document) -> None:
    """Add the parts that a client may leave out."""
    for name, kind in (("links", list), ("assets", dict), ("stac_extensions", list)):
        if item.get(name) is None:
            item[name] = kind()


def _forget_old_bbox(item: Document) -> None:
    """Take away a box that a patch has left where the footprint was before."""
    if contradicts(item.get("bbox"), item.get("geometry")):
        item.pop("bbox", None)


def _fill_bbox(item: Document) -> None:
    if item.get("bbox") is None and isinstance(item.get("geometry"), dict):
        try:
            item["bbox"] = bbox_of(item["geometry"])
        except (KeyError, TypeError, ValueError, IndexError):
            # The geometry is malformed: the check of the whole item says how.
            item.pop("bbox", None)
