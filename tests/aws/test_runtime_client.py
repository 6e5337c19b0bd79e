"""Every handler from its built package under AWS's runtime interface client, with the JSON that AWS
sends, and nothing else on its path: what is missing in a package shows here.

Formats: SQS https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html, SageMaker
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html, Secrets
Manager https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets-lambda-function-overview.html
"""

import json
import uuid
from typing import Any

import pytest

from tests.aws import custom_resource
from tests.aws.account import ACCOUNT, REGION
from tests.aws.cloud import Cloud
from tests.aws.scenarios import Runs, event_of_run

SAGEMAKER_EVENT = {
    "version": "0",
    "id": "844e2571-85d4-695f-b930-0153b71dcb42",
    "detail-type": "SageMaker Training Job State Change",
    "source": "aws.sagemaker",
    "account": ACCOUNT,
    "time": "2026-10-06T12:26:13Z",
    "region": REGION,
    "resources": [f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/not-ours-1"],
    "detail": {
        "TrainingJobName": "not-ours-1",
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/not-ours-1",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "HyperParameters": {},
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/SageMakerExecutionRole",
        "CreationTime": 1583831889050,
        "LastModifiedTime": 1583831889050,
        "Tags": {},
    },
}
TICK = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": ACCOUNT,
    "time": "2026-10-08T16:53:06Z",
    "region": REGION,
    "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/my-schedule"],
    "detail": {},
}
PUBLISHED = {
    **event_of_run("no-such-model", "accepted"),
    "detail-type": "model.published",
}


def sqs(*bodies: Any) -> dict[str, Any]:
    """What Lambda gets of a queue."""
    return {
        "Records": [
            {
                "messageId": f"059f36b4-87a3-44ab-83d2-66197584{number:04}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1545082649183",
                    "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                    "ApproximateFirstReceiveTimestamp": "1545082649185",
                },
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:my-queue",
                "awsRegion": REGION,
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.mark.parametrize(
    ("function", "body", "said"),
    [
        ("LaunchRun", event_of_run("no-such-run", "accepted"), "the run is gone"),
        ("TrackRun", event_of_run("no-such-run", "dismissed"), "no such dismissed run"),
        ("TrackRun", SAGEMAKER_EVENT, "no run here has a job"),
        ("RegisterModel", SAGEMAKER_EVENT, "no run here has a job"),
        ("PublishResource", PUBLISHED, "it is gone"),
        ("Reconcile", TICK, ""),
        ("RelayOutbox", TICK, "relayed"),
    ],
)
def test_functions_of_queues(cloud: Cloud, runs: Runs, function: str, body: Any, said: str) -> None:
    runs.wait_for_all()
    with cloud.process(f"{function}Function") as process:
        outcome = process.invoke(sqs(body))
        assert outcome.json() == {"batchItemFailures": []}, outcome.log
        assert said in outcome.log
        bad = process.invoke(sqs("{", body))
        if function != "RelayOutbox":
            # The relay is told to look, whatever the words.
            (failure,) = bad.json()["batchItemFailures"]
            assert failure["itemIdentifier"].endswith("0000")


def test_the_api(cloud: Cloud, runs: Runs) -> None:
    """The landing page, an item and a search, with the claims of the JWT authorizer."""
    with cloud.process("StacApiFunction") as process:
        for method, path, body in (
            ("GET", "/", None),
            ("GET", "/collections/alps-training-runs/items/plain", None),
            ("POST", "/search", {"collections": ["alps-training-runs"], "limit": 2}),
        ):
            answer = cloud.http_api.ask(process, method, path, body)
            assert answer is not None, process.log()
            assert answer["statusCode"] == 200
        assert answer["headers"]["content-type"] == "application/geo+json"
        assert len(json.loads(answer["body"])["features"]) == 2
    assert runs.items["plain"]


def test_the_api_starts_from_a_snapshot(cloud: Cloud, runs: Runs) -> None:
    """SnapStart: the application is made before the snapshot, and works after it."""
    process = cloud.process("StacApiFunction", snap_start=True)
    with process:
        answer = cloud.http_api.ask(process, "GET", "/collections/alps-training-runs/items/plain")
    assert answer is not None
    assert answer["statusCode"] == 200, runs


def test_the_migration_is_safe_to_repeat(cloud: Cloud) -> None:
    with cloud.process("MigrateDatabaseFunction") as process:
        for request in ("Update", "Update", "Delete"):
            answer = custom_resource.ask(process, request, Package="2")
            assert answer["Status"] == "SUCCESS", answer
            assert answer["PhysicalResourceId"] == "stac-mlops-database"


def test_the_rotation_of_the_secret(cloud: Cloud) -> None:
    """The four steps that Secrets Manager asks for; each may be asked for twice."""
    secrets = cloud.localstack.client("secretsmanager")
    name = f"rotated-{uuid.uuid4()}"
    arn = secrets.create_secret(Name=name, SecretString='{"secret": "first"}')["ARN"]
    cloud.localstack.client("secretsmanager")
    token = str(uuid.uuid4())
    secrets.put_secret_value(
        SecretId=arn,
        ClientRequestToken=token,
        SecretString='{"secret": "second second second second second"}',
        VersionStages=["AWSPENDING"],
    )
    with cloud.process("RotateTokenSecretFunction") as process:
        for step in ("createSecret", "createSecret", "setSecret", "testSecret", "finishSecret"):
            event = {"SecretId": arn, "ClientRequestToken": token, "Step": step}
            outcome = process.invoke(event)
            assert outcome.error is None, outcome.log
    now = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
    assert now["secret"] != "first"
