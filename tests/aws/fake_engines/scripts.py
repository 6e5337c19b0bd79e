"""How jobs go: scripts for the fakes.

Durations are seconds of the fakes' clock. Texts are those that AWS gives for such ends.
"""

from dataclasses import dataclass
from typing import Literal

# -- SageMaker -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A secondary status, entered ``after`` seconds in the one before."""

    after: float
    secondary: str
    reason: str = ""
    """``FailureReason`` of a job that fails."""


Steps = tuple[Step, ...]

NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
    "different ML instance type."
)
INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."
IMAGE_NOT_FOUND = (
    "ClientError: Cannot pull algorithm container. Either the image does not exist or its "
    "permissions are incorrect."
)
NO_ROLE = (
    "ClientError: SageMaker was unable to assume the role 'arn:aws:iam::123456789012:role/jobs'"
)
OUT_OF_MEMORY = (
    "ClientError: Please use an instance type with more memory, or reduce the size of job data "
    "processed on an instance."
)


def sagemaker_success(
    waiting: float = 30, training: float = 60, interruptions: int = 0, taken: float = 20
) -> Steps:
    """A job that succeeds, after spot has taken its machine ``interruptions`` times."""
    steps = [Step(0, "Starting")]
    for number in range(interruptions + 1):
        steps += [Step(waiting, "Downloading"), Step(5, "Training")]
        if number < interruptions:
            steps += [Step(taken, "Interrupted"), Step(30, "Starting")]
    return (*steps, Step(training, "Uploading"), Step(5, "Completed"))


def sagemaker_failure(reason: str, waiting: float = 30, training: float | None = 60) -> Steps:
    """A job that fails: after ``training`` seconds, or before it trains where that is None."""
    if training is None:
        return (Step(0, "Starting"), Step(waiting, "Failed", reason))
    begun = (Step(0, "Starting"), Step(waiting, "Downloading"), Step(5, "Training"))
    return (*begun, Step(training, "Failed", reason))


def sagemaker_exit(code: int, said: str = "") -> Steps:
    """A job whose container ends with ``code`` and leaves ``said`` in its failure file."""
    return sagemaker_failure(f"AlgorithmError: {said}, exit code: {code}")


def sagemaker_too_long(training: float = 3600) -> Steps:
    """A job that reaches its MaxRuntimeInSeconds."""
    begun = (Step(0, "Starting"), Step(30, "Downloading"), Step(5, "Training"))
    return (*begun, Step(training, "Stopping"), Step(120, "MaxRuntimeExceeded"))


def sagemaker_no_spot(waiting: float = 3600) -> Steps:
    """A spot job that never gets a machine in its MaxWaitTimeInSeconds."""
    return (Step(0, "Starting"), Step(waiting, "MaxWaitTimeExceeded"))


def sagemaker_endless() -> Steps:
    """A job that trains until it is stopped."""
    return (Step(0, "Starting"), Step(30, "Downloading"), Step(5, "Training"))


# -- AWS Batch -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One attempt of a Batch job; ``running`` None is for ever.

    One that ends in RUNNABLE is cancelled after ``waiting`` if ``exit_code`` is None, else it
    waits for ever.
    """

    waiting: float = 30
    starting: float = 10
    running: float | None = 60
    ends_in: Literal["RUNNABLE", "STARTING", "RUNNING"] = "RUNNING"
    exit_code: int | None = 0
    reason: str | None = None
    """``container.reason``"""
    status_reason: str = "Essential container in task exited"
    blocked: str | None = None
    """``statusReason`` while the job is RUNNABLE."""


Attempts = tuple[Attempt, ...]

SPOT_TAKEN = Attempt(
    running=20, exit_code=None, status_reason="Host EC2 (instance i-0123456789abcdef0) terminated."
)
"""Spot takes the machine."""
NO_IMAGE = Attempt(
    ends_in="STARTING",
    exit_code=None,
    reason="CannotPullContainerError: Error response from daemon: manifest for "
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com/train:1 not found: manifest unknown",
    status_reason="Task failed to start",
)
KILLED_FOR_MEMORY = Attempt(
    exit_code=137, reason="OutOfMemoryError: Container killed due to memory usage"
)
NO_AGENT = Attempt(
    ends_in="STARTING",
    exit_code=None,
    reason="DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s",
    status_reason="Task failed to start",
)
NO_MACHINE = Attempt(
    ends_in="RUNNABLE",
    blocked="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity "
    "requested for instance type g5.xlarge",
)


def batch_success(interruptions: int = 0, running: float = 60) -> Attempts:
    """A job that succeeds, if it may be started again after spot took its machine so often."""
    return (*([SPOT_TAKEN] * interruptions), Attempt(running=running))


def batch_exit(code: int, running: float = 60) -> Attempts:
    """A job whose container ends with ``code``."""
    return (Attempt(exit_code=code, running=running),)


def batch_cancelled_for(reason: str, waiting: float = 600) -> Attempts:
    """A job that the queue's ``jobStateTimeLimitActions`` cancel for ``reason``."""
    said = f"Canceled by JobStateTimeLimit action due to reason: {reason}"
    cancelled = Attempt(
        waiting=waiting, ends_in="RUNNABLE", exit_code=None, status_reason=said, blocked=reason
    )
    return (cancelled,)


def batch_endless() -> Attempts:
    """A job that runs until it is stopped or its time is up."""
    return (Attempt(running=None),)
