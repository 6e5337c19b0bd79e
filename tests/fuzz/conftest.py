"""One API for all that is thrown at it, with something of every kind in it."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from mlops.api import Api
from mlops.identity import issue_job_token, issue_system_token
from stac_api.settings import Settings
from tests.conftest import serving
from tests.integration.conftest import dataset_item, run_item
from tests.integration.plain import plain_collection, plain_item


@dataclass(frozen=True)
class Target:
    """A served API and who may talk to it."""

    client: httpx.Client
    database_url: str
    run: str
    system: dict[str, str]
    job: dict[str, str]

    def send(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        kind: str = "application/json",
        token: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, which is no failure of the server and says what is wrong as a problem."""
        headers = {**(token or {}), **({} if content is None else {"Content-Type": kind})}
        answer = self.client.request(method, url, content=content, headers=headers)
        shown = (
            f"{method} {url} {(content or b'')[:2000]!r}: {answer.status_code} {answer.text[:500]}"
        )
        assert answer.status_code < 500, shown
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json", shown
            assert answer.json()["status"] == answer.status_code
        return answer

    def check_reading(self) -> None:
        """What was stored does not stand in the way of reading."""
        for url in (
            "/collections?limit=100",
            "/collections/imagery/items?limit=20",
            "/collections/alps-training-runs/items?limit=20",
            "/search?limit=20&sortby=-properties.x:number",
            "/search?limit=20&filter=%22x:number%22%20%3E%201",
            "/search?limit=20&bbox=-180,-90,180,90&datetime=../2030-01-01T00:00:00Z",
        ):
            answer = self.send("GET", url)
            assert answer.status_code == 200, f"{url}: {answer.text[:500]}"
            answer.json()


@pytest.fixture(scope="module")
def target(template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An API with a workspace, a dataset, a run, and the item `kept` in `imagery`."""
    name, source = f"fuzz_{secrets.token_hex(6)}", template.rsplit("/", 1)[1]
    administration = template.removesuffix(source) + "postgres"
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
    database_url = template.removesuffix(source) + name
    store: Path = tmp_path_factory.mktemp("store")
    settings = Settings(
        database_url=SecretStr(database_url),
        storage=str(store),
        token_secret=SecretStr(secrets.token_hex(32)),
    )
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield _filled(client, database_url, settings)
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _filled(client: httpx.Client, database_url: str, settings: Settings) -> Target:
    with Api(str(client.base_url).rstrip("/"), patience=0) as user:
        user.request("POST", "/workspaces", json={"id": "alps"})
        user.create_item("alps-training-data", dataset_item())
        run, _ = user.create_item("alps-training-runs", run_item())
        user.request("POST", "/collections", json=plain_collection())
        user.create_item("imagery", plain_item("kept"))
    secret = settings.token_secret.get_secret_value()
    job = issue_job_token(secret, "alps-training-runs", run["id"], 1, lifetime=3600)
    return Target(
        client,
        database_url,
        str(run["id"]),
        _bearer(issue_system_token(secret, "fuzz")),
        _bearer(job),
    )


def _bearer(token: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
