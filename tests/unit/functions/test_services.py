"""The functions' settings, tokens and bus."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto import mock_aws
from pydantic import SecretStr, ValidationError

from functions import launch_run, services
from functions.model_files import storage_scheme
from functions.services import Settings, SystemAuth, services_from
from mlops.engines import JobState, Phase
from mlops.event_bridge import EventBridgeBus
from mlops.events import Function, job_event, queue_event
from mlops.identity import Role, read_token
from mlops.storage import open_store
from mlops.storage.s3 import S3Store

SECRET = "s" * 32


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield


@pytest.mark.parametrize("module", ["launch_run", "track_run", "register_model", "reconcile"])
def test_nothing_is_read_when_a_function_is_imported(module: str) -> None:
    heavy = "[name in sys.modules for name in ('boto3', 'onnx', 'psutil')]"
    program = f"import sys, functions.{module}; print(any({heavy}))"
    ended = subprocess.run(
        [sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"


@pytest.mark.usefixtures("aws")
def test_settings_come_from_the_environment_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = queue_event([("m", "not json", 1)], Function.LAUNCH_RUN)
    failed = {"batchItemFailures": [{"itemIdentifier": "m"}]}
    with pytest.raises(ValidationError, match="api_url"):
        launch_run.handler(batch, None)
    monkeypatch.setenv("MLOPS_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MLOPS_STORAGE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TOKEN_SECRET", SECRET)
    try:
        assert launch_run.handler(batch, None) == failed
        monkeypatch.delenv("MLOPS_API_URL")
        assert launch_run.handler(batch, None) == failed
    finally:
        launch_run._from_environment.cache_clear()


@pytest.mark.usefixtures("aws")
def test_a_local_engine_where_there_is_a_folder_for_it(tmp_path: Path) -> None:
    settings = Settings(
        api_url="http://127.0.0.1:9",
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(SECRET),
        jobs_folder=tmp_path / "jobs",
    )
    made = services_from(settings)
    assert list(made.engines) == ["local"]
    assert made.engines["local"].describe("none").phase is Phase.UNKNOWN
    assert SECRET not in repr(made)
    token = read_token(SECRET, made.job_token("c", "run", 2, 60))
    assert (token.role, token.collection, token.item, token.attempt) == (Role.JOB, "c", "run", 2)


def test_the_systems_token_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = SystemAuth(SecretStr(SECRET))

    def token() -> str:
        request = httpx.Request("GET", "http://localhost")
        return str(next(auth.auth_flow(request)).headers["Authorization"].removeprefix("Bearer "))

    first = token()
    assert read_token(SECRET, first).role is Role.SYSTEM
    assert token() == first
    now = services.time.monotonic()
    monkeypatch.setattr(services.time, "monotonic", lambda: now + 3400)
    monkeypatch.setattr(services, "_TOKEN_LIFETIME", 7200)
    assert token() != first


@pytest.mark.usefixtures("aws")
def test_events_reach_eventbridge() -> None:
    region = "eu-central-1"
    events, sqs = boto3.client("events", region_name=region), boto3.client("sqs", region)
    url = sqs.create_queue(QueueName="track")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    events.create_event_bus(Name="mlops")
    pattern = json.dumps({"detail-type": ["job.state-changed"], "detail": {"phase": ["failed"]}})
    events.put_rule(Name="track", EventBusName="mlops", EventPattern=pattern)
    events.put_targets(Rule="track", EventBusName="mlops", Targets=[{"Id": "1", "Arn": arn}])
    bus = EventBridgeBus("mlops", events)
    for phase in (Phase.SUCCEEDED, Phase.FAILED):
        state = JobState(phase, finished=datetime.now(UTC))
        bus.publish(
            job_event("batch", "j", state, workspace="w", collection="c", item="r", attempt=1)
        )
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    body = json.loads(message["Body"])
    assert (body["source"], body["detail"]["phase"]) == ("mlops.engine", "failed")


@pytest.mark.usefixtures("aws")
def test_the_storage_scheme(tmp_path: Path) -> None:
    assert storage_scheme(open_store(str(tmp_path))) is None
    assert storage_scheme(open_store("s3://bucket")) == {
        "type": "aws-s3",
        "platform": "https://{bucket}.s3.{region}.amazonaws.com",
        "bucket": "bucket",
        "region": "eu-central-1",
    }
    client: Any = boto3.client("s3", endpoint_url="http://localhost:9000")
    assert storage_scheme(S3Store("s3://bucket", client)) == {
        "type": "custom-s3",
        "platform": "http://localhost:9000/{bucket}",
        "bucket": "bucket",
    }
