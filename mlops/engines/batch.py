"""The engine that runs jobs on AWS Batch."""

import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops.engines import EngineRefusedError, JobHandle, JobSpec, JobState, Phase
from mlops.engines.aws_errors import (
    busy_error,
    cloud_client,
    engine_errors,
    error_code,
    error_message,
)
from mlops.engines.batch_status import INSTANCE_TAG, STOP_REASON, job_state
from mlops.engines.cloud_jobs import check_limits, job_tags, with_estimate, write_job_files
from mlops.engines.cloud_settings import BatchQueues, BatchSettings
from mlops.engines.instance_types import InstanceType, InstanceTypes, read_instance_types
from mlops.engines.submissions import Claim, Submissions
from mlops.jobs import JOB_DOCUMENT_ENV, ExitCode
from mlops.storage.s3 import S3Store

__all__ = ["BatchEngine", "BatchQueues", "BatchSettings"]

_ID = re.compile(r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9-]{0,127}\Z")
_SHORTEST_TIMEOUT = 60  # seconds; Batch takes no less
_SPOT_TAKEN = "Host EC2*"
_WARNED = (str(int(ExitCode.PLATFORM_FAULT)), str(128 + signal.SIGTERM))
"""Exit codes of a job that was asked to end: the job's own word for it, and the shell's."""
# A deployment replaces its job definitions and queues: what was there when a function started may
# be gone, and the next delivery knows the new ones.
_DEPLOYMENT = re.compile(r"job ?definition|job ?queue", re.IGNORECASE)


class BatchEngine:
    """Runs jobs on AWS Batch; an :class:`~mlops.engines.Engine`.

    A job's id is Batch's; :meth:`describe` and :meth:`stop` take its name as well.

    Args:
        settings: of the deployment.
        store: where jobs find their document, and where their names are claimed.
        client: a boto3 Batch client; made from the environment when left out.
        submit_client: another one, that never repeats a call by itself; likewise.
        types: the table of instance types; read as the settings say when left out.
        now: the time, UTC.
    """

    name = "batch"

    def __init__(
        self,
        settings: BatchSettings,
        store: S3Store,
        client: Any = None,
        submit_client: Any = None,
        types: InstanceTypes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._store = store
        self._client = cloud_client("batch") if client is None else client
        if submit_client is None:
            submit_client = cloud_client("batch", repeat=False)
        self._submit_client = submit_client
        self._types = types or read_instance_types(settings.instance_types)
        lifetime = timedelta(seconds=settings.claim_seconds)
        self._submissions = Submissions(store, self._find, lifetime, now)

    def start(self, job: JobSpec) -> JobHandle:
        """Submit the job once, or find the one already submitted under its name."""
        if not _NAME.match(job.name):
            raise ValueError(f"job name {job.name!r} is not valid: letters, digits and hyphens")
        plain, machine = check_limits(
            job, self._settings, self._types, "batch", self._settings.default_instance_type
        )
        queue, definition = self._queue(job, machine), self._definition(job)
        with engine_errors():
            claim = self._submissions.claim(job.name, queue)
            if isinstance(claim, str):
                return self._handle(claim)
            place = write_job_files(self._store, job)
            request = self._request(job, plain, machine, place)
            self._submissions.check_fresh(claim)
            submitted = self._submit(
                claim, {**request, "jobQueue": queue, "jobDefinition": definition}
            )
            counting = self._submissions.record(claim, submitted)
            if counting != submitted:
                self.stop(submitted)
            return self._handle(counting)

    def describe(self, job_id: str) -> JobState:
        """Say where the job of this id or name stands."""
        described = self._describe(job_id)
        if described is None:
            return JobState(Phase.UNKNOWN)
        spot = _names(self._settings.queues.gpu_spot, str(described.get("jobQueue", "")))
        return with_estimate(job_state(described), self._types, "batch", spot)

    def stop(self, job_id: str) -> None:
        """End the job of this id or name: SIGTERM, then SIGKILL; or take it out of its queue."""
        from botocore.exceptions import ClientError

        with engine_errors():
            identity = self._identity(job_id)
            if identity is None:
                return
            try:
                self._client.terminate_job(jobId=identity, reason=STOP_REASON)
            except ClientError as error:
                if error_code(error) != "ClientException":
                    raise
                described = self._describe(identity)
                if described is not None and not job_state(described).phase.is_over:
                    raise

    def _submit(self, claim: Claim, request: dict[str, Any]) -> str:
        from botocore.exceptions import ClientError

        try:
            return str(self._submit_client.submit_job(**request)["jobId"])
        except ClientError as error:
            if int(error.response["ResponseMetadata"]["HTTPStatusCode"]) >= 500:
                # Batch may have the job all the same: the claim stays, and is resolved by name.
                raise
            self._submissions.release(claim)
            message = error_message(error)
            if (
                busy_error(error) is not None
                or error_code(error) != "ClientException"
                or _DEPLOYMENT.search(message)
            ):
                raise
            raise EngineRefusedError(f"AWS Batch refuses the job: {message}") from error

    def _describe(self, job_id: str) -> dict[str, Any] | None:
        with engine_errors():
            identity = self._identity(job_id)
            if identity is None:
                return None
            jobs = self._client.describe_jobs(jobs=[identity])["jobs"]
        return dict(jobs[0]) if jobs else None

    def _identity(self, job_id: str) -> str | None:
        """Batch's id of the job that is called by its id or its name."""
        if _ID.match(job_id):
            return job_id
        return self._submissions.job_id(job_id) if _NAME.match(job_id) else None

    def _find(self, name: str, queue: str) -> str | None:
        """Batch's id of the job of this name; the oldest, should there be several."""
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        # Batch compares names without regard to case.
        found = [job for page in pages for job in page["jobSummaryList"] if job["jobName"] == name]
        return str(min(found, key=lambda job: job["createdAt"])["jobId"]) if found else None

    def _queue(self, job: JobSpec, machine: InstanceType) -> str:
        queues = self._settings.queues
        if machine.gpus == 0:
            kind, queue = "cpu", queues.cpu
        elif job.spot:
            kind, queue = "gpu_spot", queues.gpu_spot
        else:
            kind, queue = "gpu", queues.gpu
        if queue is None:
            raise EngineRefusedError(
                f"This deployment has no Batch queue for such machines ({kind}): take another "
                "instance type, or change mlops:compute.spot."
            )
        if job.instance_count > 1 and job.spot:
            raise EngineRefusedError(
                "Batch runs a job of several machines on on-demand machines only: leave "
                "mlops:compute.spot out, or take SageMaker."
            )
        return queue

    def _definition(self, job: JobSpec) -> str:
        several = job.instance_count > 1
        definitions = (
            self._settings.multi_node_job_definitions if several else self._settings.job_definitions
        )
        framework = job.document.framework
        definition = definitions.get(framework)
        if definition is None:
            known = ", ".join(sorted(definitions)) or "none"
            kind = "jobs of several machines with" if several else "jobs with"
            raise EngineRefusedError(
                f"This deployment has no Batch job definition for {kind} {framework} (it has: "
                f"{known}): take another framework, or have its image built and deployed."
            )
        return definition

    def _request(
        self, job: JobSpec, plain: str, machine: InstanceType, place: str
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "jobName": job.name,
            "timeout": {"attemptDurationSeconds": max(job.max_runtime, _SHORTEST_TIMEOUT)},
            "retryStrategy": self._retries(job),
            "tags": job_tags(job, self._settings, **{INSTANCE_TAG: plain}),
            "propagateTags": True,
        }
        container: dict[str, Any] = {
            "environment": [{"name": JOB_DOCUMENT_ENV, "value": place}],
            "resourceRequirements": _requirements(machine),
        }
        if job.instance_count == 1:
            return {**request, "containerOverrides": container}
        nodes = {
            "numNodes": job.instance_count,
            "nodePropertyOverrides": [
                {"targetNodes": "0:", "containerOverrides": {**container, "instanceType": plain}}
            ],
        }
        return {**request, "nodeOverrides": nodes}

    def _retries(self, job: JobSpec) -> dict[str, Any]:
        if not job.spot:
            return {"attempts": 1}
        return {
            "attempts": 1 + self._settings.spot_retries,
            "evaluateOnExit": [
                {"onStatusReason": _SPOT_TAKEN, "action": "RETRY"},
                # The container is warned, and may be gone before its machine is.
                *({"onExitCode": code, "action": "RETRY"} for code in _WARNED),
                # What matches no rule would be tried again.
                {"onReason": "*", "action": "EXIT"},
            ],
        }

    def _handle(self, identity: str) -> JobHandle:
        region = self._client.meta.region_name
        console = f"https://{region}.console.aws.amazon.com/batch/home?region={region}"
        return JobHandle(self.name, identity, f"{console}#jobs/detail/{identity}")


def _requirements(machine: InstanceType) -> list[dict[str, str]]:
    wanted = [
        {"type": "VCPU", "value": str(machine.vcpus)},
        {"type": "MEMORY", "value": str(machine.container_memory_mib)},
    ]
    if machine.gpus:
        wanted.append({"type": "GPU", "value": str(machine.gpus)})
    return wanted


def _names(setting: str | None, arn: str) -> bool:
    """Whether a queue's setting, a name or an ARN, is the queue of ``arn``."""
    return setting is not None and (arn == setting or arn.endswith(f"/{setting}"))
