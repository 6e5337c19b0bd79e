"""Fixtures of the tests in the cloud's shape: the runtime client, LocalStack, the built packages.

`sh tests/aws/setup.sh` installs what they need; `make test` runs it.
"""

import json
import secrets
from collections.abc import Iterator

import psycopg
import pytest

from tests.aws import emulator
from tests.aws.cloud import Cloud
from tests.aws.cloud import cloud as deployed_cloud
from tests.aws.lambda_process import RUNTIME
from tests.aws.packages import Packages, built
from tests.aws.scenarios import FakeCatalogue, Runs


@pytest.fixture(scope="session")
def lambda_runtime() -> None:
    """AWS's runtime interface client is installed."""
    if not (RUNTIME / ".setup").exists():
        pytest.skip("awslambdaric is not installed: run `sh tests/aws/setup.sh`")


@pytest.fixture(scope="package")
def localstack() -> Iterator[emulator.LocalStack]:
    """One LocalStack for these tests, gone before others; who deploys gives the stack a name."""
    reason = emulator.missing()
    if reason is not None:
        pytest.skip(reason)
    with emulator.running() as running:
        yield running


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The functions' packages, built for this machine."""
    return built(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="package")
def cloud_database(template: str) -> Iterator[str]:
    """The URL of an empty database for these tests; a function of the stack migrates it."""
    name = f"cloud_{secrets.token_hex(6)}"
    source = template.rsplit("/", 1)[1]
    root = template.removesuffix(source)
    with psycopg.connect(root + "postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield root + name
    with psycopg.connect(root + "postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="package")
def cloud(
    localstack: emulator.LocalStack,
    packages: Packages,
    cloud_database: str,
    catalogue: FakeCatalogue,
) -> Iterator[Cloud]:
    """The deployed system."""
    known = {"name": "world", "kind": "stac", "url": catalogue.url, "collection": "shared"}
    with deployed_cloud(localstack, packages, cloud_database, json.dumps([known])) as running:
        yield running


@pytest.fixture(scope="package")
def catalogue() -> Iterator[FakeCatalogue]:
    """The discovery catalogue that the deployed system registers publications in."""
    with FakeCatalogue() as catalogue:
        yield catalogue


@pytest.fixture(scope="package")
def runs(cloud: Cloud, catalogue: FakeCatalogue) -> Runs:
    """A run of each kind, on its way."""
    return Runs(cloud, catalogue)
