"""What the outbox told of changes, and changes made by pgstac's own functions."""

import json
from typing import Any

import psycopg


def told(database_url: str) -> list[tuple[str, str]]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT detail_type, item FROM mlops.outbox ORDER BY seq")
        return [(str(kind), str(item)) for kind, item in rows.fetchall()]


def forget(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM mlops.outbox")


def call(database_url: str, function: str, document: Any) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET search_path = pgstac, public")
        connection.execute(f"SELECT {function}(%s::jsonb)", (json.dumps(document),))
