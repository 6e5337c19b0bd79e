"""Writing items: every write is one transaction that locks, checks, applies, validates the result
and stores it; the event is recorded by the database in the same transaction."""

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from mlops.identity import Principal, Role
from mlops.items.kinds import Kind
from mlops.items.status import Status
from stac_api import hrefs, records
from stac_api.documents import Document
from stac_api.problems import Problem, invalid, not_found
from stac_api.records import Stored
from stac_api.rules import Rules, Writing, now
from stac_api.rules.model import ModelRules
from stac_api.rules.training_data import TrainingDataRules
from stac_api.rules.training_run import TrainingRunRules
from stac_api.settings import Settings
from stac_api.validation import bbox_of, check_item

RULES: dict[Kind, Rules] = {
    Kind.TRAINING_RUN: TrainingRunRules(),
    Kind.TRAINING_DATA: TrainingDataRules(),
    Kind.MODEL: ModelRules(),
}

Check = Callable[[str], None]
"""Raises when the ETag that a row has is not the one that the request supposes."""


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
        async with self._pool.acquire() as connection, connection.transaction():
            return await self._create(await self._writing(connection, caller, collection), item)

    async def create_all(
        self, caller: Caller, collection: str, items: list[Document]
    ) -> list[Written]:
        """Create items, all or none."""
        async with self._pool.acquire() as connection, connection.transaction():
            writing = await self._writing(connection, caller, collection)
            return [await self._create(writing, item) for item in items]

    async def replace(
        self, caller: Caller, collection: str, item_id: str, item: Document, check: Check
    ) -> Written:
        """Put another document in an item's place."""

        def replacement(_: Document) -> Document:
            return item

        return await self.change(caller, collection, item_id, replacement, check)

    async def change(
        self,
        caller: Caller,
        collection: str,
        item_id: str,
        apply: Callable[[Document], Document],
        check: Check,
    ) -> Written:
        """Change an item by ``apply``, which gets it as a reader sees it and returns the result."""
        async with self._pool.acquire() as connection, connection.transaction():
            writing = await self._writing(connection, caller, collection)
            before = await self._locked(writing, item_id)
            check(before.etag)
            changed = apply(hrefs.render_item(before.document, caller.base_url))
            return await self._store_change(writing, before, changed)

    async def remove(
        self, caller: Caller, collection: str, item_id: str, check: Check
    ) -> Written | None:
        """Remove an item; an open run is dismissed instead, and what it is now is returned."""
        async with self._pool.acquire() as connection, connection.transaction():
            writing = await self._writing(connection, caller, collection)
            before = await self._locked(writing, item_id)
            check(before.etag)
            if _is_open_run(writing, before.document):
                dismissed = hrefs.render_item(before.document, caller.base_url)
                dismissed["properties"] = {
                    **dismissed["properties"],
                    "mlops:status": Status.DISMISSED.value,
                }
                return await self._store_change(writing, before, dismissed)
            await records.delete_item(connection, collection, item_id)
            return None

    async def _writing(
        self, connection: asyncpg.Connection, caller: Caller, collection: str
    ) -> Writing:
        place = await records.place_of(connection, collection)
        if caller.principal.role is Role.JOB and place.kind is not Kind.TRAINING_RUN:
            raise Problem(403, "A job may write to its own run only.")
        return Writing(connection, caller.principal, place, caller.base_url, self._settings)

    async def _locked(self, writing: Writing, item_id: str) -> Stored:
        collection = writing.place.collection
        principal = writing.principal
        if principal.role is Role.JOB and not principal.measures(collection, item_id):
            raise Problem(403, "A job may write to its own run only.")
        stored = await records.lock_item(writing.connection, collection, item_id)
        if stored is None:
            raise not_found(f"Item {item_id} in collection {collection}")
        return stored

    async def _create(self, writing: Writing, item: Document) -> Written:
        if writing.principal.role is Role.JOB:
            raise Problem(403, "A job may not create items.")
        collection = writing.place.collection
        _check_shape(item)
        if item.setdefault("collection", collection) != collection:
            detail = f"The item says that it is in {item['collection']}, not in {collection}."
            raise invalid(detail)
        item = hrefs.strip_item(item, writing.base_url)
        rules = RULES[writing.place.kind] if writing.place.kind else None
        if rules is not None:
            existing = await rules.admit(writing, item)
            if existing is not None:
                return Written(existing.document, existing.etag)
        _fill_bbox(item)
        check_item(item)
        etag = await records.insert_item(writing.connection, item)
        if rules is not None:
            await rules.settle(writing, item)
        return Written(item, etag, created=True)

    async def _store_change(self, writing: Writing, before: Stored, changed: Document) -> Written:
        _check_shape(changed)
        after = hrefs.strip_item(changed, writing.base_url)
        for field in ("id", "collection"):
            if after.setdefault(field, before.document[field]) != before.document[field]:
                raise invalid(f"The {field} of an item cannot be changed.")
        moved = before.document.get("geometry") != after.get("geometry")
        if moved and before.document.get("bbox") == after.get("bbox"):
            # The old box belongs to the old footprint; a new one was not given with the new.
            after.pop("bbox", None)
        _fill_bbox(after)
        if after == before.document:
            return Written(after, before.etag)
        if writing.place.kind is not None:
            await RULES[writing.place.kind].check_change(writing, before.document, after)
            after["properties"]["updated"] = now()
        check_item(after)
        etag = await records.update_item(writing.connection, after)
        return Written(after, etag)


def _is_open_run(writing: Writing, item: Document) -> bool:
    if writing.place.kind is not Kind.TRAINING_RUN:
        return False
    return not Status(item["properties"]["mlops:status"]).is_terminal


def _check_shape(item: Document) -> None:
    """What the rules take for granted before the item is checked as a whole."""
    if not isinstance(item.get("properties"), dict):
        raise invalid("The item has no properties.")
    for name, kind in (("links", list), ("assets", dict)):
        if item.get(name) is None:
            item[name] = kind()
    item.setdefault("stac_extensions", [])
    if isinstance(item["stac_extensions"], list):
        item["stac_extensions"] = list(item["stac_extensions"])


def _fill_bbox(item: Document) -> None:
    if item.get("bbox") is None and isinstance(item.get("geometry"), dict):
        try:
            item["bbox"] = bbox_of(item["geometry"])
        except (KeyError, TypeError, ValueError, IndexError):
            # The geometry is malformed: the check of the whole item says how.
            item.pop("bbox", None)
