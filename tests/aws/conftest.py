"""Fixtures of the tests in the cloud's shape: the runtime client, LocalStack, the built packages.

`sh tests/aws/setup.sh` installs what they need; `make test` runs it.
"""

from collections.abc import Iterator

import pytest

from tests.aws import emulator
from tests.aws.lambda_process import RUNTIME


@pytest.fixture(scope="session")
def lambda_runtime() -> None:
    """AWS's runtime interface client is installed."""
    if not (RUNTIME / ".setup").exists():
        pytest.skip("awslambdaric is not installed: run `sh tests/aws/setup.sh`")


@pytest.fixture(scope="session")
def localstack() -> Iterator[emulator.LocalStack]:
    """One LocalStack for the whole session; each test that deploys gives its stack a name."""
    reason = emulator.missing()
    if reason is not None:
        pytest.skip(reason)
    with emulator.running() as running:
        yield running
