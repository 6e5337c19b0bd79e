"""SageMaker's training jobs: CreateTrainingJob, DescribeTrainingJob, StopTrainingJob."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.aws.fake_engines.clock import Clock
from tests.aws.fake_engines.faults import AwsError, Faults
from tests.aws.fake_engines.scripts import Step, Steps, sagemaker_success
from tests.aws.fake_engines.shapes import check_answer, check_request

ACCOUNT, REGION = "123456789012", "eu-central-1"
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
            "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{self.name}",
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


class FakeSageMaker:
    """SageMaker of one account and region."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.faults = Faults(clock)
        self.jobs: dict[str, TrainingJob] = {}
        self.script: Callable[[dict[str, Any]], Steps] = lambda _request: sagemaker_success()
        """The script of a job, by its request."""
        self.quotas: dict[str, int] = {}
        """Instances that may run at once, by type; spot as ``spot ml.g5.xlarge``."""
        self.calls: list[str] = []
        self.most_running = 0

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer an API call."""
        self.calls.append(operation)
        self.faults.before(operation, "ThrottlingException")
        check_request("sagemaker", operation, request, "ValidationException")
        answer = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "StopTrainingJob": self._stop,
        }[operation](request)
        check_answer("sagemaker", operation, answer)
        self.faults.after(operation)
        return answer

    def tick(self) -> Iterator[dict[str, Any]]:
        """Let happen what is due; the events that AWS would emit, in order."""
        now = self._clock.now()
        for job in list(self.jobs.values()):
            while job.ahead and job.ahead[0][0] <= now:
                due, step = job.ahead.pop(0)
                job.enter(step, due)
                yield event(job, due)

    def next_due(self) -> float | None:
        """When something happens next."""
        return min((job.ahead[0][0] for job in self.jobs.values() if job.ahead), default=None)

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TrainingJobName"]
        if name in self.jobs:
            raise AwsError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists (arn:aws:sagemaker:{REGION}:"
                f"{ACCOUNT}:training-job/{name})",
            )
        self._check(request)
        self._check_quota(request)
        now = self._clock.now()
        due, ahead = now, []
        for step in self.script(request):
            due += step.after
            ahead.append((due, step))
        self.jobs[name] = TrainingJob(request, now, ahead, changed=now)
        return {"TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"}

    def _check(self, request: dict[str, Any]) -> None:
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

    def _check_quota(self, request: dict[str, Any]) -> None:
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

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._job(request).describe()

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
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

    def _job(self, request: dict[str, Any]) -> TrainingJob:
        job = self.jobs.get(request["TrainingJobName"])
        if job is None:
            raise AwsError("ValidationException", "Requested resource not found.")
        return job


def event(job: TrainingJob, time: float) -> dict[str, Any]:
    """``SageMaker Training Job State Change``: times in milliseconds."""
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
    return {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Training Job State Change",
        "resources": [detail["TrainingJobArn"]],
        "at": time,
        "detail": detail,
    }


def _kind(request: dict[str, Any]) -> tuple[str, int]:
    resources = request["ResourceConfig"]
    return str(resources["InstanceType"]), int(resources["InstanceCount"])
