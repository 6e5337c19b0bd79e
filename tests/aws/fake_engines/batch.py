"""AWS Batch: SubmitJob, DescribeJobs, ListJobs, TerminateJob; retries are decided as Batch does."""

import fnmatch
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.aws.fake_engines.clock import Clock
from tests.aws.fake_engines.faults import AwsError
from tests.aws.fake_engines.scripts import Attempt, Attempts, batch_success
from tests.aws.fake_engines.service import ACCOUNT, REGION, Answer, FakeService, Request

STOP_SECONDS = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_BEFORE_START = ("SUBMITTED", "PENDING", "RUNNABLE")
_OVER = ("SUCCEEDED", "FAILED")
_TIME_IS_UP = "Job attempt duration exceeded timeout"


@dataclass
class BatchJob:
    """A job and what is still to happen to it: ``(time, status)``."""

    id: str
    request: dict[str, Any]
    created: float
    script: Attempts
    ahead: list[tuple[float, str]] = field(default_factory=list)
    status: str = "SUBMITTED"
    status_reason: str | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    started: float | None = None
    stopped: float | None = None
    terminated: str | None = None

    @property
    def name(self) -> str:
        """Its name; several jobs may have it."""
        return str(self.request["jobName"])

    @property
    def arn(self) -> str:
        """Its name on AWS."""
        return _arn("job", self.id)

    @property
    def attempt(self) -> Attempt:
        """The attempt of the script that counts now; the last one again where it is too short."""
        return self.script[min(len(self.attempts), len(self.script) - 1)]

    @property
    def several(self) -> int:
        """Its nodes, 0 for a job of a single one."""
        return int(self.request.get("nodeOverrides", {}).get("numNodes", 0))

    @property
    def overrides(self) -> dict[str, Any]:
        """What its container gets."""
        if not self.several:
            return dict(self.request.get("containerOverrides", {}))
        return dict(self.request["nodeOverrides"]["nodePropertyOverrides"][0]["containerOverrides"])

    def plan(self, now: float) -> None:
        """Lay out what happens in the attempt that begins now."""
        attempt = self.attempt
        self.ahead = [(now, "RUNNABLE")]
        starting = now + attempt.waiting
        if attempt.ends_in == "RUNNABLE":
            if attempt.exit_code is None:
                self.ahead.append((starting, "END"))
            return
        self.ahead.append((starting, "STARTING"))
        running = starting + attempt.starting
        if attempt.ends_in == "STARTING":
            self.ahead.append((running, "END"))
            return
        self.ahead.append((running, "RUNNING"))
        limit = self.request.get("timeout", {}).get("attemptDurationSeconds")
        lasting = attempt.running
        if limit is not None and (lasting is None or lasting > limit):
            lasting = float(limit)
        if lasting is not None:
            self.ahead.append((running + lasting, "END"))

    def describe(self) -> dict[str, Any]:
        """Its entry in the answer of DescribeJobs."""
        described: dict[str, Any] = {
            "jobArn": self.arn,
            "jobId": self.id,
            "jobName": self.name,
            "jobQueue": _arn("job-queue", self.request["jobQueue"]),
            "jobDefinition": _arn("job-definition", self.request["jobDefinition"]),
            "status": self.status,
            "attempts": self.attempts,
            "createdAt": _ms(self.created),
            "retryStrategy": self.request.get("retryStrategy", {}),
            "timeout": self.request.get("timeout", {}),
            "dependsOn": [],
            "parameters": {},
            "tags": self.request.get("tags", {}),
            "propagateTags": self.request.get("propagateTags", False),
            "isCancelled": self.status == "FAILED" and self.started is None,
            "isTerminated": self.terminated is not None,
        }
        if self.status_reason:
            described["statusReason"] = self.status_reason
        if self.started is not None:
            described["startedAt"] = _ms(self.started)
        if self.stopped is not None:
            described["stoppedAt"] = _ms(self.stopped)
        if self.several:
            described["nodeProperties"] = {
                "numNodes": self.several,
                "mainNode": 0,
                "nodeRangeProperties": [],
            }
        else:
            described["container"] = self._container()
        return described

    def _container(self) -> dict[str, Any]:
        last = self.attempts[-1]["container"] if self.attempts else {}
        kept = {name: last[name] for name in ("exitCode", "reason") if name in last}
        overrides = self.overrides
        return {
            "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/train:1",
            "environment": overrides.get("environment", []),
            "resourceRequirements": overrides.get("resourceRequirements", []),
            **kept,
        }


class FakeBatch(FakeService[BatchJob, Attempts]):
    """AWS Batch of one account and region."""

    service = "batch"
    invalid = "ClientException"
    throttled = "TooManyRequestsException"
    event_type = "Batch Job State Change"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, batch_success())
        self.queues: set[str] = {"gpu", "gpu-spot", "cpu"}
        self.definitions: set[str] = {"train-pytorch", "train-pytorch-nodes"}
        """Names of active job definitions."""
        self.environment = {"state": "ENABLED", "status": "VALID"}
        """How the compute environment of all queues is."""
        self.job = {
            "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/train:1",
            "jobRoleArn": f"arn:aws:iam::{ACCOUNT}:role/mlops-batch-jobs",
        }
        """Container properties of the job definitions."""
        self.list_delay = 0.0
        """How many seconds it takes until a new job is in lists."""

    def _operations(self) -> Mapping[str, Callable[[Request], Answer]]:
        return {
            "SubmitJob": self._submit,
            "DescribeJobs": self._describe,
            "ListJobs": self._list,
            "TerminateJob": self._terminate,
            "DescribeJobQueues": self._describe_queues,
            "DescribeJobDefinitions": self._describe_definitions,
            "DescribeComputeEnvironments": self._describe_environments,
        }

    def _detail(self, job: BatchJob) -> dict[str, Any]:
        """An entry of DescribeJobs without tags."""
        return {name: value for name, value in job.describe().items() if name != "tags"}

    def _enter(self, job: BatchJob, step: str, time: float) -> None:
        if step == "END":
            self._end(job, time)
            return
        job.status = step
        job.status_reason = job.attempt.blocked if step == "RUNNABLE" else None
        if step == "RUNNING":
            job.started = time

    def _end(self, job: BatchJob, time: float) -> None:
        attempt, begun = job.attempt, job.started if job.status == "RUNNING" else None
        lasted = time - (begun or time)
        limit = job.request.get("timeout", {}).get("attemptDurationSeconds")
        timed_out = limit is not None and lasted >= limit and attempt.running != lasted
        reason, code = attempt.status_reason, attempt.exit_code
        if job.terminated is not None:
            reason, code = job.terminated, 143
        elif timed_out:
            reason, code = _TIME_IS_UP, 137
        container: dict[str, Any] = {}
        if code is not None:
            container["exitCode"] = code
        if attempt.reason and job.terminated is None:
            container["reason"] = attempt.reason
        ended = {"container": container, "stoppedAt": _ms(time), "statusReason": reason}
        job.attempts.append(ended if begun is None else {**ended, "startedAt": _ms(begun)})
        job.status_reason = reason
        if code == 0:
            job.status, job.stopped = "SUCCEEDED", time
        elif job.terminated is None and not timed_out and self._is_retried(job, container, reason):
            job.plan(time)
            job.status = "RUNNABLE"
            job.ahead.pop(0)
        else:
            job.status, job.stopped = "FAILED", time

    def _is_retried(self, job: BatchJob, container: dict[str, Any], reason: str) -> bool:
        strategy = job.request.get("retryStrategy", {})
        if len(job.attempts) >= strategy.get("attempts", 1):
            return False
        code = str(container.get("exitCode", ""))
        given = {
            "onStatusReason": reason,
            "onReason": container.get("reason", ""),
            "onExitCode": code,
        }
        for rule in strategy.get("evaluateOnExit", []):
            conditions = {name: rule[name] for name in given if name in rule}
            if all(fnmatch.fnmatchcase(given[n].lower(), p.lower()) for n, p in conditions.items()):
                return str(rule["action"]).upper() == "RETRY"
        return True

    def _submit(self, request: Request) -> Answer:
        self._check(request)
        now = self._clock.now()
        job = BatchJob(str(uuid.uuid4()), request, now, self.script(request))
        job.plan(now)
        self.jobs[job.id] = job
        return {"jobArn": job.arn, "jobId": job.id, "jobName": job.name}

    def _check(self, request: Request) -> None:
        if not _NAME.fullmatch(request["jobName"]):
            raise AwsError("ClientException", f"Job name {request['jobName']} is not valid")
        if _short(request["jobQueue"]) not in self.queues:
            raise AwsError("ClientException", f"JobQueue {request['jobQueue']} not found.")
        if _short(request["jobDefinition"]) not in self.definitions:
            raise AwsError(
                "ClientException", f"JobDefinition {request['jobDefinition']} is not ACTIVE."
            )
        if request.get("timeout", {}).get("attemptDurationSeconds", 60) < 60:
            raise AwsError("ClientException", "Timeout must be at least 60 seconds")
        strategy = request.get("retryStrategy", {})
        if (
            not 1 <= strategy.get("attempts", 1) <= 10
            or len(strategy.get("evaluateOnExit", [])) > 5
        ):
            raise AwsError("ClientException", "RetryStrategy is not valid")
        if "nodeOverrides" in request and "containerOverrides" in request:
            raise AwsError("ClientException", "containerOverrides are not for multi-node jobs")

    def _describe(self, request: Request) -> Answer:
        return {"jobs": [self.jobs[job].describe() for job in request["jobs"] if job in self.jobs]}

    def _list(self, request: Request) -> Answer:
        queue = _short(request["jobQueue"])
        names = [
            value.lower()
            for one in request.get("filters", [])
            if one["name"] == "JOB_NAME"
            for value in one["values"]
        ]
        seen = self._clock.now() - self.list_delay
        found = [
            job
            for job in self.jobs.values()
            if _short(job.request["jobQueue"]) == queue
            and job.created <= seen
            and (not names or any(fnmatch.fnmatchcase(job.name.lower(), n) for n in names))
        ]
        kept = ("jobArn", "jobId", "jobName", "createdAt", "status", "jobDefinition")
        described = [job.describe() for job in found]
        return {"jobSummaryList": [{name: one[name] for name in kept} for one in described]}

    def _terminate(self, request: Request) -> Answer:
        job = self.jobs.get(request["jobId"])
        if job is None:
            raise AwsError("ClientException", f"Job {request['jobId']} doesn't exist")
        now = self._clock.now()
        if job.status in _OVER or job.terminated is not None:
            return {}
        job.terminated = request["reason"]
        wait = 0.0 if job.status in _BEFORE_START else STOP_SECONDS
        job.ahead = [(now + wait, "END")]
        return {}

    def _describe_queues(self, request: Request) -> Answer:
        wanted = [name for name in request.get("jobQueues", []) if _short(name) in self.queues]
        return {
            "jobQueues": [
                {
                    "jobQueueName": _short(name),
                    "jobQueueArn": _arn("job-queue", name),
                    "state": "ENABLED",
                    "status": "VALID",
                    "priority": 1,
                    "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "machines"}],
                }
                for name in wanted
            ]
        }

    def _describe_definitions(self, request: Request) -> Answer:
        wanted = request.get("jobDefinitions") or [request.get("jobDefinitionName", "")]
        return {
            "jobDefinitions": [
                {
                    "jobDefinitionName": _short(name),
                    "jobDefinitionArn": f"{_arn('job-definition', _short(name))}:1",
                    "revision": 1,
                    "status": "ACTIVE",
                    "type": "container",
                    "containerProperties": self.job,
                }
                for name in wanted
                if _short(name) in self.definitions
            ]
        }

    def _describe_environments(self, request: Request) -> Answer:
        return {
            "computeEnvironments": [
                {
                    "computeEnvironmentName": name,
                    "computeEnvironmentArn": _arn("compute-environment", name),
                    "type": "MANAGED",
                    **self.environment,
                }
                for name in request["computeEnvironments"]
            ]
        }


def _short(name: str) -> str:
    """The name in an ARN, without a revision."""
    return name.rsplit("/", 1)[-1].partition(":")[0]


def _arn(kind: str, name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{name}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
