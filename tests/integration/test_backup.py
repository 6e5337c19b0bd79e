"""A dump of the database is a backup: what is restored from it is read and written as before."""

import subprocess
from typing import Any

import httpx
import psycopg
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from infra.local.postgres import find_binaries
from mlops.api import Api
from tests.conftest import ApiServer, serving
from tests.integration.conftest import run_item
from tests.integration.plain import ITEMS, plain_collection, plain_item

_TABLES = """
    SELECT table_schema, table_name FROM information_schema.tables
    WHERE table_schema IN ('pgstac', 'mlops') AND table_type = 'BASE TABLE' ORDER BY 1, 2
"""


def test_what_is_dumped_can_be_restored(
    api_server: ApiServer, workspace: Api, database_url: str, tmp_path: Any
) -> None:
    reader = httpx.Client(base_url=workspace.url)
    assert reader.post("/collections", json=plain_collection()).is_success
    assert reader.post(ITEMS, json=plain_item()).is_success
    run, _ = workspace.create_item("alps-training-runs", run_item())
    paths = [f"{ITEMS}/one", f"/collections/alps-training-runs/items/{run['id']}"]
    paths += ["/collections/imagery", "/collections/alps-training-data"]
    before = [reader.get(path) for path in paths]
    dump = tmp_path / "record.dump"
    run_program("pg_dump", "-Fc", "-f", str(dump), database_url)
    restored = f"{database_url}_restored"
    administration = database_url.rsplit("/", 1)[0] + "/postgres"
    name = restored.rsplit("/", 1)[1]
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        run_program("pg_restore", "--exit-on-error", "-d", restored, str(dump))
        assert counts(restored) == counts(database_url)
        settings = api_server.settings.model_copy(update={"database_url": SecretStr(restored)})
        with serving(settings) as url, httpx.Client(base_url=url) as client:
            for path, was in zip(paths, before, strict=True):
                read = client.get(path)
                assert read.headers["ETag"] == was.headers["ETag"]
                assert read.text.replace(url, workspace.url) == was.text
            assert client.patch(paths[1], json={"properties": {"title": "x"}}).status_code == 204
            assert client.post(ITEMS, json=plain_item("two")).status_code == 201
            assert client.post("/collections", json=plain_collection("more")).status_code == 201
    finally:
        with psycopg.connect(administration, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def run_program(name: str, *arguments: str) -> None:
    result = subprocess.run(
        [find_binaries()[name], *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]


def counts(database_url: str) -> dict[str, int]:
    found = {}
    with psycopg.connect(database_url) as connection:
        for schema, table in connection.execute(_TABLES).fetchall():
            query = SQL("SELECT count(*) FROM {}").format(Identifier(schema, table))
            row = connection.execute(query).fetchone()
            assert row is not None
            found[f"{schema}.{table}"] = row[0]
    return found
