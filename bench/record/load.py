"""A load generator, in a process of its own: a job as JSON on standard input, what was measured as
JSON on standard output.

Requests are made before the clock starts and sent over connections that stay open, one at a time
each; an answer is read to its last byte and its status looked at, and nothing else is done with it,
so that the generator takes little from the cores that it shares with what it measures. SQL goes
through asyncpg, one connection a client, its result taken as text.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import asyncpg
import uvloop

COUNTER = "@@COUNT@@"
"""Stands for a number of nine digits that is different in every request: as long as this."""
HOST = "@@HOST@@"
"""Stands for host and port of the server: links in answers and bodies name them."""

Ask = Callable[[int], Awaitable[str | None]]
"""Sends its request of a number; what was wrong with the answer, or None."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that stays open."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[int] | None = None
        self._transport: Any = None
        self.complaint = ""
        """The first answer that was an error, for whoever wants to know why."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the server"))

    async def ask(self, request: bytes) -> int:
        """Send a request; the status of its answer, once all of it is there."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = bytes(self._buffer[:end]).lower()
        if not self._is_complete(head, end + 4):
            return
        status = int(head[9:12])
        if status >= 400 and not self.complaint:
            self.complaint = bytes(self._buffer[:1000]).decode(errors="replace")
        self._buffer.clear()
        self._answer.set_result(status)

    def _is_complete(self, head: bytes, start: int) -> bool:
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            length = int(head[at + 17 :].split(b"\r\n", 1)[0])
            return len(self._buffer) >= start + length
        if b"transfer-encoding: chunked" in head:
            return self._buffer.endswith(b"0\r\n\r\n")
        return True


async def http_clients(job: dict[str, Any]) -> list[Ask]:
    """A client for every connection; each has requests of its own."""
    loop = asyncio.get_running_loop()
    host = f"127.0.0.1:{job['port']}"
    requests = [text.replace(HOST, host).encode() for text in job["requests"]]
    number, width = job["concurrency"], COUNTER.encode()
    clients = []
    for index in range(number):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", job["port"])
        own = requests[index::number]
        clients.append(_http_client(connection, own, width, index * 1_000_000 + job["first"]))
    return clients


def _http_client(connection: Connection, own: list[bytes], width: bytes, first: int) -> Ask:
    async def ask(turn: int) -> str | None:
        request = own[turn % len(own)].replace(width, b"%09d" % (first + turn))
        return None if 200 <= await connection.ask(request) < 300 else connection.complaint

    return ask


async def sql_clients(job: dict[str, Any]) -> list[Ask]:
    """A database connection for every client."""
    clients = []
    for index in range(job["concurrency"]):
        connection = await asyncpg.connect(
            job["database"], server_settings={"search_path": "pgstac,public"}
        )
        statement = await connection.prepare(job["statement"])
        own = job["arguments"][index :: job["concurrency"]]
        clients.append(_sql_client(statement, own, index * 1_000_000 + job["first"]))
    return clients


def _sql_client(statement: Any, own: list[list[Any]], first: int) -> Ask:
    async def ask(turn: int) -> str | None:
        number = f"{first + turn:09d}"
        arguments = [
            value.replace(COUNTER, number) if isinstance(value, str) else value
            for value in own[turn % len(own)]
        ]
        return None if await statement.fetch(*arguments) else "no rows"

    return ask


async def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Keep every client busy for a while; the times of all answers after the warm-up."""
    clients = await (sql_clients(job) if "statement" in job else http_clients(job))
    times: list[float] = []
    errors: list[str] = []
    begin = time.perf_counter() + job["warm_up"]
    end = begin + job["seconds"]

    async def work(ask: Ask) -> None:
        for turn in count():
            sent = time.perf_counter()
            if sent >= end:
                return
            complaint = await ask(turn)
            done = time.perf_counter()
            # By its end: of a slow server the clients may get one answer each, asked before.
            if done >= begin:
                times.append(done - sent)
            if complaint is not None:
                errors.append(complaint)

    await asyncio.gather(*(work(client) for client in clients))
    elapsed = time.perf_counter() - begin
    times.sort()
    return {
        "requests": len(times),
        "errors": len(errors),
        "complaint": errors[0] if errors else None,
        "per_second": round(len(times) / elapsed, 2),
        "p50_ms": round(_quantile(times, 0.5) * 1000, 2),
        "p95_ms": round(_quantile(times, 0.95) * 1000, 2),
    }


def _quantile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(json.load(sys.stdin)))))
