"""The fakes themselves: they refuse what AWS refuses, and go on by themselves if wanted."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.engine_setup import client
from tests.aws.fake_engines import FakeEngines, scripts
from tests.aws.fake_engines.clock import RunningClock

REQUEST: dict[str, Any] = {
    "TrainingJobName": "a-job",
    "AlgorithmSpecification": {"TrainingImage": "train:1", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/mlops-jobs",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {
        "InstanceType": "ml.g5.xlarge",
        "InstanceCount": 1,
        "VolumeSizeInGB": 10,
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


@pytest.fixture
def fakes() -> Iterator[FakeEngines]:
    with FakeEngines() as made:
        yield made


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TrainingJobName", "not_a_name", "regular expression"),
        ("RoleArn", "the-role-of-the-jobs-of-mlops", "RoleArn"),
        ("Tags", [{"Key": "by", "Value": "a|b"}], "Tags"),
        ("ResourceConfig", {"InstanceType": "ml.z9.huge", "InstanceCount": 1}, "enum value set"),
        ("EnableManagedSpotTraining", True, "MaxWaitTimeInSeconds"),
        (
            "ResourceConfig",
            {**REQUEST["ResourceConfig"], "VolumeKmsKeyId": "key"},
            "local storage",
        ),
    ],
)
def test_requests_that_aws_refuses(fakes: FakeEngines, name: str, value: Any, words: str) -> None:
    with pytest.raises(ClientError, match=words) as refused:
        client("sagemaker", fakes.url).create_training_job(**{**REQUEST, name: value})
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert fakes.sagemaker.jobs == {}


def test_events_may_be_lost_doubled_and_out_of_order(fakes: FakeEngines) -> None:
    heard: list[str] = []
    fakes.on_event = lambda event: heard.append(event["detail"]["SecondaryStatus"])
    fakes.deliver = lambda events: [
        one
        for one in reversed(events)
        if one["detail"]["SecondaryStatus"] != "Uploading"
        for _ in range(2)
    ]
    sagemaker = client("sagemaker", fakes.url)
    sagemaker.create_training_job(**REQUEST)
    fakes.clock.advance(1000)
    fakes.tick()
    assert heard == [
        status for status in ("Completed", "Training", "Downloading", "Starting") for _ in range(2)
    ]
    statuses = [event["detail"]["SecondaryStatus"] for event in fakes.events]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def test_a_clock_that_runs() -> None:
    ended = threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        if event["detail"].get("status") == "SUCCEEDED":
            ended.set()

    with FakeEngines(RunningClock(speed=600), running=True) as fakes:
        fakes.on_event = on_event
        fakes.batch.script = lambda _request: scripts.batch_success(interruptions=1)
        client("batch", fakes.url).submit_job(
            jobName="a-job",
            jobQueue="gpu",
            jobDefinition="train-pytorch",
            retryStrategy={"attempts": 2},
        )
        assert ended.wait(10)
