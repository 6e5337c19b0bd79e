"""The pool: every connection comes back, and fit for the next who needs one."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from stac_api.pool import BoundedPool, Planning, create_pool
from stac_api.settings import Settings

SIZE = 2


def with_pool(database_url: str, work: Callable[[BoundedPool], Awaitable[None]]) -> None:
    """Do something with a small pool, and see that all of its connections serve afterwards."""
    settings = Settings(
        database_url=SecretStr(database_url),
        storage="unused",
        token_secret=SecretStr(secrets.token_hex(32)),
        pool_size=SIZE,
        pool_patience_seconds=5,
    )

    async def go() -> None:
        pool = await create_pool(settings)
        try:
            await work(pool)
            # Those that were ended are opened anew: as many as there may be, all at once.
            async with asyncio.TaskGroup() as tasks:
                alive = [tasks.create_task(_asked(pool)) for _ in range(SIZE)]
            assert len({task.result() for task in alive}) == SIZE
        finally:
            await asyncio.wait_for(pool.close(), 5)

    asyncio.run(go())


async def _asked(pool: BoundedPool) -> int:
    """The process that serves a connection, which must be in no transaction."""
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        server: int = await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.05)")
        return server


@pytest.mark.parametrize("planning", Planning)
def test_a_request_that_is_given_up_at_any_moment(database_url: str, planning: Planning) -> None:
    async def work(pool: BoundedPool) -> None:
        async def read() -> None:
            async with pool.acquire(planning=planning) as connection, connection.transaction():
                await connection.fetchval("SELECT 1 FROM pg_sleep(0.01)")

        for turns in range(60):
            task = asyncio.create_task(read())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with_pool(database_url, work)


@pytest.mark.parametrize("planning", Planning)
def test_a_change_of_planning_that_is_given_up(database_url: str, planning: Planning) -> None:
    """The server may have done it before it hears that nobody waits for it any longer."""
    (other,) = set(Planning) - {planning}

    async def work(pool: BoundedPool) -> None:
        async def read(planned: Planning) -> str:
            async with pool.acquire(planning=planned) as connection:
                mode: str = await connection.fetchval("SHOW plan_cache_mode")
            return mode

        mode = await read(planning)
        assert await read(other) != mode
        assert await read(planning) == mode
        task = asyncio.create_task(read(other))
        await asyncio.sleep(0)
        # Sent, and done by the time that anybody here looks for the answer.
        time.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await read(planning) == mode

    with_pool(database_url, work)


def test_a_statement_that_is_given_up_while_the_server_works(database_url: str) -> None:
    async def work(pool: BoundedPool) -> None:
        async def read() -> None:
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT 1 FROM pg_sleep(60)")

        watch = await asyncpg.connect(database_url)
        for _ in range(SIZE + 1):
            task = asyncio.create_task(read())
            while not await watch.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event = 'PgSleep'"
            ):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await watch.close()

    with_pool(database_url, work)


def test_a_transaction_that_was_left_open_is_undone(database_url: str) -> None:
    async def work(pool: BoundedPool) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with pool.acquire() as connection:
            await connection.execute("BEGIN; CREATE TABLE public.left_open ()")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT to_regclass('public.left_open')") is None

    with_pool(database_url, work)


def test_a_connection_that_the_server_ended_is_replaced(database_url: str) -> None:
    async def work(pool: BoundedPool) -> None:
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)):
            async with pool.acquire() as connection:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with_pool(database_url, work)


def test_a_transaction_that_failed_leaves_nothing_behind(database_url: str) -> None:
    async def work(pool: BoundedPool) -> None:
        held: list[Any] = []

        async def fail() -> None:
            async with pool.acquire() as connection, connection.transaction():
                held.append(connection)
                await connection.execute("SELECT 1 / 0")

        with pytest.raises(asyncpg.DivisionByZeroError):
            await fail()
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT 1") == 1
        # Who kept it has it no longer.
        with pytest.raises(asyncpg.InterfaceError):
            await held[0].execute("SELECT 1")

    with_pool(database_url, work)
