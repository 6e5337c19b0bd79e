"""Engines start, describe and stop jobs; all of them run the same training job."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mlops.jobs import JobDocument


class Phase(StrEnum):
    """Where a job stands, in words common to all engines."""

    UNKNOWN = "unknown"
    """The engine knows no such job."""
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    """The job is gone and left no exit code."""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self in _OVER


_OVER = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED, Phase.LOST})


@dataclass(frozen=True)
class JobSpec:
    """What an engine needs to start a job. ``secrets`` reach the job's environment only."""

    name: str
    document: JobDocument
    max_runtime: int
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    instance_type: str | None = None
    instance_count: int = 1
    spot: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobHandle:
    """The engine's name for a job, and where a person can look at it."""

    engine: str
    id: str
    console: str | None = None


@dataclass(frozen=True)
class JobState:
    """What an engine says of a job. Times are UTC; ``billed_seconds`` is None while unknown."""

    phase: Phase
    exit_code: int | None = None
    reason: str | None = None
    started: datetime | None = None
    finished: datetime | None = None
    billed_seconds: float | None = None
    instance: str = "local"
    retryable: bool = False
    """Whether the end was the platform's doing, so that another attempt makes sense."""
    estimate: float | None = None
    """What the billed seconds cost, in ``currency``; only where a price is known."""
    currency: str | None = None


class EngineBusyError(Exception):
    """The engine takes no more now: a quota is used up, or it was asked too often.

    Nothing is wrong with the job. The same call is to be repeated after ``retry_after`` seconds,
    by the queue and with jitter, never by sleeping.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineRefusedError(Exception):
    """The engine can never start this job as it is asked for; the message says what to change."""


class Engine(Protocol):
    """Starts, describes and stops jobs. Every call may be repeated with the same outcome.

    Engines that are services of others raise :class:`EngineBusyError` from any call.
    """

    name: str

    def start(self, job: JobSpec) -> JobHandle:
        """Start ``job``, or find the one already started under its name.

        Raises:
            EngineBusyError: not now; to be tried again later.
            EngineRefusedError: never as it is; the run is to be ended with the message.
        """
        ...

    def describe(self, job_id: str) -> JobState:
        """Say where the job stands; :attr:`Phase.UNKNOWN` when there is none."""
        ...

    def stop(self, job_id: str) -> None:
        """End the job and all it started; does nothing when it has ended."""
        ...


def job_name(workspace: str, collection: str, item: str, attempt: int) -> str:
    """The name of a run's job: the same for the same run and attempt, valid on every engine.

    SageMaker and Batch take 63 and 128 characters of letters, digits and hyphens; a digest keeps
    names apart that would be equal after shortening.
    """
    digest = hashlib.sha256(f"{workspace}/{collection}/{item}/{attempt}".encode()).hexdigest()[:12]
    readable = "".join(c if c.isalnum() and c.isascii() else "-" for c in item).strip("-")[:40]
    return f"{readable}-{attempt}-{digest}"
