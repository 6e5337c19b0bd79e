"""The database of one machine: the embedded cluster or a given one, migrated and kept alive."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from pydantic import SecretStr

from infra.local import StartupError
from infra.local.home import Home
from infra.local.postgres import Cluster
from stac_api.migrate import MigrationError, migrate

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


@contextmanager
def embedded_cluster(given: SecretStr | None, place: Home) -> Iterator[Cluster | None]:
    """The embedded cluster, stopped at the end; None where another database is named."""
    if given is not None:
        yield None
        return
    cluster = Cluster(place.folder)
    try:
        yield cluster
    finally:
        cluster.stop()


def open_database(given: SecretStr | None, cluster: Cluster | None) -> str:
    """The URL of the database, migrated."""
    if cluster is None:
        assert given is not None
        url = given.get_secret_value()
        _migrate(url, "MLOPS_DATABASE_URL")
    else:
        url = cluster.start()
        _migrate(url, "the embedded database")
    return url


def revive(cluster: Cluster) -> None:
    """Start the embedded database again if it was killed."""
    try:
        if cluster.revive():
            logger.warning("the embedded database had ended and was started again")
    except StartupError as error:
        # The dispatcher comes back to it with growing pauses.
        logger.warning("the embedded database stays away: %s", error)


def _migrate(url: str, what: str) -> None:
    try:
        applied = migrate(url, MIGRATIONS)
    except MigrationError as error:
        raise StartupError(str(error)) from error
    except psycopg.Error as error:
        raise StartupError(f"{what} cannot be used: {str(error).strip()}") from error
    if applied:
        logger.info("migrated: %s", ", ".join(applied))
