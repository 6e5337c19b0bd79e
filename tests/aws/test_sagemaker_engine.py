"""The SageMaker engine against SageMaker's HTTP API, with time and faults."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mlops.engines import EngineBusyError, EngineRefusedError, Phase
from mlops.engines.instance_types import InstanceTypes, read_instance_types
from mlops.engines.sagemaker import SageMakerEngine, metric_pattern
from mlops.jobs import JobDocument
from mlops.storage import keys
from mlops.storage.s3 import S3Store
from tests.aws.engine_setup import (
    IMAGE,
    KEY,
    ROLE,
    TOKEN,
    client,
    job,
    new_bucket,
    s3_store,
    sagemaker_settings,
)
from tests.aws.fake_engines import FakeEngines, scripts
from tests.aws.fake_engines.faults import AwsError, LostAnswerError


@pytest.fixture(scope="module")
def store() -> Iterator[S3Store]:
    with s3_store() as made:
        yield made


@pytest.fixture
def fakes() -> Iterator[FakeEngines]:
    with FakeEngines() as made:
        yield made


def engine(
    fakes: FakeEngines, store: S3Store, types: InstanceTypes | None = None, **changes: Any
) -> SageMakerEngine:
    sagemaker = client("sagemaker", fakes.url, retries={"total_max_attempts": 1})
    return SageMakerEngine(sagemaker_settings(**changes), store, sagemaker, types)


def request_of(fakes: FakeEngines) -> dict[str, Any]:
    (only,) = fakes.sagemaker.jobs.values()
    return only.request


def test_a_job_is_created_as_it_was_asked_for(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(
        fakes, store, subnets=["subnet-1"], security_groups=["sg-1"], tags={"team": "eo"}
    )
    spec = job(instance_type="ml.g5.2xlarge", instance_count=2)
    handle = tried.start(spec)
    assert (handle.engine, handle.id) == ("sagemaker", spec.name)
    assert handle.console is not None
    assert spec.name in handle.console
    request = request_of(fakes)
    place = f"s3://{store.bucket}/_jobs/{spec.name}/job.json"
    assert request["RoleArn"] == ROLE
    assert request["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert request["Environment"] == {"MLOPS_JOB": place}
    assert request["ResourceConfig"] == {
        "InstanceType": "ml.g5.2xlarge",
        "InstanceCount": 2,
        "VolumeSizeInGB": 100,
    }
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert (
        request["CheckpointConfig"]["S3Uri"] == f"s3://{store.bucket}/_checkpoints/alps/crop-map-1/"
    )
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
        "team": "eo",
        "mlops:workspace": "alps",
        "mlops:run": "crop-map-1",
        "mlops:requester": "auth0_anna",
    }


def test_the_token_is_in_the_store_and_nowhere_else(fakes: FakeEngines, store: S3Store) -> None:
    spec = job("secretive")
    tried = engine(fakes, store)
    tried.start(spec)
    fakes.advance(300)
    assert store.get_bytes(keys.job_token(spec.name), 100) == TOKEN.encode()
    read = JobDocument.model_validate_json(store.get_bytes(keys.job_document(spec.name), 10000))
    assert read == spec.document
    seen = json.dumps([request_of(fakes), fakes.events], default=str)
    assert TOKEN not in seen


def test_the_same_job_twice_is_one_job(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    first = tried.start(job("twice"))
    fakes.advance(1000)
    assert tried.start(job("twice")) == first
    assert list(fakes.sagemaker.jobs) == [first.id]
    assert tried.describe(first.id).phase is Phase.SUCCEEDED


def test_a_lost_answer_does_not_make_a_second_job(fakes: FakeEngines, store: S3Store) -> None:
    fakes.sagemaker.faults.add("CreateTrainingJob", LostAnswerError(), after=True)
    tried = engine(fakes, store)
    with pytest.raises(Exception, match="Connection was closed"):
        tried.start(job("lost"))
    assert tried.start(job("lost")).id == job("lost").name
    assert len(fakes.sagemaker.jobs) == 1


def test_a_name_of_another_deployment_is_refused(fakes: FakeEngines, store: S3Store) -> None:
    engine(fakes, store).start(job("shared"))
    other = S3Store(f"s3://{new_bucket(store.client)}", store.client)
    with pytest.raises(EngineRefusedError, match="another deployment"):
        engine(fakes, other).start(job("shared"))


def test_a_job_goes_from_queued_to_succeeded(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    job_id = tried.start(job("whole")).id
    phases = []
    for _ in range(12):
        phases.append(tried.describe(job_id).phase)
        fakes.advance(10)
    assert [phase for at, phase in enumerate(phases) if at == 0 or phase != phases[at - 1]] == [
        Phase.QUEUED,
        Phase.RUNNING,
        Phase.SUCCEEDED,
    ]
    state = tried.describe(job_id)
    assert (state.exit_code, state.reason, state.retryable) == (0, None, False)
    assert state.started is not None
    assert state.finished is not None
    assert (state.finished - state.started).total_seconds() == 70
    assert state.billed_seconds == 60
    assert state.instance == "ml.g5.xlarge"
    assert state.estimate is None


def test_spot_is_interrupted_and_goes_on(fakes: FakeEngines, store: S3Store) -> None:
    fakes.sagemaker.script = lambda _request: scripts.sagemaker_success(interruptions=2)
    tried = engine(fakes, store, spot_wait_seconds=600)
    job_id = tried.start(job("spotty", spot=True)).id
    request = request_of(fakes)
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {
        "MaxRuntimeInSeconds": 3600,
        "MaxWaitTimeInSeconds": 4200,
    }
    seen = {}
    while not (state := tried.describe(job_id)).phase.is_over:
        seen[state.phase, state.reason] = True
        fakes.advance(5)
    assert (Phase.QUEUED, "Its spot machine was taken; it goes on when there is one again.") in seen
    assert state.phase is Phase.SUCCEEDED
    # What ran on machines that were taken was billed as well: 20 + 20 + 60 seconds.
    assert state.billed_seconds == 100


@pytest.mark.parametrize(
    ("script", "phase", "code", "words", "retryable"),
    [
        (scripts.sagemaker_exit(1, "ValueError: bad batch"), "failed", 1, "bad batch", False),
        (scripts.sagemaker_exit(2), "failed", 2, "not as they should be", False),
        (scripts.sagemaker_exit(3), "failed", 3, "platform failed", True),
        (scripts.sagemaker_exit(137), "failed", 137, "out of memory", False),
        (scripts.sagemaker_exit(139), "failed", 139, "native code crashed", False),
        (scripts.sagemaker_failure(scripts.OUT_OF_MEMORY), "failed", None, "out of memory", False),
        (
            scripts.sagemaker_failure(scripts.NO_CAPACITY, training=None),
            "failed",
            None,
            "no machine of this type",
            True,
        ),
        (
            scripts.sagemaker_failure(scripts.INTERNAL_ERROR),
            "failed",
            None,
            "fault of its own",
            True,
        ),
        (
            scripts.sagemaker_failure(scripts.IMAGE_NOT_FOUND, training=None),
            "failed",
            None,
            "image cannot be pulled",
            False,
        ),
        (
            scripts.sagemaker_failure(scripts.NO_ROLE, training=None),
            "failed",
            None,
            "lacks a right",
            False,
        ),
        (
            scripts.sagemaker_failure("ClientError: Artifact upload failed: Access Denied (403)"),
            "failed",
            None,
            "lacks a right",
            False,
        ),
        (
            scripts.sagemaker_failure("ClientError: No space left on device"),
            "failed",
            None,
            "disk is full",
            False,
        ),
        (
            scripts.sagemaker_failure("ClientError: subnet-1 has no free addresses"),
            "failed",
            None,
            "network",
            False,
        ),
        (scripts.sagemaker_failure("Something new"), "failed", None, "Something new", False),
        (scripts.sagemaker_failure(""), "failed", None, "gives no reason", False),
        (scripts.sagemaker_too_long(), "failed", None, "time limit", False),
        (scripts.sagemaker_no_spot(), "failed", None, "no spot capacity", True),
    ],
)
def test_each_reason_of_a_failure_is_told(
    fakes: FakeEngines,
    store: S3Store,
    script: scripts.Steps,
    phase: str,
    code: int | None,
    words: str,
    retryable: bool,
) -> None:
    fakes.sagemaker.script = lambda _request: script
    tried = engine(fakes, store)
    job_id = tried.start(job("ended")).id
    fakes.advance(10_000)
    state = tried.describe(job_id)
    assert state.phase == phase
    assert state.exit_code == code
    assert words in str(state.reason)
    assert state.retryable is retryable
    assert state.finished is not None


def test_stop_ends_a_job_and_may_be_repeated(fakes: FakeEngines, store: S3Store) -> None:
    fakes.sagemaker.script = lambda _request: scripts.sagemaker_endless()
    tried = engine(fakes, store)
    job_id = tried.start(job("stopped")).id
    fakes.advance(100)
    tried.stop(job_id)
    assert tried.describe(job_id).phase is Phase.RUNNING
    tried.stop(job_id)
    fakes.advance(130)
    state = tried.describe(job_id)
    assert state.phase is Phase.STOPPED
    assert state.billed_seconds == 65
    tried.stop(job_id)
    tried.stop("never-there")
    tried.stop("not a name")


def test_what_is_not_there_is_unknown(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store)
    assert tried.describe("never-there").phase is Phase.UNKNOWN
    assert tried.describe("not a name").phase is Phase.UNKNOWN


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "DescribeTrainingJob"])
def test_throttling_is_being_busy(fakes: FakeEngines, store: S3Store, operation: str) -> None:
    tried = engine(fakes, store)
    tried.start(job("before"))
    fakes.sagemaker.faults.throttle(operation, rate=0.1)
    tried.describe(tried.start(job("first")).id)
    with pytest.raises(EngineBusyError) as busy:
        tried.describe(tried.start(job("second")).id)
    assert 0 < busy.value.retry_after <= 900
    fakes.advance(60)
    handle = tried.start(job("second"))
    fakes.advance(60)
    assert tried.describe(handle.id).phase is not Phase.UNKNOWN


def test_a_quota_in_use_is_being_busy(fakes: FakeEngines, store: S3Store) -> None:
    fakes.sagemaker.quotas = {"ml.g5.xlarge": 2}
    tried = engine(fakes, store)
    tried.start(job("one"))
    tried.start(job("two"))
    with pytest.raises(EngineBusyError, match="quota"):
        tried.start(job("three"))
    fakes.advance(1000)
    tried.start(job("three"))


def test_a_quota_that_is_too_small_is_a_refusal(fakes: FakeEngines, store: S3Store) -> None:
    fakes.sagemaker.quotas = {"spot ml.g5.xlarge": 0}
    with pytest.raises(
        EngineRefusedError, match="spot training job usage' of this AWS account is 0"
    ):
        engine(fakes, store).start(job("never", spot=True))


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"instance_type": "g5.huge"}, {}, "it has g5.xlarge"),
        ({"instance_type": "c6i.12xlarge"}, {"max_cost": 5}, "no price for c6i.12xlarge"),
        ({"max_runtime": 500_000}, {}, "max_runtime"),
        ({"instance_count": 9}, {}, "instance_count"),
        ({"instance_count": 4}, {"max_instance_hours": 2}, "4 hours of machines"),
    ],
)
def test_limits_are_refusals(
    fakes: FakeEngines,
    store: S3Store,
    changes: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(EngineRefusedError, match=words):
        engine(fakes, store, **settings).start(job("limited", **changes))
    assert fakes.sagemaker.jobs == {}


def test_an_image_that_is_not_there_is_a_refusal(fakes: FakeEngines, store: S3Store) -> None:
    spec = job("imageless")
    document = spec.document.model_copy(update={"framework": "jax"})
    with pytest.raises(EngineRefusedError, match="no SageMaker image for jax"):
        engine(fakes, store).start(dataclasses.replace(spec, document=document))


def test_what_sagemaker_refuses_is_a_refusal(fakes: FakeEngines, store: S3Store) -> None:
    error = AwsError("ValidationException", "Could not find the image")
    fakes.sagemaker.faults.add("CreateTrainingJob", error)
    with pytest.raises(EngineRefusedError, match="Could not find the image"):
        engine(fakes, store).start(job("refused"))


def test_a_missing_right_is_not_the_runs_fault(fakes: FakeEngines, store: S3Store) -> None:
    error = AwsError("AccessDeniedException", "is not authorized to perform")
    fakes.sagemaker.faults.add("CreateTrainingJob", error)
    with pytest.raises(Exception, match="AccessDenied"):
        engine(fakes, store).start(job("denied"))


def test_the_key_encrypts_what_does_not_encrypt_itself(fakes: FakeEngines, store: S3Store) -> None:
    tried = engine(fakes, store, kms_key=KEY)
    tried.start(job("local-disk", instance_type="g5.xlarge"))
    tried.start(job("network-disk", instance_type="m5.xlarge"))
    on_disk = {
        name.rsplit("-", 2)[0]: "VolumeKmsKeyId" in one.request["ResourceConfig"]
        for name, one in fakes.sagemaker.jobs.items()
    }
    assert on_disk == {"local-disk": False, "network-disk": True}
    outputs = [one.request["OutputDataConfig"] for one in fakes.sagemaker.jobs.values()]
    assert all(output["KmsKeyId"] == KEY for output in outputs)


def test_prices_limit_and_estimate(fakes: FakeEngines, store: S3Store) -> None:
    table = read_instance_types().model_dump(mode="json")
    table["types"]["g5.xlarge"]["prices"] = [
        {
            "engine": "sagemaker",
            "per_hour": 1.8,
            "source": "https://example.com/prices",
            "date": "2026-01-01",
        }
    ]
    types = InstanceTypes.model_validate(table)
    tried = engine(fakes, store, types, max_cost=2)
    job_id = tried.start(job("priced")).id
    fakes.advance(1000)
    state = tried.describe(job_id)
    assert (state.estimate, state.currency) == (0.03, "USD")
    with pytest.raises(EngineRefusedError, match=r"cost up to 3\.60 USD"):
        tried.start(job("dear", instance_count=2))


def test_metrics_are_found_in_the_log() -> None:
    line = "[mlops metrics] epoch=3 val/f1 (macro)=8.75e-01 loss=0.3"
    found = re.search(metric_pattern("val/f1 (macro)"), line)
    assert found is not None
    assert float(found[1]) == 0.875


def test_events_say_what_aws_says(fakes: FakeEngines, store: S3Store) -> None:
    heard: list[dict[str, Any]] = []
    fakes.on_event = heard.append
    fakes.deliver = lambda events: [*events, *events]
    job_id = engine(fakes, store).start(job("heard")).id
    fakes.advance(1000)
    ended = [one for one in heard if one["detail"]["TrainingJobStatus"] == "Completed"]
    assert len(ended) == 2
    assert ended[0]["source"] == "aws.sagemaker"
    assert ended[0]["detail"]["TrainingJobName"] == job_id
    assert ended[0]["detail"]["RoleArn"] == ROLE
