"""The relay of the outbox: hands committed changes to the event bus, at least once.

Rows are removed only after the bus has taken their events; a crash in between sends them again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.rows import dict_row, tuple_row

from mlops.events import RECORD_SOURCE, BusEvent, RecordEvent

CHANNEL = "mlops_outbox"
"""PostgreSQL channel that is notified of new rows."""


def relay(
    connection: psycopg.Connection[Any],
    publish: Callable[[list[BusEvent]], None],
    api_url: str,
    batch: int = 100,
) -> int:
    """Publish what is waiting, oldest first, and return how many events that was.

    Rows that another relay works on are left to it.
    """
    total = 0
    while True:
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_TAKE, (batch,)).fetchall()
            if not rows:
                return total
            publish([_event(row, api_url) for row in rows])
            cursor.execute(_REMOVE, ([row["seq"] for row in rows],))
        total += len(rows)


@dataclass(frozen=True)
class Waiting:
    """A row of the outbox: which item it is about, and its event."""

    seq: int
    item: tuple[str, str]
    event: BusEvent


def read_waiting(
    connection: psycopg.Connection[Any],
    api_url: str,
    leave_out: Collection[tuple[str, str]],
    limit: int,
) -> list[Waiting]:
    """The oldest rows, but for those about the items ``leave_out`` (collection and id).

    Of each item the rows come in the order of their commits, none left out between two. That holds
    within one call only: a row with a lower number may be committed after the call.
    """
    collections = [collection for collection, _ in leave_out]
    items = [item for _, item in leave_out]
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_READ, (collections, items, limit)).fetchall()
    return [
        Waiting(row["seq"], (row["collection"], row["item"]), _event(row, api_url)) for row in rows
    ]


def remove(connection: psycopg.Connection[Any], rows: Sequence[int]) -> None:
    """Remove the rows of these numbers."""
    connection.execute(_REMOVE, (list(rows),))


def seconds_of_oldest(connection: psycopg.Connection[Any]) -> float:
    """How long the oldest row waits; 0 when there is none."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_AGE).fetchone()
    return float(row[0]) if row is not None else 0.0


def _event(row: dict[str, Any], api_url: str) -> BusEvent:
    item_path = f"collections/{quote(row['collection'])}/items/{quote(row['item'])}"
    detail = RecordEvent(
        id=str(row["id"]),
        time=row["time"],
        workspace=row["workspace"] or "",
        collection=row["collection"],
        item=row["item"],
        attempt=row["attempt"],
        href=f"{api_url.rstrip('/')}/{item_path}",
        etag=row["etag"],
        request_id=row["request_id"],
    )
    return BusEvent(
        id=str(row["id"]),
        source=RECORD_SOURCE,
        detail_type=row["detail_type"],
        time=row["time"],
        detail=detail.model_dump(mode="json"),
    )


_TAKE = "SELECT * FROM mlops.outbox ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED"
_READ = """
    SELECT * FROM mlops.outbox o
    WHERE NOT EXISTS (
        SELECT FROM unnest(%s::text[], %s::text[]) AS left_out(collection, item)
        WHERE left_out.collection = o.collection AND left_out.item = o.item)
    ORDER BY seq LIMIT %s
"""
_AGE = """
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(time)), 0)::float FROM mlops.outbox
"""
_REMOVE = "DELETE FROM mlops.outbox WHERE seq = ANY(%s)"
