"""What SageMaker says of a training job, in our words.

Statuses: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html.
AWS says that the secondary statuses may change, so one that is not known here counts as what its
``TrainingJobStatus`` says. Reasons of failures are free text behind a class of error
(``AlgorithmError``, ``ClientError``, ``CapacityError``, ``InternalServerError``).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlops.engines import JobState, Phase
from mlops.engines.endings import Ending, find_ending, shortened
from mlops.engines.exit_reasons import exit_sentence
from mlops.jobs import ExitCode

SECONDARY: Mapping[str, tuple[Phase, str]] = {
    "Starting": (Phase.QUEUED, "SageMaker is starting the job."),
    "Pending": (Phase.QUEUED, "The job waits for machines to be free."),
    "LaunchingMLInstances": (Phase.QUEUED, "SageMaker is starting the machines."),
    "PreparingTrainingStack": (Phase.QUEUED, "SageMaker is preparing the machines."),
    "Downloading": (Phase.RUNNING, "SageMaker is restoring the checkpoints."),
    "DownloadingTrainingImage": (Phase.RUNNING, "SageMaker is pulling the training image."),
    "Training": (Phase.RUNNING, "The training is running."),
    "Uploading": (Phase.RUNNING, "The training has ended; SageMaker is uploading."),
    "Interrupted": (
        Phase.QUEUED,
        "Its spot machine was taken; it goes on when there is one again.",
    ),
    "Restarting": (Phase.QUEUED, "SageMaker is starting the job again after a fault of its own."),
    "Updating": (Phase.RUNNING, "SageMaker is changing the job's settings."),
    "Stopping": (Phase.RUNNING, "The job is being stopped."),
    "Completed": (Phase.SUCCEEDED, "The job has succeeded."),
    "Failed": (Phase.FAILED, "The job has failed; see the table of reasons."),
    "Stopped": (Phase.STOPPED, "The job was stopped on request."),
    "MaxRuntimeExceeded": (
        Phase.FAILED,
        "The job reached its time limit and was ended; raise mlops:compute.max_runtime or train "
        "less.",
    ),
    "MaxWaitTimeExceeded": (
        Phase.FAILED,
        "There was no spot capacity for long enough within the time that the job may wait; submit "
        "the run later, with another instance type, or without spot.",
    ),
}
"""By ``SecondaryStatus``: the phase, and what a person reads."""

PRIMARY: Mapping[str, Phase] = {
    "InProgress": Phase.RUNNING,
    "Completed": Phase.SUCCEEDED,
    "Failed": Phase.FAILED,
    "Stopping": Phase.RUNNING,
    "Stopped": Phase.STOPPED,
    "Deleting": Phase.LOST,
}
"""By ``TrainingJobStatus``; decides where the secondary status is unknown or contradicts it."""

RETRYABLE_SECONDARY = frozenset({"MaxWaitTimeExceeded"})

FAILURES: tuple[Ending, ...] = (
    Ending(
        "no capacity",
        r"^\s*CapacityError|unable to provision requested ML compute capacity|insufficient "
        r"(instance )?capacity",
        "AWS had no machine of this type to give; try again later, or take another instance type.",
        retryable=True,
    ),
    Ending(
        "fault of SageMaker",
        r"^\s*InternalServerError|encountered an internal error",
        "SageMaker had a fault of its own; the run may be tried again.",
        retryable=True,
    ),
    Ending(
        "quota",
        r"ResourceLimitExceeded|service limit|quota",
        "A quota of the AWS account does not allow this job; have it raised (Service Quotas, "
        "Amazon SageMaker), or take another instance type.",
    ),
    Ending(
        "out of memory",
        r"instance type with more memory|out of memory|OutOfMemory|MemoryError|exit code:? "
        r"?'?137|code '?-9\b",
        "The job ran out of memory: take a smaller batch, fewer samples or a larger instance type.",
    ),
    Ending(
        "disk full",
        r"no space left on device|bigger volume|larger (storage )?volume|disk (is )?full",
        "The job's disk is full: have volume_gb of the deployment raised, or take an instance "
        "type with larger disks.",
    ),
    Ending(
        "image not found",
        r"cannot pull|unable to pull|pull (the )?(algorithm )?(container|image)|image (\S+ )?"
        r"(does not|doesn.t) exist|RepositoryNotFound|ImageNotFound|manifest unknown|image size",
        "The training image cannot be pulled: it is not there, or the execution role may not "
        "read it. `mlops engine check` says which.",
    ),
    Ending(
        "access denied",
        r"assume the role|sts:AssumeRole|AccessDenied|Access Denied|not authorized|forbidden|"
        r"\b403\b|KMS",
        "The job's role lacks a right that it needs (bucket, key or image). `mlops engine check` "
        "says which.",
    ),
    Ending(
        "network",
        r"subnet|security group|network interface|VPC",
        "The job's network cannot be used (subnets without free addresses, or security groups "
        "that are gone): have the deployment's network checked.",
    ),
    Ending(
        "time limit",
        r"maximum (allowed )?runtime|timed? ?out",
        "The job reached a time limit and was ended; raise mlops:compute.max_runtime or train "
        "less.",
    ),
)
"""Reasons of failures in the order in which they are looked for, after those of our own exit codes.
"""

_EXIT_CODE = re.compile(r"exit ?code:? ?'?(\d{1,3})\b", re.IGNORECASE)
_ALGORITHM = re.compile(r"^\s*AlgorithmError:?\s*", re.IGNORECASE)
_OWN_CODES = frozenset(int(code) for code in ExitCode)


def job_state(job: Mapping[str, Any]) -> JobState:
    """Where a job stands, from the answer of DescribeTrainingJob."""
    phase, sentence, retryable, code = _standing(job)
    resources = job.get("ResourceConfig", {})
    billable = job.get("BillableTimeInSeconds")
    count = int(resources.get("InstanceCount") or 1)
    return JobState(
        phase=phase,
        exit_code=code,
        reason=sentence,
        started=job.get("TrainingStartTime"),
        finished=_finished(job) if phase.is_over else None,
        # SageMaker counts the seconds of one machine and bills them for each.
        billed_seconds=None if billable is None else float(billable) * count,
        instance=str(resources.get("InstanceType", "")),
        retryable=retryable,
    )


def _standing(job: Mapping[str, Any]) -> tuple[Phase, str | None, bool, int | None]:
    primary, secondary = str(job["TrainingJobStatus"]), str(job.get("SecondaryStatus", ""))
    phase, sentence = SECONDARY.get(secondary, (PRIMARY.get(primary, Phase.RUNNING), None))
    over = PRIMARY.get(primary, Phase.RUNNING).is_over
    if over != phase.is_over:
        # The secondary status may run ahead of the primary one, or behind it.
        phase, sentence = PRIMARY.get(primary, Phase.RUNNING), None
    if primary == "Failed":
        return _failed(str(job.get("FailureReason", "")))
    if phase is Phase.SUCCEEDED:
        return phase, None, False, int(ExitCode.DONE)
    if phase is Phase.LOST:
        return phase, "The job was deleted in SageMaker.", False, None
    return phase, sentence, secondary in RETRYABLE_SECONDARY, None


def _failed(words: str) -> tuple[Phase, str | None, bool, int | None]:
    found = _EXIT_CODE.search(words)
    code = int(found[1]) if found else None
    if code in _OWN_CODES and code != ExitCode.DONE:
        # What the job wrote into SageMaker's failure file says more than the code.
        said = _EXIT_CODE.sub("", _ALGORITHM.sub("", words)).strip(" ,;'.")
        return Phase.FAILED, _with(exit_sentence(code), said), code == ExitCode.PLATFORM_FAULT, code
    ending = find_ending(FAILURES, words)
    if ending is not None:
        return ending.phase, ending.reason(words), ending.retryable, code
    if code:
        return Phase.FAILED, _with(exit_sentence(code), ""), False, code
    if _ALGORITHM.match(words):
        return (
            Phase.FAILED,
            f"The training failed: {shortened(_ALGORITHM.sub('', words))}",
            False,
            None,
        )
    if not words:
        return Phase.FAILED, "SageMaker gives no reason; the job's log may have one.", False, None
    return Phase.FAILED, f"SageMaker ended the job: {shortened(words)}", False, None


def _with(sentence: str | None, said: str) -> str:
    return f"{sentence} ({shortened(said)})" if said else str(sentence)


def _finished(job: Mapping[str, Any]) -> datetime | None:
    return job.get("TrainingEndTime") or job.get("LastModifiedTime")
