"""SageMaker's training jobs: CreateTrainingJob, DescribeTrainingJob, StopTrainingJob."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.aws.fake_engines.clock import Clock
from tests.aws.fake_engines.faults import AwsError
from tests.aws.fake_engines.scripts import Step, Steps, sagemaker_success
from tests.aws.fake_engines.service import ACCOUNT, REGION, Answer, FakeService, Request

STOP_SECONDS = 20.0

_PRIMARY = {
    "Completed": "Completed",
    "Failed": "Failed",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
}
_OVER = frozenset({"Completed", "Failed", "Stopped"})


@dataclass
class TrainingJob:
    """A training job and what is still to happen to it."""

    request: dict[str, Any]
    created: float
    ahead: list[tuple[float, Step]]
    secondary: str = "Starting"
    reason: str = ""
    changed: float = 0.0
    transitions: list[dict[str, Any]] = field(default_factory=list)
    trained: float = 0.0
    started: float | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """Its name, which is its id."""
        return str(self.request["TrainingJobName"])

    @property
    def arn(self) -> str:
        """Its name on AWS."""
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{self.name}"

    @property
    def status(self) -> str:
        """``TrainingJobStatus``."""
        return _PRIMARY.get(self.secondary, "InProgress")

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status in _OVER

    def enter(self, step: Step, time: float) -> None:
        """Go on to a step of the script."""
        if self.secondary == "Training" and self.transitions:
            self.trained += time - self.changed
        if self.transitions:
            self.transitions[-1]["EndTime"] = time
        self.secondary, self.reason, self.changed = step.secondary, step.reason, time
        if step.secondary in ("Downloading", "Training") and self.started is None:
            self.started = time
        if self.is_over:
            self.ended = time
        transition = {"Status": step.secondary, "StartTime": time}
        if step.reason:
            transition["StatusMessage"] = step.reason
        self.transitions.append(transition)

    def describe(self) -> dict[str, Any]:
        """The answer of DescribeTrainingJob."""
        request = self.request
        kept = (
            "TrainingJobName",
            "AlgorithmSpecification",
            "RoleArn",
            "OutputDataConfig",
            "ResourceConfig",
            "StoppingCondition",
            "EnableManagedSpotTraining",
            "EnableNetworkIsolation",
            "EnableInterContainerTrafficEncryption",
            "CheckpointConfig",
            "VpcConfig",
            "Environment",
            "HyperParameters",
        )
        described = {name: request[name] for name in kept if name in request}
        described |= {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary,
            "SecondaryStatusTransitions": self.transitions,
            "CreationTime": self.created,
            "LastModifiedTime": self.changed,
        }
        if self.reason:
            described["FailureReason"] = self.reason
        if self.started is not None:
            described["TrainingStartTime"] = self.started
        if self.ended is not None and self.started is not None:
            described |= {
                "TrainingEndTime": self.ended,
                "TrainingTimeInSeconds": max(1, int(self.ended - self.started)),
                "BillableTimeInSeconds": max(1, int(self.trained)),
            }
        return described


class FakeSageMaker(FakeService[TrainingJob, Steps]):
    """SageMaker of one account and region."""

    service = "sagemaker"
    invalid = "ValidationException"
    throttled = "ThrottlingException"
    event_type = "SageMaker Training Job State Change"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, sagemaker_success())
        self.quotas: dict[str, int] = {}
        """Instances that may run at once, by type; spot as ``spot ml.g5.xlarge``."""
        self.most_running = 0

    def _operations(self) -> Mapping[str, Callable[[Request], Answer]]:
        return {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "StopTrainingJob": self._stop,
        }

    def _enter(self, job: TrainingJob, step: Step, time: float) -> None:
        job.enter(step, time)

    def _detail(self, job: TrainingJob) -> dict[str, Any]:
        """As DescribeTrainingJob has it, with times in milliseconds."""
        detail = job.describe()
        for name in ("CreationTime", "LastModifiedTime", "TrainingStartTime", "TrainingEndTime"):
            if name in detail:
                detail[name] = int(detail[name] * 1000)
        detail["SecondaryStatusTransitions"] = [
            {
                name: int(value * 1000) if name.endswith("Time") else value
                for name, value in transition.items()
            }
            for transition in job.transitions
        ]
        detail["Tags"] = {tag["Key"]: tag["Value"] for tag in job.request.get("Tags", [])}
        return detail

    def _create(self, request: Request) -> Answer:
        now = self._clock.now()
        job = TrainingJob(request, now, [], changed=now)
        if job.name in self.jobs:
            raise AwsError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists ({job.arn})",
            )
        self._check(request)
        self._check_quota(request)
        due = now
        for step in self.script(request):
            due += step.after
            job.ahead.append((due, step))
        self.jobs[job.name] = job
        return {"TrainingJobArn": job.arn}

    def _check(self, request: Request) -> None:
        stopping = request["StoppingCondition"]
        spot = request.get("EnableManagedSpotTraining", False)
        if spot != ("MaxWaitTimeInSeconds" in stopping):
            raise AwsError(
                "ValidationException",
                "MaxWaitTimeInSeconds must be given for managed spot training, and only for it",
            )
        if spot and stopping["MaxWaitTimeInSeconds"] < stopping["MaxRuntimeInSeconds"]:
            raise AwsError("ValidationException", "MaxWaitTimeInSeconds is below MaxRuntime")
        resources = request["ResourceConfig"]
        family = resources["InstanceType"].split(".")[1]
        if "VolumeKmsKeyId" in resources and family in ("g4dn", "g5", "g6", "g6e", "p4d", "p5"):
            raise AwsError(
                "ValidationException",
                "VolumeKmsKeyId cannot be set for an instance type with local storage",
            )

    def _check_quota(self, request: Request) -> None:
        spot = "spot " if request.get("EnableManagedSpotTraining") else ""
        kind, wanted = _kind(request)
        used = sum(
            _kind(job.request)[1] for job in self._running() if _kind(job.request)[0] == kind
        )
        limit = self.quotas.get(spot + kind)
        if limit is not None and used + wanted > limit:
            raise AwsError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind} for {spot}training job usage' is {limit} "
                f"Instances, with current utilization of {used} Instances and a request delta of "
                f"{wanted} Instances. Please use AWS Service Quotas to request an increase for "
                "this quota.",
            )
        self.most_running = max(self.most_running, used + wanted)

    def _running(self) -> list[TrainingJob]:
        return [job for job in self.jobs.values() if not job.is_over]

    def _describe(self, request: Request) -> Answer:
        return self._job(request).describe()

    def _stop(self, request: Request) -> Answer:
        job = self._job(request)
        if job.is_over:
            raise AwsError(
                "ValidationException",
                f"The request was rejected because the training job is in status {job.status}.",
            )
        if job.status != "Stopping":
            now = self._clock.now()
            job.ahead = [(now, Step(0, "Stopping")), (now + STOP_SECONDS, Step(0, "Stopped"))]
        return {}

    def _job(self, request: Request) -> TrainingJob:
        job = self.jobs.get(request["TrainingJobName"])
        if job is None:
            raise AwsError("ValidationException", "Requested resource not found.")
        return job


def _kind(request: Request) -> tuple[str, int]:
    resources = request["ResourceConfig"]
    return str(resources["InstanceType"]), int(resources["InstanceCount"])
