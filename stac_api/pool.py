"""The pool of database connections: bounded in number, and in how long one is waited for."""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

import asyncpg
import orjson
from asyncpg.pool import PoolAcquireContext
from asyncpg.transaction import Transaction

from stac_api.database import Database, GivenDatabase, database_of
from stac_api.settings import Settings

# How much longer than the server's own limit the client waits for a statement: a server that is
# cut off cannot say that its limit has passed.
_MARGIN = 5.0
# How long a connection that comes back may take to end what was given up on it.
_GIVE_BACK = 1.0


class Planning(Enum):
    """How the database plans the statements of a connection; the value is what tells it so."""

    EACH = "RESET plan_cache_mode; RESET enable_seqscan; RESET enable_bitmapscan; RESET enable_sort"
    """For the values of each execution: a plan for any value may miss the index that one for this
    value takes. It takes as long as to read some items."""

    ONCE = (
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
        " SET enable_bitmapscan = off; SET enable_sort = off"
    )
    """Once for all values, for statements that one index answers whatever the values are. Nothing
    but an index is considered: the plan outlives the time in which the table is small."""


class _Transaction(Transaction):  # type: ignore[misc]  # the library has no types
    """A transaction that ends with its connection when the server did not answer in time.

    It would not answer ROLLBACK either, and the library waits for that as long once more.
    """

    def __init__(self, connection: asyncpg.Connection, *options: Any) -> None:
        super().__init__(connection, *options)
        self._waiting_for = connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> None:
        if isinstance(error, TimeoutError):
            self._waiting_for.terminate()
            return
        await super().__aexit__(kind, error, trace)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the library has no types
    """A connection that is given back as it is.

    All that the API sets is bound to a transaction, but for how statements are planned, which is
    known here. So there is nothing to undo between two requests, and asyncpg's default would cost
    each of them a round trip.
    """

    _planning: Planning | None = Planning.EACH
    """None where that was given up on before the server had answered."""

    async def plan(self, planning: Planning) -> None:
        """Have statements planned so; not to be called in a transaction, which may be undone."""
        if planning is not self._planning:
            self._planning = None
            await self.execute(planning.value)
            self._planning = planning

    def get_reset_query(self) -> str:
        """Nothing."""
        return ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """End what was left open; where nothing was, there is nothing to watch the time of."""
        if self.is_in_transaction():
            await super().reset(timeout=timeout)
        else:
            await self._reset()

    def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> Transaction:
        """A transaction that a server which does not answer cannot hold up."""
        return _Transaction(self, isolation, readonly, deferrable)


class _Acquired(PoolAcquireContext):  # type: ignore[misc]  # the library has no types
    """A connection of the pool, while the context lasts, that plans statements as asked for."""

    def __init__(self, pool: asyncpg.Pool, timeout: float | None, planning: Planning) -> None:
        super().__init__(pool, timeout)
        self._planning = planning

    async def __aenter__(self) -> Any:
        connection = await super().__aenter__()
        try:
            await connection.plan(self._planning)
        except BaseException:
            await super().__aexit__()
            raise
        return connection


class BoundedPool(asyncpg.Pool):  # type: ignore[misc]  # the library has no types
    """A pool that raises TimeoutError rather than wait for ever."""

    def __init__(self, patience: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._patience = patience

    def acquire(
        self, *, timeout: float | None = None, planning: Planning = Planning.EACH
    ) -> _Acquired:
        """A connection, waited for at most ``timeout`` seconds, or the pool's patience.

        To be used with ``async with``, which has it plan statements as asked for.
        """
        if timeout is None and not self.get_idle_size():
            timeout = self._patience
        # A free connection is had at once: a timer would only cost time.
        return _Acquired(self, timeout, planning)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Take a connection back; one on which something was given up is not waited for long.

        asyncpg has it done by a task of its own, which no cancellation reaches: a seventh of a
        short read. Here it is done on the spot, mostly with nothing to wait for. Whoever is
        cancelled while there is loses the connection, and the pool opens another.
        """
        if connection._con is None:
            return
        connection._con._on_release()
        await connection._holder.release(_GIVE_BACK if timeout is None else timeout)


async def _decode_json(connection: asyncpg.Connection) -> None:
    for type_ in ("json", "jsonb"):
        await connection.set_type_codec(
            type_, encoder=_encoded, decoder=orjson.loads, schema="pg_catalog"
        )


def _encoded(value: Any) -> str:
    return orjson.dumps(value).decode()


async def create_pool(settings: Settings) -> BoundedPool:
    """The pool; it opens connections when they are needed, so the database may be away."""
    pool: BoundedPool = await BoundedPool(
        settings.pool_patience_seconds,
        connect=_connecting(database_of(settings)),
        min_size=0,
        max_size=settings.pool_size,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        init=_decode_json,
        loop=None,
        connection_class=_Connection,
        record_class=asyncpg.Record,
        # To open one is waited for as to get one: a machine that is cut off refuses nobody.
        timeout=settings.pool_patience_seconds,
        command_timeout=settings.statement_timeout_seconds + _MARGIN,
        server_settings={
            "search_path": "pgstac,public",
            "application_name": "stac-mlops",
            "timezone": "UTC",
            # What Planning.EACH stands for.
            "plan_cache_mode": "force_custom_plan",
            # To compile a search takes longer than to run it.
            "jit": "off",
            "statement_timeout": str(int(settings.statement_timeout_seconds * 1000)),
        },
    )
    return pool


def _connecting(database: Database) -> Callable[..., Any]:
    """A function that connects as asyncpg does, with the password as it is then."""

    async def connect(*_: Any, **arguments: Any) -> asyncpg.Connection:
        if isinstance(database, GivenDatabase):
            return await asyncpg.connect(dsn=database.url(), **arguments)
        url = await asyncio.to_thread(database.url)
        try:
            return await asyncpg.connect(dsn=url, **arguments)
        except asyncpg.InvalidAuthorizationSpecificationError:
            # The kind that InvalidPasswordError is of. The password was changed since.
            if not await asyncio.to_thread(database.refresh):
                raise
            return await asyncpg.connect(dsn=await asyncio.to_thread(database.url), **arguments)

    return connect
