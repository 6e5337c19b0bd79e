"""Migrations: pgstac by pypgstac, then our own versioned SQL files, forward only.

Every file is applied once, in order, in one transaction with its entry in
``mlops_migrations``; a file that was applied may not change afterwards (its checksum is kept).
"""

import hashlib
import re
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

OWN_MIGRATIONS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"\A\d{4}_[a-z0-9_]+\.sql\Z")
# Any number of processes may migrate at once: one does it, the others wait and find it done.
_LOCK = 4_711_008_815


class MigrationError(Exception):
    """The database cannot be brought to this version; the message says why."""


def migrate(database_url: str, *folders: Path) -> list[str]:
    """Bring the database to this version and return the names of what was applied.

    ``folders`` are further folders of migrations, applied after the record's own.
    """
    with psycopg.connect(database_url, autocommit=True, row_factory=tuple_row) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        applied = _migrate_pgstac(database_url, connection)
        for folder in (OWN_MIGRATIONS, *folders):
            applied += _migrate_own(connection, folder)
        connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return applied


def _migrate_pgstac(
    database_url: str, connection: psycopg.Connection[tuple[object, ...]]
) -> list[str]:
    # Imported only when there is something to do: pypgstac costs half a second.
    from importlib.metadata import version as installed_version

    wanted = installed_version("pypgstac")
    row = connection.execute("SELECT to_regclass('pgstac.migrations') IS NOT NULL").fetchone()
    if row == (True,):
        found = connection.execute("SELECT pgstac.get_version()").fetchone()
        if found == (wanted,):
            return []
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with PgstacDB(dsn=database_url) as database:
        Migrate(database).run_migration(wanted)
    return [f"pgstac {wanted}"]


def _migrate_own(connection: psycopg.Connection[tuple[object, ...]], folder: Path) -> list[str]:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS public.mlops_migrations ("
        " name text PRIMARY KEY, sha256 text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
    )
    rows = connection.execute("SELECT name, sha256 FROM public.mlops_migrations").fetchall()
    known = {str(name): str(digest) for name, digest in rows}
    applied = []
    for path in sorted(folder.glob("*.sql")):
        if not _NAME.match(path.name):
            raise MigrationError(f"{path.name} is not named like 0001_what_it_does.sql")
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if path.name in known:
            if known[path.name] != digest:
                raise MigrationError(
                    f"{path.name} was changed after it was applied to this database. Put the old "
                    "text back and write the change as a new migration."
                )
            continue
        with connection.transaction():
            connection.execute(content)
            connection.execute(
                "INSERT INTO public.mlops_migrations (name, sha256) VALUES (%s, %s)",
                (path.name, digest),
            )
        applied.append(path.name)
    return applied
