"""The functions as their environment makes them.

A served API, moto's S3, SQS, EventBridge and Secrets Manager, and the fakes of SageMaker and Batch,
whose events are handed on as AWS sends them.
"""

import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from functions import jobs, launch_run, reconcile, register_model, track_run, waiting
from functions.engine_events import ForeignJobError, job_change
from functions.messages import Handler
from functions.services import Services, services_from
from functions.services import Settings as FunctionSettings
from mlops.api import Api, Item
from mlops.engines import Phase
from mlops.events import (
    RECORD_SOURCE,
    BusEvent,
    Function,
    RecordEvent,
    queue_event,
    scheduled_event,
)
from mlops.storage import StorageError, keys, open_store
from stac_api.settings import Settings
from tests.aws.engine_setup import batch_settings, sagemaker_settings
from tests.aws.fake_engines import FakeEngines
from tests.aws.fake_engines.faults import AwsError
from tests.aws.fake_engines.scripts import sagemaker_failure
from tests.conftest import serving
from tests.integration.conftest import dataset_item, run_item
from tests.moto_server import REGION, Aws

RUNS = "alps-training-runs"
RULE = "mlops-reconcile"
QUOTA = AwsError(
    "ResourceLimitExceeded",
    "The account-level service limit 'ml.g5.xlarge for training job usage' is 2 Instances, with "
    "current utilization of 2 Instances and a request delta of 1 Instances. Please use AWS "
    "Service Quotas to request an increase for this quota.",
)


class Cloud:
    """One deployment: its API, its queue of runs to launch, its handlers."""

    def __init__(self, aws: Aws, fakes: FakeEngines, user: Api, queue: str) -> None:
        self.aws, self.fakes, self.user, self.queue = aws, fakes, user, queue
        self.services: Services = services_from(FunctionSettings())  # type: ignore[call-arg]
        self.handlers: dict[Function, Handler] = {
            Function.LAUNCH_RUN: launch_run.build(self.services),
            Function.TRACK_RUN: track_run.build(self.services),
            Function.REGISTER_MODEL: register_model.build(self.services),
            Function.RECONCILE: reconcile.build(self.services),
        }
        self.bus_queue = self._subscribe()

    def submit(self, **properties: Any) -> Item:
        return self.user.create_item(RUNS, run_item(**properties))[0]

    def read(self, run: Item) -> dict[str, Any]:
        properties: dict[str, Any] = self.user.get_item(RUNS, run["id"]).item["properties"]
        return properties

    def handle(self, function: Function, *bodies: str) -> list[str]:
        """The messages that failed."""
        batch = queue_event([(str(n), body, 1) for n, body in enumerate(bodies)], function)
        answer = self.handlers[function](batch, None)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def launch(self, *runs: Item) -> list[str]:
        return self.handle(Function.LAUNCH_RUN, *(accepted(run).to_json() for run in runs))

    def reconcile(self) -> list[dict[str, Any]]:
        """What the bus is told."""
        assert self.handle(Function.RECONCILE, scheduled_event("tick").to_json()) == []
        return self.aws.messages(self.bus_queue)

    def armed(self) -> bool:
        rule = self.aws.client("events").describe_rule(Name=RULE)
        return bool(rule["State"] == "ENABLED")

    def postponed(self) -> list[dict[str, Any]]:
        """What waits in the queue and is due."""
        return self.aws.messages(self.queue)

    def _subscribe(self) -> str:
        url = self.aws.queue("bus")
        events, sqs = self.aws.client("events"), self.aws.client("sqs")
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        events.put_rule(
            Name="all", EventBusName="mlops", EventPattern='{"source": [{"prefix": "mlops"}]}'
        )
        target = {"Id": "1", "Arn": arn["Attributes"]["QueueArn"]}
        events.put_targets(Rule="all", EventBusName="mlops", Targets=[target])
        return url


def accepted(run: Item, attempt: int = 1) -> BusEvent:
    """The event of a run that was accepted."""
    now = datetime.now(UTC)
    detail = RecordEvent(
        id=secrets.token_hex(4),
        time=now,
        workspace="alps",
        collection=RUNS,
        item=run["id"],
        attempt=attempt,
        href=f"https://api.example.com/collections/{RUNS}/items/{run['id']}",
    )
    return BusEvent(
        id=detail.id,
        source=RECORD_SOURCE,
        detail_type="run.accepted",
        time=now,
        detail=detail.model_dump(mode="json"),
    )


@pytest.fixture
def fakes() -> Iterator[FakeEngines]:
    with FakeEngines() as fakes:
        yield fakes


@pytest.fixture
def cloud(
    aws: Aws, fakes: FakeEngines, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    aws.client("s3").create_bucket(
        Bucket="mlops", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    aws.client("events").create_event_bus(Name="mlops")
    aws.client("events").put_rule(Name=RULE, ScheduleExpression="rate(1 minute)", State="DISABLED")
    arn = aws.secret("token", secret=secrets.token_hex(32))
    settings = Settings(
        database_url=SecretStr(database_url),
        storage="s3://mlops",
        token_secret_arn=arn,
        engines=["sagemaker", "batch"],
    )
    queue = aws.queue("launch")
    with serving(settings) as url:
        for name, value in {
            "MLOPS_API_URL": url,
            "MLOPS_STORAGE": "s3://mlops",
            "MLOPS_TOKEN_SECRET_ARN": arn,
            "MLOPS_EVENT_BUS": "mlops",
            "MLOPS_SCHEDULE_RULE": RULE,
            "MLOPS_LAUNCH_QUEUE_URL": queue,
            "MLOPS_LAUNCH_PATIENCE_SECONDS": "600",
            "MLOPS_SAGEMAKER": sagemaker_settings().model_dump_json(),
            "MLOPS_BATCH": batch_settings().model_dump_json(),
            # A template cannot leave it out.
            "MLOPS_CATALOGUES": "",
            **fakes.environment(),
        }.items():
            monkeypatch.setenv(name, value)
        user = Api(url, patience=0)
        user.request("POST", "/workspaces", json={"id": "alps"})
        user.create_item("alps-training-data", dataset_item())
        yield Cloud(aws, fakes, user, queue)


class TestLaunch:
    def test_a_run_gets_its_job(self, cloud: Cloud) -> None:
        run = cloud.submit()
        assert cloud.launch(run, run) == []
        assert cloud.armed()
        job = cloud.read(run)["mlops:job"]
        assert job["engine"] == "sagemaker"
        (made,) = cloud.fakes.sagemaker.jobs.values()
        assert made.name == job["id"]
        tags = {tag["Key"]: tag["Value"] for tag in made.request["Tags"]}
        assert tags["mlops:run"] == run["id"]
        assert tags["mlops:requester"] == "local"
        document = json.loads(cloud.services.store.get_bytes(keys.job_document(job["id"]), 1 << 20))
        assert (document["item"], document["api_signed"]) == (run["id"], False)
        assert cloud.services.store.size(keys.job_token(job["id"])) is not None
        assert "token" not in json.dumps(made.request).lower()

    def test_what_the_engine_never_does_ends_the_run(self, cloud: Cloud) -> None:
        run = cloud.submit(**{"mlops:compute": {"instance_type": "ml.none.xlarge"}})
        assert cloud.launch(run) == []
        properties = cloud.read(run)
        assert properties["mlops:status"] == "failed"
        assert "ml.none.xlarge" in properties["mlops:exit"]["reason"]

    def test_a_schedule_that_cannot_be_armed_starts_nothing(self, cloud: Cloud) -> None:
        run = cloud.submit()
        cloud.aws.client("events").delete_rule(Name=RULE)
        with pytest.raises(Exception, match="ResourceNotFound"):
            cloud.launch(run)
        assert cloud.fakes.sagemaker.jobs == {}


class TestWaiting:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jobs, "pause", lambda *_: timedelta(seconds=3))

    def test_a_run_waits_for_a_busy_engine_and_is_started_then(self, cloud: Cloud) -> None:
        cloud.fakes.sagemaker.faults.add("CreateTrainingJob", QUOTA, times=2)
        run = cloud.submit()
        assert cloud.launch(run) == []
        waits = cloud.read(run)["mlops:waiting"]
        assert "ml.g5.xlarge" in waits["reason"]
        assert cloud.read(run)["mlops:status"] == "accepted"
        assert cloud.postponed() == [], "not before its time"
        assert cloud.launch(run, run) == [], "whoever comes before its time is dropped"
        time.sleep(3.1)
        (message,) = cloud.postponed()
        assert cloud.handle(Function.LAUNCH_RUN, json.dumps(message)) == []
        assert cloud.read(run)["mlops:waiting"]["until"] > waits["until"]
        time.sleep(3.1)
        (message,) = cloud.postponed()
        assert cloud.handle(Function.LAUNCH_RUN, json.dumps(message)) == []
        properties = cloud.read(run)
        assert "mlops:waiting" not in properties
        assert properties["mlops:job"]["engine"] == "sagemaker"
        assert cloud.postponed() == []

    def test_a_run_that_is_dismissed_waits_no_more(self, cloud: Cloud) -> None:
        cloud.fakes.sagemaker.faults.add("CreateTrainingJob", QUOTA)
        run = cloud.submit()
        cloud.launch(run)
        cloud.user.delete_item(RUNS, run["id"])
        dismissed = accepted(run).model_copy(update={"detail_type": "run.dismissed"})
        assert cloud.handle(Function.TRACK_RUN, dismissed.to_json()) == []
        assert "mlops:waiting" not in cloud.read(run)
        time.sleep(3.1)
        (message,) = cloud.postponed()
        assert cloud.handle(Function.LAUNCH_RUN, json.dumps(message)) == []
        assert cloud.fakes.sagemaker.jobs == {}

    def test_the_next_attempt_waits_too(self, cloud: Cloud) -> None:
        cloud.fakes.sagemaker.script = lambda _: sagemaker_failure(
            "InternalServerError: We encountered an internal error. Please try again."
        )
        run = cloud.submit(**{"mlops:compute": {"max_attempts": 2}})
        cloud.launch(run)
        cloud.fakes.sagemaker.faults.add("CreateTrainingJob", QUOTA)
        cloud.fakes.advance(600)
        ended = cloud.fakes.events[-1]
        assert cloud.handle(Function.TRACK_RUN, json.dumps(ended), json.dumps(ended)) == []
        properties = cloud.read(run)
        assert properties["mlops:attempt"] == 2
        assert properties["mlops:waiting"]["reason"]
        time.sleep(3.1)
        (message,) = cloud.postponed()
        assert cloud.handle(Function.LAUNCH_RUN, json.dumps(message)) == []
        assert cloud.read(run)["mlops:job"]
        assert len(cloud.fakes.sagemaker.jobs) == 2


class TestEventsOfAws:
    def test_a_failed_job_ends_its_run_whatever_the_order(self, cloud: Cloud) -> None:
        cloud.fakes.sagemaker.script = lambda _: sagemaker_failure(
            "ClientError: Please use an instance type with more memory"
        )
        run = cloud.submit()
        cloud.launch(run)
        cloud.fakes.advance(600)
        told = [json.dumps(event) for event in reversed(cloud.fakes.events)]
        assert cloud.handle(Function.TRACK_RUN, *told, *told) == []
        properties = cloud.read(run)
        assert properties["mlops:status"] == "failed"
        assert "memory" in properties["mlops:exit"]["reason"]

    def test_a_completed_job_without_a_report_fails_its_run(self, cloud: Cloud) -> None:
        run = cloud.submit(**{"mlops:compute": {"engine": "batch"}})
        cloud.launch(run)
        cloud.fakes.advance(3600)
        ended = cloud.fakes.events[-1]
        assert ended["detail"]["status"] == "SUCCEEDED"
        assert cloud.handle(Function.REGISTER_MODEL, json.dumps(ended)) == []
        assert "left no report" in cloud.read(run)["mlops:exit"]["reason"]

    def test_an_event_before_its_time_is_dropped(self, cloud: Cloud) -> None:
        """What the engine says counts, not what an event says of it."""
        run = cloud.submit(**{"mlops:compute": {"engine": "batch"}})
        cloud.launch(run)
        cloud.fakes.advance(1)
        early = {**cloud.fakes.events[0], "detail": {**cloud.fakes.events[0]["detail"]}}
        early["detail"]["status"] = "SUCCEEDED"
        assert cloud.handle(Function.REGISTER_MODEL, json.dumps(early)) == []
        assert cloud.read(run)["mlops:status"] == "accepted"

    def test_jobs_of_others_are_dropped(self, cloud: Cloud) -> None:
        foreign = aws_event("aws.sagemaker", TrainingJobName="theirs", TrainingJobStatus="Failed")
        assert cloud.handle(Function.TRACK_RUN, foreign.to_json()) == []
        assert cloud.handle(Function.REGISTER_MODEL, foreign.to_json()) == []

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (("aws.batch", {"jobName": "j", "jobId": "1-2#1", "status": "FAILED"}), "one node"),
            (("aws.batch", {"jobId": "1-2", "status": "FAILED"}), "no 'jobName'"),
            (("aws.sagemaker", {"TrainingJobName": "../x", "TrainingJobStatus": "x"}), "not valid"),
            (("aws.ec2", {}), "no engine"),
        ],
    )
    def test_what_is_no_job_of_ours(
        self, tmp_path: Any, event: tuple[str, dict[str, str]], why: str
    ) -> None:
        source, detail = event
        with pytest.raises(ForeignJobError, match=why):
            job_change(aws_event(source, **detail), open_store(str(tmp_path)))

    def test_the_words_of_aws(self, cloud: Cloud) -> None:
        run = cloud.submit()
        cloud.launch(run)
        name = cloud.read(run)["mlops:job"]["id"]
        for status, phase in {"Stopped": Phase.STOPPED, "New": Phase.UNKNOWN}.items():
            event = aws_event("aws.sagemaker", TrainingJobName=name, TrainingJobStatus=status)
            change = job_change(event, cloud.services.store)
            assert (change.item, change.attempt, change.job) == (run["id"], 1, name)
            assert (change.engine, change.phase) == ("sagemaker", phase)


class TestReconcile:
    def test_the_schedule_is_armed_while_runs_are_open(self, cloud: Cloud) -> None:
        assert not cloud.armed()
        run = cloud.submit()
        cloud.reconcile()
        assert cloud.armed(), "also when it was disarmed by mistake"
        cloud.user.delete_item(RUNS, run["id"])
        cloud.reconcile()
        assert not cloud.armed()

    def test_a_run_that_comes_meanwhile_arms_it_again(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schedule = cloud.services.schedule
        assert schedule is not None
        disarm = schedule.disarm

        def disarm_late() -> None:
            cloud.submit()
            disarm()

        monkeypatch.setattr(schedule, "disarm", disarm_late)
        cloud.reconcile()
        assert cloud.armed()

    def test_an_engine_that_is_asked_too_often_is_left_alone(self, cloud: Cloud) -> None:
        runs = [cloud.submit() for _ in range(3)]
        cloud.launch(*runs)
        throttled = AwsError("ThrottlingException", "Rate exceeded")
        cloud.fakes.sagemaker.faults.add("DescribeTrainingJob", throttled, times=50)
        assert cloud.reconcile() == []
        assert cloud.armed()

    def test_a_run_that_waits_is_not_forgotten_before_its_time(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloud.fakes.sagemaker.faults.add("CreateTrainingJob", QUOTA, times=99)
        run = cloud.submit()
        cloud.launch(run)
        assert cloud.reconcile() == []
        late = {"reason": "quota", "until": "2020-01-01T00:00:00Z"}
        path = "/properties/mlops:waiting"
        cloud.services.api.json_patch(RUNS, run["id"], [{"op": "add", "path": path, "value": late}])
        monkeypatch.setattr(reconcile, "_PERIOD", timedelta(seconds=601))
        (told,) = cloud.reconcile()
        assert (told["detail-type"], told["detail"]["item"]) == ("run.accepted", run["id"])


class TestPause:
    NOW = datetime(2026, 1, 1, tzinfo=UTC)

    def of(self, retry_after: float, waited: float) -> float:
        since = self.NOW - timedelta(seconds=waited)
        return waiting.pause(retry_after, since, self.NOW).total_seconds()

    def test_it_is_what_the_engine_asks_for_and_jittered(self) -> None:
        pauses = {self.of(60, 0) for _ in range(50)}
        assert len(pauses) > 40
        assert all(45 <= pause <= 60 for pause in pauses)

    def test_who_waits_long_asks_seldom_but_not_too_seldom(self) -> None:
        assert 150 <= self.of(15, 2000) <= 200
        assert 225 <= self.of(15, 10**6) <= 300

    def test_no_longer_than_a_queue_can_delay(self) -> None:
        assert self.of(10**6, 0) <= waiting.LONGEST
        assert self.of(0, 0) >= 1


def test_engines_of_aws_need_a_bucket(
    aws: Aws, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MLOPS_API_URL": aws.url,
        "MLOPS_STORAGE": str(tmp_path),
        "MLOPS_TOKEN_SECRET": "x" * 32,
        "MLOPS_SAGEMAKER": sagemaker_settings().model_dump_json(),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="MLOPS_STORAGE=s3"):
        services_from(FunctionSettings())  # type: ignore[call-arg]


def aws_event(source: str, **detail: str) -> BusEvent:
    """An event of AWS's own."""
    return BusEvent(
        id="e", source=source, detail_type="Change", time=datetime.now(UTC), detail=detail
    )
