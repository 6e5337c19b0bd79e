"""Makes the next secret that tokens are signed with: AWS Secrets Manager's rotation function.

Tokens that were signed with the secret before verify until the next rotation, because whoever
checks one accepts AWSCURRENT and AWSPREVIOUS. So rotations must lie further apart than any job
may run; on a leak, rotate twice.

Method: https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
"""

import json
import secrets
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from mlops.aws_secrets import CURRENT
from mlops.identity import issue_system_token, read_token

_PENDING = "AWSPENDING"
_BYTES = 32
logger = Logger(service="rotate_token_secret")


class RotationError(Exception):
    """The secret cannot be rotated; the message says why."""


def rotate(client: Any, secret: str, version: str, step: str) -> None:
    """Do one step of a rotation; each may be repeated with the same outcome.

    Args:
        client: boto3's, of Secrets Manager.
        secret: ARN of the secret.
        version: id of the version that is to become the current one.
        step: ``createSecret``, ``setSecret``, ``testSecret`` or ``finishSecret``.
    """
    stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
    if version not in stages:
        raise RotationError(f"{secret} has no version {version}: start the rotation again.")
    if CURRENT in stages[version]:
        logger.info("rotated already", extra={"version": version})
        return
    if step == "createSecret":
        _create(client, secret, version)
    elif step == "testSecret":
        _test(client, secret, version)
    elif step == "finishSecret":
        _finish(client, secret, version, stages)
    elif step != "setSecret":
        raise RotationError(f"{step!r} is no step of a rotation.")
    # setSecret: nobody else keeps the secret, so there is nothing to set.
    logger.info("step done", extra={"step": step, "version": version})


def _create(client: Any, secret: str, version: str) -> None:
    try:
        client.get_secret_value(SecretId=secret, VersionId=version, VersionStage=_PENDING)
    except client.exceptions.ResourceNotFoundException:
        client.put_secret_value(
            SecretId=secret,
            ClientRequestToken=version,
            SecretString=json.dumps({"secret": secrets.token_hex(_BYTES)}),
            VersionStages=[_PENDING],
        )


def _test(client: Any, secret: str, version: str) -> None:
    answer = client.get_secret_value(SecretId=secret, VersionId=version, VersionStage=_PENDING)
    value = json.loads(answer["SecretString"])["secret"]
    read_token(value, issue_system_token(value, "rotation", lifetime=60))


def _finish(client: Any, secret: str, version: str, stages: dict[str, list[str]]) -> None:
    before = next((one for one, labels in stages.items() if CURRENT in labels), None)
    client.update_secret_version_stage(
        SecretId=secret,
        VersionStage=CURRENT,
        MoveToVersionId=version,
        **({} if before is None else {"RemoveFromVersionId": before}),
    )


@cache
def _client() -> Any:
    import boto3

    return boto3.client("secretsmanager")


def handler(event: dict[str, Any], context: Any) -> None:  # noqa: ARG001 - Lambda's signature
    """AWS Lambda's entry point; Secrets Manager calls it once for each step."""
    rotate(_client(), event["SecretId"], event["ClientRequestToken"], event["Step"])
