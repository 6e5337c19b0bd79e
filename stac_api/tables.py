"""Which table holds the items of a collection: looked up, and known for a minute.

A plan for the table itself is made in less time than one for pgstac's ``items``, of which it is a
part, and one plan for all values reads nothing but it.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from stac_api import records
from stac_api.pool import BoundedPool, Planning

_T = TypeVar("_T")
_ATTEMPTS = 3
# A database may be restored under a running process, and name its tables otherwise.
_SECONDS_KNOWN = 60.0


class Tables:
    """The tables of collections, as far as they are known to this process."""

    def __init__(self, pool: BoundedPool) -> None:
        self._pool = pool
        self._known: dict[str, tuple[str, float]] = {}

    async def read(
        self,
        collection: str,
        work: Callable[[asyncpg.Connection, str | None], Awaitable[_T]],
        planning: Planning,
    ) -> _T:
        """What ``work`` reads from a collection's table; it is given None where there is no such
        collection."""
        async with self._pool.acquire(planning=planning) as connection:
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await work(connection, await self._table(connection, collection))
                except asyncpg.UndefinedTableError:
                    # The collection was deleted since; another may have got its id.
                    self._known.pop(collection, None)
            return await work(connection, await self._table(connection, collection))

    async def _table(self, connection: asyncpg.Connection, collection: str) -> str | None:
        now = time.monotonic()
        table, until = self._known.get(collection, (None, now))
        if now < until:
            return table
        table = await records.table_of(connection, collection)
        if table is None or table == records.EVERY_TABLE:
            self._known.pop(collection, None)
        else:
            self._known[collection] = table, now + _SECONDS_KNOWN
        return table
