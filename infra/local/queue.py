"""The queues of one machine, in PostgreSQL: taken once, retried with backoff, then dead letters."""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from mlops.events import BusEvent, Function, routes

CHANNEL = "mlops_queue"
MAX_RECEIVES = 6
_FIRST_PAUSE = 0.5
"""Seconds before the second try; each pause is twice the one before."""
_LONGEST_PAUSE = 60.0
_VISIBILITY = 900.0
"""Seconds that a function has before its message comes again."""


@dataclass(frozen=True)
class Message:
    """An event on its way to a function; ``receives`` counts this delivery."""

    id: int
    function: Function
    body: str
    receives: int


@dataclass(frozen=True)
class DeadLetter:
    """A message that no retry could deliver."""

    id: int
    function: str
    body: str
    receives: int
    last_error: str | None
    died: str


class LocalQueue:
    """Queues over one connection that threads share; also the :class:`EventBus` of one machine."""

    def __init__(self, database_url: str, first_pause: float = _FIRST_PAUSE) -> None:
        self._url = database_url
        self._first_pause = first_pause
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()

    def publish(self, event: BusEvent) -> None:
        """Put an event into the queue of each function that it is routed to."""
        self.publish_all([event])

    def publish_all(self, events: Iterable[BusEvent]) -> None:
        """Put events into the queues, all or none."""
        rows = [(f.value, event.to_json()) for event in events for f in routes(event)]
        if not rows:
            return
        with self._lock, self._transaction() as cursor:
            cursor.executemany(
                "INSERT INTO mlops_queue.messages (function, body) VALUES (%s, %s)", rows
            )
            cursor.execute(f"NOTIFY {CHANNEL}")

    def release(self) -> None:
        """Give back what an earlier service had taken: there is one service to a home."""
        with self._lock, self._transaction() as cursor:
            cursor.execute("UPDATE mlops_queue.messages SET due = now() WHERE receives > 0")

    def take(self, limit: int = 10) -> list[Message]:
        """Take messages that are due, oldest first; what is not done in time comes again."""
        with self._lock, self._transaction() as cursor:
            rows = cursor.execute(_TAKE, (_VISIBILITY, limit)).fetchall()
        taken = [
            Message(row["id"], Function(row["function"]), row["body"], row["receives"])
            for row in rows
        ]
        return sorted(taken, key=lambda message: message.id)

    def seconds_to_next(self) -> float | None:
        """Seconds until the next message is due, or None when there is none waiting."""
        with self._lock, self._transaction() as cursor:
            row = cursor.execute(
                "SELECT extract(epoch FROM min(due) - now())::float AS seconds"
                " FROM mlops_queue.messages"
            ).fetchone()
        return None if row is None or row["seconds"] is None else max(0.0, row["seconds"])

    def delivered(self, message: Message) -> None:
        """Remove a message that its function has done."""
        with self._lock, self._transaction() as cursor:
            cursor.execute("DELETE FROM mlops_queue.messages WHERE id = %s", (message.id,))

    def failed(self, message: Message, error: str) -> bool:
        """Retry a message later, or make it a dead letter; True in the second case."""
        dead = message.receives >= MAX_RECEIVES
        # Jitter is no secret: any spread will do.
        pause = min(self._first_pause * 2 ** (message.receives - 1), _LONGEST_PAUSE)
        pause *= random.uniform(0.75, 1.25)  # noqa: S311
        with self._lock, self._transaction() as cursor:
            if dead:
                cursor.execute(_BURY, {"id": message.id, "error": error})
            else:
                cursor.execute(_RETRY, {"id": message.id, "error": error, "pause": pause})
        return dead

    def wake(self) -> None:
        """Wake whoever waits for messages."""
        with self._lock, self._transaction() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")

    def dead_letters(self, limit: int | None = 100) -> list[DeadLetter]:
        """What could not be delivered, newest first."""
        with self._lock, self._transaction() as cursor:
            rows = cursor.execute(
                "SELECT id, function, body, receives, last_error, died::text"
                " FROM mlops_queue.dead_letters ORDER BY died DESC LIMIT %s",
                (limit,),
            ).fetchall()
        return [DeadLetter(**row) for row in rows]

    def revive(self, letters: list[int]) -> list[int]:
        """Make messages of dead letters, to be tried anew; the ids of those that were there."""
        with self._lock, self._transaction() as cursor:
            rows = cursor.execute(_REVIVE, (letters,)).fetchall()
            cursor.execute(f"NOTIFY {CHANNEL}")
        return [row["id"] for row in rows]

    def has_open_runs(self) -> bool:
        """Whether any run has not ended."""
        with self._lock, self._transaction() as cursor:
            row = cursor.execute("SELECT EXISTS (SELECT FROM mlops.open_runs) AS open").fetchone()
        return bool(row and row["open"])

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _transaction(self) -> "_Transaction":
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = psycopg.connect(self._url, row_factory=dict_row)
        return _Transaction(self._connection)


class _Transaction:
    """One transaction on a shared connection, with a cursor in it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def __enter__(self) -> psycopg.Cursor[Any]:
        self._cursor = self._connection.cursor()
        return self._cursor

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._cursor.close()
        if self._connection.broken:
            return
        if kind is None:
            self._connection.commit()
        else:
            self._connection.rollback()


_TAKE = """
    UPDATE mlops_queue.messages
    SET receives = receives + 1, due = now() + make_interval(secs => %s)
    WHERE id IN (
        SELECT id FROM mlops_queue.messages WHERE due <= now()
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING id, function, body, receives
"""
_RETRY = """
    UPDATE mlops_queue.messages
    SET last_error = %(error)s, due = now() + make_interval(secs => %(pause)s)
    WHERE id = %(id)s
"""
_REVIVE = """
    WITH back AS (
        DELETE FROM mlops_queue.dead_letters WHERE id = ANY(%s)
        RETURNING id, function, body),
    queued AS (INSERT INTO mlops_queue.messages (function, body) SELECT function, body FROM back)
    SELECT id FROM back
"""
_BURY = """
    WITH gone AS (DELETE FROM mlops_queue.messages WHERE id = %(id)s RETURNING *)
    INSERT INTO mlops_queue.dead_letters (id, function, body, receives, last_error, created)
    SELECT id, function, body, receives, %(error)s, created FROM gone
"""
