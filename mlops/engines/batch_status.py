"""What AWS Batch says of a job, in our words.

Statuses: https://docs.aws.amazon.com/batch/latest/userguide/job_states.html; why jobs stay
RUNNABLE: https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html. A failed
job's reason is spread over ``statusReason`` of the job and of its last attempt, and ``reason`` and
``exitCode`` of the container.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlops.engines import JobState, Phase
from mlops.engines.endings import Ending, find_ending, shortened
from mlops.engines.exit_reasons import exit_sentence
from mlops.jobs import ExitCode

STOP_REASON = "Stopped through stac-mlops."
"""What TerminateJob is told, and Batch tells again."""
INSTANCE_TAG = "mlops:instance"
"""Tag with the instance type that the job asked for; Batch does not say what it got."""

STATUSES: Mapping[str, tuple[Phase, str]] = {
    "SUBMITTED": (Phase.QUEUED, "Batch has the job and has not looked at it yet."),
    "PENDING": (Phase.QUEUED, "The job waits for others that it depends on."),
    "RUNNABLE": (Phase.QUEUED, "The job waits for a machine."),
    "STARTING": (Phase.QUEUED, "A machine is there; the training image is being pulled."),
    "RUNNING": (Phase.RUNNING, "The training is running."),
    "SUCCEEDED": (Phase.SUCCEEDED, "The job has succeeded."),
    "FAILED": (Phase.FAILED, "The job has failed; see the table of reasons."),
}
"""By ``status``: the phase, and what a person reads."""

BLOCKED: tuple[Ending, ...] = (
    Ending(
        "no capacity",
        r"CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "AWS has no machine of this type to give now; the job goes on waiting.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "compute environment too small",
        r"MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "The queue's compute environments may not grow as large as this job needs: take a smaller "
        "instance type, or have their maxvCpus raised.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "no such machine in the queue",
        r"MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "No instance type of the queue's compute environments has what this job needs: take "
        "another instance type, or have it added to them.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "machines cannot be started",
        r"MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        "The settings of the compute environment do not fit its instance types: have them checked.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "access denied",
        r"MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
        "Batch's service role lacks a right that it needs to start machines: have it checked.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "action required",
        r"ACTION_REQUIRED",
        "Batch cannot start machines until somebody has done what it says.",
        phase=Phase.QUEUED,
    ),
    Ending(
        "unknown",
        r"UNDETERMINED",
        "Batch cannot start the job and does not know why: have the compute environments checked.",
        phase=Phase.QUEUED,
    ),
)
"""Why a RUNNABLE job that blocks its queue does not start, from its ``statusReason``."""

FAILURES: tuple[Ending, ...] = (
    Ending(
        "stopped",
        rf"{STOP_REASON[:-1]}|terminated by user|cancell?ed by user",
        "The job was stopped on request.",
        phase=Phase.STOPPED,
    ),
    Ending(
        "no capacity",
        r"due to reason: CAPACITY|InsufficientInstanceCapacity|insufficient capacity",
        "AWS had no machine of this type to give for too long; try again later, or take another "
        "instance type.",
        retryable=True,
    ),
    Ending(
        "cannot be placed",
        r"due to reason: MISCONFIGURATION",
        "No machine of the queue can take this job: take another instance type, or have the "
        "compute environments checked.",
    ),
    Ending(
        "spot taken",
        r"Host EC2 .*terminated|spot (instance )?(interruption|reclaim)",
        "The machine was taken (spot capacity is only lent), as often as the job may be started "
        "again; submit the run again, or without spot.",
        retryable=True,
    ),
    Ending(
        "time limit",
        r"attempt duration exceeded timeout|JobTimeout",
        "The job reached its time limit and was ended; raise mlops:compute.max_runtime or train "
        "less.",
    ),
    Ending(
        "out of memory",
        r"OutOfMemory|memory usage",
        "The job ran out of memory: take a smaller batch, fewer samples or a larger instance type.",
    ),
    Ending(
        "disk full",
        r"no space left on device",
        "The machine's disk is full: have the disks of the compute environment enlarged.",
    ),
    Ending(
        "access denied",
        r"AccessDenied|not authorized|access denied|unable to (assume|retrieve credentials)|"
        r"UnauthorizedException|\b403\b",
        "The job's role lacks a right that it needs (bucket, key, secret or image). `mlops engine "
        "check` says which.",
    ),
    Ending(
        "image not found",
        r"CannotPull\w*Error|RepositoryNotFound|ImageNotFound|manifest .*unknown|InvalidImage",
        "The training image cannot be pulled: it is not there, or the network does not reach it. "
        "`mlops engine check` says which.",
    ),
    Ending(
        "machine lost",
        r"AGENT|Docker(Timeout|StateError)|Cannot(Start|Stop|Inspect|Create)\w*Error|"
        r"ResourceInitializationError|InternalError|Task failed to start|network interface",
        "The machine or its container engine failed before the training could; the run may be "
        "tried again.",
        retryable=True,
    ),
    Ending(
        "job definition",
        r"job ?definition",
        "The job definition is not valid any more, as when the deployment was changed meanwhile; "
        "the run may be tried again.",
        retryable=True,
    ),
)
"""Reasons of failures in the order in which they are looked for."""


def job_state(job: Mapping[str, Any]) -> JobState:
    """Where a job stands, from one entry of DescribeJobs."""
    attempts = job.get("attempts") or []
    phase, reason, retryable, code = _standing(job, attempts)
    nodes = int((job.get("nodeProperties") or {}).get("numNodes") or 1)
    started = _first(attempts, "startedAt") or job.get("startedAt")
    return JobState(
        phase=phase,
        exit_code=code,
        reason=reason,
        started=_time(started),
        finished=_time(job.get("stoppedAt")) if phase.is_over else None,
        billed_seconds=_seconds(job, attempts) * nodes if phase.is_over else None,
        instance=str((job.get("tags") or {}).get(INSTANCE_TAG, "")),
        retryable=retryable,
    )


def _standing(
    job: Mapping[str, Any], attempts: list[Mapping[str, Any]]
) -> tuple[Phase, str | None, bool, int | None]:
    status = str(job["status"])
    phase, sentence = STATUSES.get(status, (Phase.QUEUED, f"Batch says {status}."))
    if phase is Phase.SUCCEEDED:
        return phase, None, False, int(ExitCode.DONE)
    if phase is Phase.FAILED:
        return _failed(job, attempts)
    if status == "RUNNABLE":
        words = str(job.get("statusReason") or "")
        blocked = find_ending(BLOCKED, words)
        sentence = blocked.reason(words) if blocked else sentence
    return phase, sentence, False, None


def _failed(
    job: Mapping[str, Any], attempts: list[Mapping[str, Any]]
) -> tuple[Phase, str | None, bool, int | None]:
    last = attempts[-1] if attempts else {}
    container = last.get("container") or job.get("container") or {}
    code = container.get("exitCode")
    said = [job.get("statusReason"), last.get("statusReason"), container.get("reason")]
    words = "; ".join(dict.fromkeys(str(text) for text in said if text))
    ending = find_ending(FAILURES, words)
    if ending is None and (job.get("isTerminated") or job.get("isCancelled")):
        ending = FAILURES[0]
    if ending is not None:
        kept = None if ending.phase is Phase.STOPPED else code
        return ending.phase, ending.reason(words), ending.retryable, kept
    if code:
        return Phase.FAILED, exit_sentence(code), code == ExitCode.PLATFORM_FAULT, code
    if code == ExitCode.DONE:
        # The main node did well and Batch calls the job failed: a node beside it was lost.
        return Phase.FAILED, f"A machine of the job was lost. ({shortened(words)})", True, None
    return (
        Phase.FAILED,
        f"Batch ended the job: {shortened(words) or 'no reason given'}",
        False,
        None,
    )


def _seconds(job: Mapping[str, Any], attempts: list[Mapping[str, Any]]) -> float:
    """Seconds on a machine, over all attempts: what spot took is paid for as well."""
    spans = attempts or [job]
    return sum(
        max(0, int(span.get("stoppedAt") or 0) - int(span["startedAt"])) / 1000
        for span in spans
        if span.get("startedAt")
    )


def _first(attempts: list[Mapping[str, Any]], name: str) -> int | None:
    return next((one[name] for one in attempts if one.get(name)), None)


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
