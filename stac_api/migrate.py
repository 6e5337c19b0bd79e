"""Migrations: pgstac by pypgstac, then our own versioned SQL files, forward only.

A database that is ahead of this program stays as it is. Every file is applied once, in order, in
one transaction with its entry in ``mlops_migrations``; a file that was applied may not change
afterwards (its checksum is kept).
"""

import hashlib
import logging
import re
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

logger = logging.getLogger(__name__)

OWN_MIGRATIONS = Path(__file__).parent / "migrations"
_RELEASE = re.compile(r"\A\d+\.\d+\.\d+\Z")
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
        if found is not None and _is_later(str(found[0]), wanted):
            # A deployment that is rolled back comes by here with the code of before.
            logger.warning(
                "the database has pgstac %s, this program brings %s: left as it is",
                found[0],
                wanted,
            )
            return []
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with PgstacDB(dsn=database_url) as database:
        Migrate(database).run_migration(wanted)
    return [f"pgstac {wanted}"]


def _is_later(found: str, wanted: str) -> bool:
    """Whether a version of pgstac is later than another; one that is no release is not."""
    if not (_RELEASE.match(found) and _RELEASE.match(wanted)):
        return False
    return [int(part) for part in found.split(".")] > [int(part) for part in wanted.split(".")]


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
