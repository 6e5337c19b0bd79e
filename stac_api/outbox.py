"""The relay of the outbox: hands committed changes to the event bus, at least once.

Rows are removed only after the bus has taken their events; a crash in between sends them again.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.rows import dict_row

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
_REMOVE = "DELETE FROM mlops.outbox WHERE seq = ANY(%s)"
